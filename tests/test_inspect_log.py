"""Runs as logs of inspect_ai: the plain JSON, and what inspect_ai's own types say of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_cli import dlm
from test_evaluation_kit import run_folder

from dlm_control.eval.records import Scores
from dlm_control.support.records import read_record, write_record


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of a run with a target that failed."""
    run = run_folder(tmp_path)
    scores = read_record(Scores, run / "scores.json")
    write_record(
        run / "scores.json", replace(scores, failed_targets={"c": "no such word"}, scorer_overlap={"short": "a count"})
    )
    out = tmp_path / "log.json"
    done = dlm("export", run, "--out", out)
    assert (done.exit_code, done.stdout) == (0, f"{out}\n"), done.output
    again = dlm("export", run, "--out", out)
    assert again.exit_code == 2 and "--force" in again.stderr
    return out


def test_a_log_has_every_text_and_figure(log: Path) -> None:
    found: dict[str, Any] = json.loads(log.read_text(encoding="utf-8"))
    assert (found["version"], found["status"], found["eval"]["model"]) == (2, "success", "dlm-control/e2e")
    assert found["eval"]["dataset"]["sample_ids"] == ["a", "b", "c"]
    assert [(sample["id"], sample["epoch"]) for sample in found["samples"]] == [("a", 1), ("a", 2), ("b", 1), ("c", 1)]
    first, second, third, failed = found["samples"]
    assert first["input"] == "Length(3)" and first["output"]["choices"][0]["message"]["content"] == "A\u2028pub."
    assert second["scores"] == {"short": {"value": 0.0, "answer": "B", "explanation": "1 word"}}
    assert third["scores"]["flaws"] == {"value": 1, "explanation": "repeat"} and third["input"] == "b"
    assert failed["error"]["message"] == "no such word" and failed["scores"] == {}
    short, distinct = found["results"]["scores"]
    assert {key: each["value"] for key, each in short["metrics"].items()} == {"mean": 0.5, "low": 0.25, "high": 0.75}
    assert short["params"] == {"judge": "a count"} and distinct["metrics"]["value"]["value"] == 0.9


def test_inspect_ai_reads_the_log(log: Path) -> None:
    inspect_log = pytest.importorskip("inspect_ai.log")
    found = inspect_log.read_eval_log(str(log))
    assert (found.status, len(found.samples), found.results.scores[0].metrics["mean"].value) == ("success", 4, 0.5)
    assert found.samples[1].scores["short"].explanation == "1 word" and found.samples[0].output.completion == "A\u2028pub."
