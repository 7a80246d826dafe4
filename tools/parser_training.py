"""Training of the bundled parser: benepar's ChartParser and its loss, computed over real spans alone, resumable to the bit."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import random
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from benepar import decode_chart, nkutil, parse_chart
from benepar.parse_base import BaseInputExample
from benepar.ptb_unescape import guess_space_after, ptb_unescape
from nltk import Tree
from torch import Tensor
from treebanks import varied

from dlm_control.controllers.linguistics.taggers import _give_benepar_its_method
from dlm_control.controllers.linguistics.trees import PENN
from dlm_control.text.words import space_after

BATCH_WORDS = 400  # words of a batch, padding included
LONGEST = 60  # words of a training sentence
SAVE_SECONDS = 150.0
HPARAMS = {
    "use_chars_lstm": False, "d_char_emb": 64, "char_lstm_input_dropout": 0.2, "use_pretrained": True, "use_encoder": False,
    "d_model": 512, "num_layers": 0, "num_heads": 8, "d_kv": 64, "d_ff": 1024, "encoder_max_len": 512,
    "morpho_emb_dropout": 0.2, "attention_dropout": 0.2, "relu_dropout": 0.1, "residual_dropout": 0.2,
    "predict_tags": True, "d_label_hidden": 256,
    "d_tag_hidden": 256, "tag_loss_scale": 5.0,
}  # fmt: skip


@dataclasses.dataclass
class Example(BaseInputExample):  # type: ignore[misc]  # benepar has no types
    """A sentence as benepar reads it, with its tree while training."""

    words: list[str]
    space_after: list[bool]
    tree: Tree | None = None
    tags: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def leaves(self) -> list[str]:
        """Words as the tree writes them."""
        return [word for word, _ in self.pos()]

    def pos(self) -> list[tuple[str, str]]:
        """Words and tags."""
        return self.tags if self.tree is None else list(self.tree.pos())


def example(tree: Tree, *, blind: bool = False) -> Example:
    """A tree as an example; a blind one does not show it to the parser."""
    leaves = tree.leaves()
    words, spaces = ptb_unescape(leaves), guess_space_after(leaves)
    return Example(words, spaces, None, list(tree.pos())) if blind else Example(words, spaces, tree)


def new_parser(trees: Sequence[Tree], encoder: str) -> Any:
    """An untrained parser with the labels and tags of some trees; the encoder's word embeddings stay as they are."""
    _give_benepar_its_method()
    labels = decode_chart.ChartDecoder.build_vocab(trees)
    tags = {tag: i for i, tag in enumerate(["UNK", *sorted({tag for tree in trees for _, tag in tree.pos()})])}
    hparams = nkutil.HParams(**HPARAMS, pretrained_model=encoder, force_root_constituent=True)
    return parse_chart.ChartParser(tag_vocab=tags, label_vocab=labels, char_vocab=None, hparams=hparams)


class Scores(NamedTuple):
    """What a parser thinks of a batch.

    Attributes:
        tags: (sentences, words + 2, tags); the first and the last of a sentence are its edges.
        spans: (spans, labels without the empty one, which scores 0); sentence by sentence, in the order of `np.triu_indices`.
        starts: place of each sentence's first span, and the number of spans.
        lengths: words of each sentence.
    """

    tags: Tensor
    spans: Tensor
    starts: list[int]
    lengths: list[int]


def scores_of(parser: Any, batch: Any) -> Scores:
    """What `ChartParser.forward` computes, for spans that exist alone: `batch` is what `ChartParser.pad_encoded` gives.

    The first layer over span features is linear: it is applied to the n + 1 fenceposts of a sentence, not to its n² spans.
    """
    valid = batch["valid_token_mask"]
    lengths = (valid.sum(1) - 2).tolist()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    features = parser.pretrained_model(**inputs).last_hidden_state
    features = features[torch.arange(len(lengths))[:, None], batch["words_from_tokens"].relu()]
    notes = parser.project_pretrained(features.masked_fill(~valid[:, :, None], 0))
    half = parser.d_model // 2
    posts = torch.cat([notes[:, :-1, :half], notes[:, 1:, half:]], -1) @ parser.f_label[0].weight.T
    ends = [np.triu_indices(n) for n in lengths]  # row by row: first word, last word
    where = torch.from_numpy(np.concatenate([np.full(len(first), i) for i, (first, _) in enumerate(ends)]))
    first, last = (torch.from_numpy(np.concatenate([pair[side] for pair in ends])) for side in (0, 1))
    spans = parser.f_label[1:](posts[where, last + 1] - posts[where, first] + parser.f_label[0].bias)
    return Scores(parser.f_tag(notes), spans, [0, *itertools.accumulate(n * (n + 1) // 2 for n in lengths)], lengths)


def loss_of(parser: Any, examples: Sequence[Example]) -> Tensor:
    """benepar's loss of a batch, a word: structured margin over spans, and cross-entropy over tags.

    As `ChartParser.compute_loss`, but the best tree is found without gradients, and the margin is that of 20 words, a sentence.
    """
    encoded = [parser.encode(each) for each in examples]
    batch = parser.pad_encoded(encoded)
    scores = scores_of(parser, batch)
    words = sum(scores.lengths)
    tag_loss = torch.nn.functional.cross_entropy(
        scores.tags.flatten(0, 1), batch["tag_labels"].flatten(), ignore_index=-100, reduction="sum"
    )
    gold = torch.cat([each["span_labels"][np.triu_indices(n)] for each, n in zip(encoded, scores.lengths, strict=True)])
    wrong = torch.ones(len(gold), scores.spans.shape[1] + 1)
    wrong[torch.arange(len(gold)), gold] = 0
    found, label = best_spans(scores, wrong)
    told = gold.nonzero()[:, 0]
    named = label > 0
    margin = scores.spans[found[named], label[named] - 1].sum() - scores.spans[told, gold[told] - 1].sum()
    span_loss = margin + wrong[found, label].sum()
    return (20 * span_loss + parser.tag_loss_scale * tag_loss) / words


def best_spans(scores: Scores, extra: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Places and labels of the spans of each sentence's best binary tree; label 0 is none, which the root may not have.

    Args:
        scores: of a batch.
        extra: (spans, labels) to be added to the scores; the empty label is the first.
    """
    with torch.no_grad():
        full = torch.nn.functional.pad(scores.spans, (1, 0))
        if extra is not None:
            full += extra
        roots = torch.tensor(scores.starts[:-1]) + torch.tensor(scores.lengths) - 1
        full[roots, 0] = -1e9
        value, label = full.max(1)
        parts = [value[s:e].numpy() for s, e in itertools.pairwise(scores.starts)]
        places = [s + _best(part, n) for s, part, n in zip(scores.starts, parts, scores.lengths, strict=False)]
        found = torch.from_numpy(np.concatenate(places))
        return found, label[found]


def trees_of(parser: Any, sentences: Sequence[Sequence[str]]) -> list[Tree]:
    """The parser's trees, in the order of the sentences; with dropout if the parser is in training mode."""
    found: dict[int, Tree] = {}
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    for at in range(0, len(order), 32):
        rows = order[at : at + 32]
        examples = [Example(list(sentences[i]), space_after(sentences[i])) for i in rows]
        with torch.no_grad():
            scores = scores_of(parser, parser.pad_encoded([parser.encode(each) for each in examples]))
        places, labels = (part.numpy() for part in best_spans(scores))
        tags = scores.tags.argmax(-1).tolist()
        sizes = [2 * n - 1 for n in scores.lengths]  # spans of a binary tree
        for k, (i, end) in enumerate(zip(rows, itertools.accumulate(sizes), strict=True)):
            mine = slice(end - sizes[k], end)
            n = scores.lengths[k]
            flat = np.zeros(n * (n + 1) // 2, int)
            flat[places[mine] - scores.starts[k]] = labels[mine]
            chart = np.zeros((n, n), int)
            chart[np.triu_indices(n)] = flat
            pairs = [(word, parser.tag_from_index[tag]) for word, tag in zip(sentences[i], tags[k][1:], strict=False)]
            found[i] = parser.decoder.tree_from_chart(chart, leaves=pairs)
    return [found[i] for i in range(len(sentences))]


def _best(value: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
    """The spans of the binary tree that is worth most, as places in the row-by-row upper triangle of an n × n chart (CKY)."""
    chart = np.zeros((n, n), np.float32)
    chart[np.triu_indices(n)] = value
    left, right = (np.zeros((n + 1, n + 1), np.float32) for _ in range(2))  # worth by start and by end, and width
    split = np.zeros((n + 1, n + 1), np.int64)
    left[np.arange(n), 1] = right[np.arange(1, n + 1), 1] = chart[np.arange(n), np.arange(n)]
    for width in range(2, n + 1):
        i = np.arange(n - width + 1)
        both = left[: n - width + 1, 1:width] + right[width : n + 1, width - 1 : 0 : -1]
        split[i, width] = both.argmax(1) + 1
        left[i, width] = right[i + width, width] = both.max(1) + chart[i, i + width - 1]
    spans, stack = [], [(0, n)]
    while stack:
        start, width = stack.pop()
        spans.append(start * n - start * (start - 1) // 2 + width - 1)
        if width > 1:
            cut = int(split[start, width])
            stack += [(start, cut), (start + cut, width - cut)]
    return np.array(spans)


def batches(trees: Sequence[Tree], chance: random.Random) -> list[list[Tree]]:
    """One epoch's batches: sentences of like length together, in random order."""
    order = [varied(tree, chance) for tree in trees]
    chance.shuffle(order)
    made: list[list[Tree]] = []
    for at in range(0, len(order), 200):
        made.append([])
        for tree in sorted(order[at : at + 200], key=lambda tree: len(tree.leaves())):
            if (len(made[-1]) + 1) * len(tree.leaves()) > BATCH_WORDS and made[-1]:
                made.append([])
            made[-1].append(tree)
    chance.shuffle(made)
    return made


@dataclasses.dataclass(frozen=True)
class Plan:
    """How one round of training goes.

    Attributes:
        epochs: passes over its trees.
        rate: learning rate of the encoder at its highest; that of the other layers is `head` times as high. It rises over the
            first steps and falls on a line to `floor` of itself.
        head: see rate.
        floor: see rate.
        seed: of order, variation and dropout.
    """

    epochs: int
    rate: float = 2e-4
    head: float = 5.0
    floor: float = 0.02
    seed: int = 1


def train(parser: Any, trees: Sequence[Tree], plan: Plan, folder: Path, minutes: float) -> bool:
    """One round of training; a killed or timed out one goes on where its last checkpoint was, with the same numbers.

    Args:
        parser: what `new_parser` gives, changed in place into the moving average of its weights over the last steps.
        trees: to learn.
        plan: epochs and rates.
        folder: of `checkpoint.pt` and `log.jsonl`.
        minutes: CPU time of this sitting, which takes one step at least.

    Returns:
        Whether the round is over.
    """
    warnings.filterwarnings("ignore", message=".*arg_constraints")
    started, file = time.process_time(), folder / "checkpoint.pt"
    folder.mkdir(parents=True, exist_ok=True)
    parser.pretrained_model.embeddings.word_embeddings.weight.requires_grad_(False)
    encoder = [p for p in parser.pretrained_model.parameters() if p.requires_grad]
    known = {id(p) for p in parser.pretrained_model.parameters()}
    heads = [p for p in parser.parameters() if id(p) not in known]
    groups = [{"params": encoder, "lr": plan.rate}, {"params": heads, "lr": plan.rate * plan.head}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01)
    short = [tree for tree in trees if len(tree.leaves()) <= LONGEST]
    epochs = [random.Random(f"{plan.seed} {epoch}") for epoch in range(plan.epochs)]
    schedule = [batch for chance in epochs for batch in batches(short, chance)]
    learnt = encoder + heads
    average = [p.detach().clone() for p in learnt]
    step, spent = 0, 0.0
    torch.manual_seed(plan.seed)
    if file.is_file():
        state = torch.load(file, weights_only=True)
        parser.load_state_dict(state["parser"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        average, step, spent = state["average"], state["step"], state["spent"]

    def save() -> None:
        state = {
            "parser": parser.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state(),
            "average": average, "step": step, "spent": spent + time.process_time() - started,
        }  # fmt: skip
        torch.save(state, file.with_suffix(".new"))
        os.replace(file.with_suffix(".new"), file)

    saved, losses = time.monotonic(), []
    while step < len(schedule):
        parser.train()
        share = max(plan.floor, min((step + 1) / 100, 1 - step / len(schedule)))
        for group, times in zip(optimizer.param_groups, (1.0, plan.head), strict=True):
            group["lr"] = plan.rate * times * share
        loss = loss_of(parser, [example(tree) for tree in schedule[step]])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 50.0)
        optimizer.step()
        step += 1
        keep = min(0.998, step / (step + 10))
        torch._foreach_lerp_(average, [p.detach() for p in learnt], 1 - keep)
        losses.append(loss.item())
        if step % 50 == 0 or step == len(schedule):
            row = {"step": step, "of": len(schedule), "loss": round(sum(losses) / len(losses), 3)}
            row["cpu_minutes"] = round((spent + time.process_time() - started) / 60, 2)
            with open(folder / "log.jsonl", "a", encoding="utf-8") as log:
                log.write(json.dumps(row) + "\n")
            losses = []
        if time.monotonic() - saved > SAVE_SECONDS:
            save()
            saved = time.monotonic()
        if time.process_time() - started > 60 * minutes:
            break
    save()
    with torch.no_grad():
        for parameter, mean in zip(learnt, average, strict=True):
            parameter.copy_(mean)
    return step == len(schedule)


def export(parser: Any, folder: Path) -> None:
    """Write the folder that `benepar.Parser` loads and `tools/parser pack` packs; tags unknown to controls never come."""
    folder.mkdir(parents=True, exist_ok=True)
    parser.retokenizer.tokenizer.save_pretrained(folder)
    config = parser.pretrained_model.config
    config.benepar = {**parser.config, "hparams": {**parser.config["hparams"], "pretrained_model": ""}}
    config.save_pretrained(folder)
    weights = parser.state_dict()
    weights["f_tag.3.bias"] = weights["f_tag.3.bias"].clone()
    weights["f_tag.3.bias"][[i for tag, i in parser.tag_vocab.items() if tag not in PENN]] = -1e4
    torch.save(weights, folder / "benepar_model.bin")
