"""A tiny Diffusion-LM with random weights, for tests that need some model but no good one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact_model import exact_language_model
from transformers import BertConfig, BertForMaskedLM

from dlm_control.diffusion.gaussian import GaussianBackbone
from dlm_control.diffusion.masked import MaskedBackbone
from dlm_control.diffusion.model import DiffusionLM, DiffusionLMConfig
from dlm_control.eval.records import Manifest
from dlm_control.pipeline import LanguageModel, load
from dlm_control.support import include, registry
from dlm_control.tasks.suite import Suite, read_suite
from dlm_control.text.tokenizer import WordTokenizer

torch.set_num_threads(1)  # as the programs that tests start have it: sums of several threads differ in the last bit

SENTENCES = (
    "The Golden Fox is a cheap pub near the river .",
    "The Blue Lantern serves French food in the city centre .",
    "Old Anchor is a family friendly coffee shop on the riverside .",
    "The Golden Fox offers Japanese food at a high price .",
    "Near the station , Blue Lantern is a restaurant with a low rating .",
    "Families with children are welcome at the Old Anchor pub .",
    "There is a cheap Japanese restaurant called The Golden Fox .",
    "It isn't expensive , and it's rated 5 out of 5 .",
)


def _tiny() -> LanguageModel:
    torch.manual_seed(0)
    tokenizer = WordTokenizer.train(SENTENCES, min_count=1)
    lengths = [len(tokenizer.words(sentence)) for sentence in SENTENCES]
    config = DiffusionLMConfig(
        vocab_size=len(tokenizer), dim=8, width=16, depth=1, heads=2, max_seq_len=32,
        length_counts=np.bincount(lengths, minlength=32).tolist(),
    )  # fmt: skip
    return LanguageModel(GaussianBackbone(DiffusionLM(config), tokenizer, "tiny"))


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test registers, the next does not see."""
    monkeypatch.setattr(registry, "registered", dict(registry.registered))
    monkeypatch.setattr(include, "_hashes", dict(include._hashes))  # a file included by another test would not run again


def run_manifest(**changes: Any) -> Manifest:
    """How the figures of some run came about."""
    given: dict[str, Any] = {
        "suite": "s", "suite_version": 1, "suite_digest": "d", "targets": 2, "samples_per_target": 1, "seed": 0,
        "generator": "diffusion", "commit": None, "versions": {}, "weights": "abc", "command": "dlm eval s", "wall_s": 3.0,
        "cpu_s": 3.0,
    }  # fmt: skip
    return Manifest(**(given | changes))


@pytest.fixture(scope="session")
def sentences() -> tuple[str, ...]:
    """The invented corpus that `tiny_lm` knows the words of."""
    return SENTENCES


@pytest.fixture(scope="session")
def tiny_lm() -> LanguageModel:
    """A Diffusion-LM of random weights: fast, and its text is nonsense."""
    return _tiny()


@pytest.fixture(scope="session")
def e2e() -> LanguageModel:
    """The bundled model; no test changes it."""
    return load("e2e")


@pytest.fixture(scope="session")
def exact_lm() -> LanguageModel:
    """A model whose words are independent: its denoiser is exact."""
    return exact_language_model()


@pytest.fixture(scope="session")
def masked_lm() -> LanguageModel:
    """A masked model of random weights."""
    torch.manual_seed(0)
    tokenizer = WordTokenizer.train(SENTENCES, min_count=1, mask=True)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    return LanguageModel(MaskedBackbone(BertForMaskedLM(config), tokenizer, "masked"))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model in a folder, as `dlm train` writes one."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    lm = _tiny()
    lm.backbone.model.save_pretrained(folder)
    lm.backbone.tokenizer.save_pretrained(folder)
    return folder


def made_suite(folder: Path, lines: list[dict[str, Any]], metrics: str = "exact_length") -> Suite:
    """A suite of targets that are given as lines of a target file."""
    (folder / "made.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    file = folder / "mine.yaml"
    file.write_text(f"name: mine\nversion: 1\ntargets: {{reader: made, file: made.jsonl}}\nmetrics: [{metrics}]\nsamples: 1\n")
    return read_suite(str(file))
