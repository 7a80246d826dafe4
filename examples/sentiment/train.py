#!/usr/bin/env python3
"""Train the classifier beside this file: `python train.py path/to/e2e`. Half a minute of one core."""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, set_seed

LABELS = ("positive", "negative", "neutral")
RATINGS = {"high": 0, "5 out of 5": 0, "low": 1, "1 out of 5": 1, "": 2}
STEPS = 500
OUT = Path(__file__).parent / "e2e-rating"


def sentences(file: Path) -> list[tuple[str, int]]:
    """Sentences with the number of their label; neutral are those whose meaning has no rating; middling ones are left out."""
    with open(file, encoding="utf-8", newline="") as rows:
        found = [(row["ref"], row["mr"].partition("customer rating[")[2].partition("]")[0]) for row in csv.DictReader(rows)]
    return [(text, RATINGS[rating]) for text, rating in found if rating in RATINGS]


def word_pieces(texts: list[str]) -> PreTrainedTokenizerFast:
    """A lower-case WordPiece tokenizer."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=600, special_tokens=special, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=128,
    )


def main() -> None:
    """Train, print accuracy on dev, save."""
    set_seed(0)
    torch.set_num_threads(1)
    data = Path(sys.argv[1])
    train, dev = sentences(data / "trainset.csv"), sentences(data / "devset.csv")
    tokenizer = word_pieces([text for text, _ in train])
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=160, hidden_dropout_prob=0.0,
                        attention_probs_dropout_prob=0.0, id2label=dict(enumerate(LABELS)),
                        label2id={label: i for i, label in enumerate(LABELS)}, **sizes)  # fmt: skip
    model = BertForSequenceClassification(config)
    optimizer, rng = torch.optim.AdamW(model.parameters(), lr=3e-3), random.Random(0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, STEPS)
    by_label = [[each for each in train if each[1] == label] for label in range(len(LABELS))]
    for step in range(STEPS):
        texts, labels = zip(*(rng.choice(by_label[i % len(LABELS)]) for i in range(32)), strict=True)
        batch = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=torch.tensor(labels)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.3f}")
    model.eval()
    right = 0
    for start in range(0, len(dev), 128):
        texts, labels = zip(*dev[start : start + 128], strict=True)
        batch = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            said = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(-1)
        right += int((said == torch.tensor(labels)).sum())
    print(f"dev accuracy {right / len(dev):.3f} of {len(dev)}")
    model.save_pretrained(OUT)
    tokenizer.save_pretrained(OUT)


if __name__ == "__main__":
    main()
