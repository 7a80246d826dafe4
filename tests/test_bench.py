"""`dlm bench`: what its files hold, and what it says of mistakes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dlm_control import UsageError
from dlm_control.eval.studies.bench import bench

SUITE = "name: two\nversion: 1\ntargets: {reader: lengths, low: 8, high: 9}\nmetrics: [exact_length]\nsamples: 1\n"


def run(*arguments: object) -> str:
    return CliRunner().invoke(bench, [str(argument) for argument in arguments], catch_exceptions=False).output


def test_a_curve_has_a_point_for_each_setting_and_a_second_run_takes_the_texts_of_the_first(tmp_path: Path) -> None:
    suite = tmp_path / "two.yaml"
    suite.write_text(SUITE)
    asked = ("steps", suite, "--out", tmp_path / "out", "--runs", tmp_path / "runs", "--limit", 1, "--values", "2,3")
    assert "1 targets × 4" in run(*asked)
    curve = json.loads((tmp_path / "out" / "bench-steps-two.json").read_text())
    assert [(point["label"], point["texts"], point["y"]) for point in curve["series"]["two"]] == [("2", 4, 100), ("3", 4, 100)]
    assert (tmp_path / "out" / "bench-steps-two.svg").read_text().startswith("<svg")
    logs = sorted((tmp_path / "runs").glob("*/samples.jsonl"))
    written = [file.stat().st_mtime_ns for file in logs]
    run(*asked)
    assert len(written) == 2 and [file.stat().st_mtime_ns for file in logs] == written


def test_flaws_are_drawn_against_diversity(tmp_path: Path) -> None:
    suite = tmp_path / "two.yaml"
    suite.write_text(SUITE)
    few = ("--candidates", "1,2", "--temperature", "1", "--steps", "2", "--select", "mbr", "--limit", 1)
    run("quality", suite, "--out", tmp_path / "out", "--runs", tmp_path / "runs", *few)
    for measure in ("distinct_3", "self_bleu"):
        curve = json.loads((tmp_path / "out" / f"bench-quality-two-{measure}.json").read_text())
        assert [point["label"] for point in curve["series"]["candidates"]] == ["1", "2"]
        assert curve["series"].keys() == {"candidates", "temperature", "steps", "select"}
        assert all(0 <= point["y"] <= 100 for points in curve["series"].values() for point in points)


@pytest.mark.slow
def test_a_batch_writes_the_texts_of_one_call_a_row(tmp_path: Path) -> None:
    run("batch", "--out", tmp_path, "--rows", 4, "--repeats", 1, "--texts", 6)
    curve = json.loads((tmp_path / "bench-batch.json").read_text())
    assert all(each["same_texts"] for each in curve["found"].values())
    assert (curve["long_run"]["texts"], curve["long_run"]["preset"]) == (6, "fast")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["steps", "length", "--values", "2,x"], "expected numbers with commas between, such as 5,10,20, got '2,x'"),
        (["steps", "length", "--values", "5,0"], "steps: expected a whole number above 0, got 0"),
        (["strength", "length", "--values", "1,-1"], "weight: expected a number above 0, got -1.0"),
        (["strength", "smoke"], "suite smoke has no metric that success could be"),
        (["strength", "pos"], "suite pos: needs --data"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(arguments: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        run(*arguments, "--out", tmp_path / "out", "--runs", tmp_path / "runs")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(UsageError, match=r"pip install 'dlm-control\[plot\]'"):
        run("embeddings", "--out", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["length", "controls"])
def test_costs_grow(name: str, tmp_path: Path) -> None:
    run(name, "--out", tmp_path, "--repeats", 1)
    for points in json.loads((tmp_path / f"bench-{name}.json").read_text())["series"].values():
        assert points[-1]["y"] > points[0]["y"] > 0
