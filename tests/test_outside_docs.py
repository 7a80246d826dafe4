"""The page on models from outside, run from top to bottom on networks of random weights."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import outside_models as outside
import pytest
import torch
from test_docs import PATTERNS, ROOT, python
from torch import Tensor

PAGE = (ROOT / "docs" / "outside-models.md").read_text(encoding="utf-8")
SCRIPTS = dict(re.findall(r"^```python file=(\S+)\n(.*?)^```", PAGE, re.M | re.S))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The networks that the scripts load."""
    home, tokenizer = tmp_path_factory.mktemp("page"), outside.byte_pairs()
    outside.masked(len(tokenizer)).save_pretrained(home / "network")
    outside.gemma(len(tokenizer), 16).save_pretrained(home / "gemma")
    for name in ("network", "gemma"):
        tokenizer.save_pretrained(home / name)
    yield home


@pytest.mark.parametrize("name", ["llada2.py", "gemma.py"])
def test_a_script_writes_under_control(name: str, folder: Path) -> None:
    if name == "llada2.py":
        pytest.importorskip("diffusers")
    printed = python(SCRIPTS[name], folder)
    assert printed.count("'keyword': True") == 4 and printed.count("'length': True") == 4 and "False" not in printed


def test_our_sampler_writes_too(folder: Path) -> None:
    lines = python(SCRIPTS["own.py"], folder).splitlines()
    assert len(lines) == 4 and all(line.endswith(" True") for line in lines)


def test_the_page_on_patterns_writes_json(folder: Path) -> None:
    [script] = re.findall(r"^```python file=json_texts.py\n(.*?)^```", PATTERNS.read_text(encoding="utf-8"), re.M | re.S)
    lines = python(script, folder).splitlines()
    assert len(lines) == 3 and all(line.startswith("True {") for line in lines)


class Dream(torch.nn.Module):
    """What the page needs of Dream."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.network = outside.Shifted(outside.masked(size))
        self.config = self.network.config

    def get_input_embeddings(self) -> Any:
        return self.network.get_input_embeddings()

    def diffusion_generate(self, tokens: Tensor, max_new_tokens: int, generation_logits_hook_func: Any, **_: Any) -> Tensor:
        canvas = tokens.new_full((len(tokens), max_new_tokens), 1)  # the mask of `byte_pairs`
        return outside.dream_loop(self.network, torch.cat([tokens, canvas], 1), 1, generation_logits_hook_func)


def test_the_fragments_run() -> None:
    wrap, dream = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    tokenizer = outside.byte_pairs()
    names: dict[str, Any] = {"tokenizer": tokenizer, "network": outside.masked(len(tokenizer)), "prompt_length": 3}
    exec(wrap, names)
    assert names["model"].steering.prompt_length == 3
    ids = torch.tensor([tokenizer("Write :", add_special_tokens=False)["input_ids"]])
    names = {"tokenizer": tokenizer, "model": Dream(len(tokenizer)), "inputs": types.SimpleNamespace(input_ids=ids)}
    exec(dream, names)
    text = str(tokenizer.decode(names["output"][0, ids.shape[1] :], skip_special_tokens=True))
    assert all(check.passed for check in names["steering"].check(text).values()), text


def test_the_table_says_what_the_results_say() -> None:
    rows = re.findall(r"^\| .*? \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) \| ([\d.]+) \| (\d+) \|$", PAGE, re.M)
    names = ("ours", "llada2", "logits-hook", "free")
    assert len(rows) == len(names)
    for name, row in zip(names, rows, strict=True):
        found = json.loads((ROOT / "results" / "outside" / name / "controls" / "scores.json").read_text(encoding="utf-8"))
        share, flaws = (f"{100 * found[key]['mean']:.1f}" for key in ("all_satisfied", "flaw_rate"))
        others = f"{found['lm_score']['mean']:.2f}", f"{found['distinct_3']:.2f}", f"{found['calls_per_text']:.0f}"
        assert row == (share, flaws, *others)


def test_the_page_names_every_generator() -> None:
    assert {"llada2", "logits-hook", "diffusion"} <= {*re.findall(r"--generator ([\w-]+)", PAGE)}
