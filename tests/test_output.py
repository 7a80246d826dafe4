"""What commands print for programs and shells: JSON in place of tables, completion."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
from test_cli import dlm, spec
from typer.testing import CliRunner

from dlm_control import cli
from dlm_control.support.records import as_json

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Found:
    """A figure and its name."""

    name: str
    figure: float


class Pair(NamedTuple):
    """Two of them."""

    one: Found
    other: tuple[int, ...]


def test_json_is_strict() -> None:
    text = as_json({1: Pair(Found("é", math.nan), (2, 3)), "none": None})
    assert json.loads(text) == {"1": {"one": {"name": "é", "figure": None}, "other": [2, 3]}, "none": None}
    assert "é" in text and "NaN" not in text


def test_ls_lists_the_same_as_json() -> None:
    found = json.loads(dlm("ls", "--json").stdout)
    kinds = ["controllers", "models", "presets", "samplers", "suites", "readers", "metrics", "judges", "generators"]
    assert list(found) == kinds
    for kind in ("presets", "suites"):
        lines = dlm("ls", kind).stdout
        assert found[kind] and all(entry["name"] in lines and entry["says"] in lines for entry in found[kind])


def test_explain_gives_every_row(tmp_path: Path, tiny_folder: Path) -> None:
    raised = dlm("explain", spec(tmp_path), "--model", tiny_folder, "--json", "--picture", tmp_path / "why.svg")
    found = json.loads(raised.stdout)
    assert {row["control"] for row in found["rows"]} == {"keyword"} and len(
        found["rows"]
    ) == 2  # of three steps, from t = 0.95 on
    assert found["rows"][0]["cosine"] is None and found["warnings"] == [] and found["sentence"].startswith("keyword changed")
    assert raised.stderr.strip() == str(tmp_path / "why.svg")


def test_runs_are_scored_and_compared_as_json(tmp_path: Path, tiny_folder: Path) -> None:
    settings = ("--samples", 1, "--limit", 1, "--set", "steps=2", "--set", "candidates=1", "--json")
    raised = dlm("eval", "smoke", "--model", tiny_folder, "--out", tmp_path, *settings)
    assert raised.exit_code == 0, raised.output
    scores = json.loads(raised.stdout)["smoke"]
    assert scores["targets"] == scores["texts"] == 1 and scores["manifest"]["suite"] == "smoke"
    again = json.loads(dlm("score", tmp_path / "smoke", "--json").stdout)[str(tmp_path / "smoke")]
    assert again["groups"] == scores["groups"]
    compared = json.loads(
        dlm("compare", ROOT / "results/paper/semantic+pos", ROOT / "results/experts/semantic+pos", "--json").stdout
    )
    assert compared and all(row["low"] <= row["difference"] <= row["high"] and 0 <= row["p"] <= 1 for row in compared.values())


@pytest.mark.parametrize(
    ("written", "offered"), [("dlm ge", "generate"), ("dlm generate --wa", "--watch"), ("dlm --no", "--no-progress")]
)
def test_a_shell_completes_commands_and_options(written: str, offered: str) -> None:
    asked = {"_DLM_COMPLETE": "complete_bash", "COMP_WORDS": written, "COMP_CWORD": str(len(written.split()) - 1)}
    assert CliRunner().invoke(cli.build(), [], env=asked, prog_name="dlm").stdout.split() == [offered]
