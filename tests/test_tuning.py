"""Presets are chosen on training sentences, within budgets."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from conftest import made_suite

from dlm_control import UsageError
from dlm_control.eval.run.generator import chosen_preset
from dlm_control.eval.studies.tuning import SPACE, Trial, _drawn, _merit, _read_space, tune_presets
from dlm_control.sampling.presets import preset


def test_tuning_tries_the_default_first_keeps_the_budget_of_calls_and_prefers_fluent_success() -> None:
    drawn = _drawn(SPACE, 12, 50, 0)
    assert len(drawn) == 12 and drawn[0] == {}
    assert all(preset("default", **changes).calls() <= 50 for changes in drawn)
    assert all(drawn.count(changes) == 1 for changes in drawn)
    good, fluent, wild = (Trial({}, 1, success, {}, lm, 1) for success, lm in ((0.9, 1.8), (0.8, 1.6), (1.0, 2.5)))
    unknown = Trial({}, 1, 1.0, {}, math.nan, 1)
    assert sorted([unknown, wild, fluent, good], key=lambda trial: _merit(trial, 2.0))[:2] == [good, fluent]
    assert _drawn({"particles": [4]}, 2, 50, 0)[1] == {"particles": 4, "steps": 4, "select": "energies"}
    of_three = {"candidates": 3, "select": "mbr", "steps": 3}
    assert _drawn({"candidates": [2, 3], "select": ["mbr"]}, 9, 10, 0)[1:] == [of_three]
    with pytest.raises(UsageError, match="--calls 0 leaves no preset a single step"):
        _drawn(SPACE, 2, 0, 0)


def test_tuning_ends_with_a_file_and_keeps_every_trial(tmp_path: Path, tiny_folder: Path) -> None:
    text = "The Golden Fox is a cheap pub near the river ."
    lines = [{"name": str(n), "controls": [{"length": n}], "reference": text} for n in (9, 10)]
    lines.append({"name": "no such text", "controls": [{"length": 5}, {"length": 6}], "reference": text})
    made_suite(tmp_path, lines)
    suite, out, space = tmp_path / "mine.yaml", tmp_path / "chosen.yaml", tmp_path / "space.yaml"
    space.write_text("candidates: [1, 2]\n")

    def tune(budget: float = 100, force: bool = False, teacher: str | None = "e2e-teacher") -> str:
        return tune_presets([str(suite)], tmp_path, out, space, str(tiny_folder), budget, 4, 3, None, 0, force, teacher)

    with pytest.raises(UsageError, match=r"suite mine is for reporting; .* says `tuning: true`"):
        tune()
    suite.write_text(suite.read_text() + "tuning: true\n")
    with pytest.raises(UsageError, match=rf"has none; `dlm train --kind autoregressive-lm .* --out {tiny_folder}/teacher"):
        tune(teacher=None)
    with pytest.raises(UsageError, match="no preset stays within -50 nat of human text"):
        tune(budget=-50)
    trials = tmp_path / "chosen.yaml.trials.jsonl"
    assert not out.exists() and len(trials.read_text().splitlines()) == 3 + 1
    with pytest.raises(UsageError, match=r"chosen\.yaml\.trials\.jsonl: exists; --force replaces it"):
        tune()
    assert "success 0.6667" in tune(force=True)  # lengths are exact; what contradicts itself counts as 0
    assert chosen_preset(str(out), {}).calls() <= 4
    with pytest.raises(UsageError, match="exists; --force replaces it"):
        tune()
    tune(force=True)


def test_the_default_preset_is_the_tuned_one() -> None:
    file = Path(__file__).parent.parent / "results" / "tuning" / "default.yaml"
    assert chosen_preset(str(file), {}) == preset("default")


def test_all_faults_of_a_space_come_in_one_report(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("steps: 3\ncandidates: [1, x]\nweihgt: [1.0, 2.0]\nscale: []\nname: [fast]\n")
    with pytest.raises(UsageError) as error:
        _read_space(space)
    for part in (
        "5 problems",
        "space.yaml:1: steps: expected a list of values to try, got 3",
        "candidates: expected a whole number above 0, got 'x'",
        "weihgt: unknown key, did you mean 'weight'",
        "scale: expected a list of values to try, got []",
        "name: unknown key",
    ):
        assert part in str(error.value)
