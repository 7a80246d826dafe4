"""Samplers from outside in the harness, beside ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SENTENCES, made_suite
from test_cli import dlm
from transformers import BertConfig, BertForMaskedLM

from dlm_control import UsageError
from dlm_control.eval.run.generator import generator
from dlm_control.text.tokenizer import WordTokenizer

LINES: list[dict[str, Any]] = [
    {"name": "word", "controls": [{"keyword": "river"}, {"length": 7}]},
    {"name": "places", "controls": [{"pattern": "The * pub * ."}, {"length": 9}]},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked model of random weights with our tokenizer."""
    torch.manual_seed(0)
    tokenizer = WordTokenizer.train(SENTENCES, min_count=1, mask=True)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=24, initializer_range=0.3,
    )  # fmt: skip
    out = tmp_path_factory.mktemp("models") / "masked"
    BertForMaskedLM(config).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


@pytest.mark.parametrize("name", ["llada2", "logits-hook", "diffusion"])
def test_the_same_suite_by_each_sampler(name: str, folder: Path, tmp_path: Path) -> None:
    if name == "llada2":
        pytest.importorskip("diffusers")
    made_suite(tmp_path, LINES)
    use = ("--data", tmp_path, "--generator", name, "--model", folder, "--samples", 3)
    done = dlm("eval", tmp_path / "mine.yaml", "--out", tmp_path / "runs", *use)
    assert done.exit_code == 0, done.output
    scores = json.loads((tmp_path / "runs" / "mine" / "scores.json").read_text())
    assert scores["exact_length"]["mean"] == 1.0 and scores["all_satisfied"]["mean"] > 0.8
    assert name == "diffusion" or scores["calls_per_text"] in (8, 10, 12)


@pytest.mark.parametrize("name", ["llada2", "logits-hook"])
def test_a_text_is_a_function_of_its_index(name: str, folder: Path, tmp_path: Path) -> None:
    if name == "llada2":
        pytest.importorskip("diffusers")
    suite = made_suite(tmp_path, LINES)
    writer = generator(name, suite, str(folder), {})
    target = suite.read_targets(tmp_path)[0]
    together = writer.texts(target, (0, 1, 2), 5)
    assert writer.texts(target, (2,), 5) == [together[2]] and len({output.text for output in together}) == 3
    free = generator(name, suite, str(folder), {"unconditional": True}).texts(target, range(8), 5)
    assert any("river" not in output.text for output in free)


def test_models_that_fill_no_masks_are_refused(folder: Path, tmp_path: Path) -> None:
    suite = made_suite(tmp_path, LINES)
    with pytest.raises(UsageError, match="is a gaussian model, and these samplers fill masks"):
        generator("llada2", suite, "e2e", {})
    with pytest.raises(UsageError, match="needs a masked model; name it with --model"):
        generator("logits-hook", suite, None, {})
