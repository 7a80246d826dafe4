"""Presets are chosen on training sentences, within bounds of flaws, diversity and calls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import made_suite

from dlm_control import UsageError, load
from dlm_control.eval.run.generator import chosen_preset
from dlm_control.eval.studies.search import SPACES, cost, read_space, within
from dlm_control.eval.studies.tuning import Bounds, Trial, Tuning, tune_presets
from dlm_control.sampling.presets import preset


def trial(success: float, flaw_rate: float, distinct_3: float) -> Trial:
    return Trial(
        round="search",
        changes={},
        success=success,
        flaw_rate=flaw_rate,
        distinct_3=distinct_3,
        lm_score=1.0,
        by_group={},
        texts=1,
    )


def test_success_decides_among_presets_within_bounds_and_distance_among_others() -> None:
    best, sound, broken, alike = trial(0.9, 0.2, 0.5), trial(0.9, 0.1, 0.5), trial(1.0, 0.6, 0.5), trial(0.95, 0.1, 0.25)
    order = sorted([broken, alike, best, sound], key=Bounds(flaws=0.25, diversity=0.4).merit)
    assert order == [sound, best, alike, broken]


@pytest.mark.parametrize("kind", ["gaussian", "masked"])
def test_steps_are_what_the_budget_of_calls_leaves(kind: str) -> None:
    lm = load({"gaussian": "e2e", "masked": "e2e-masked"}[kind]).backbone
    judging = {"gaussian": 5, "masked": 8}[kind]
    of_two = within(60, {"candidates": 2}, lm)
    assert of_two == {"candidates": 2, "select": "likelihood", "steps": 30 - judging}
    assert cost(preset("default", kind, **of_two), lm) == 60
    assert within(60, {"candidates": 1}, lm) == {"candidates": 1, "select": "energies", "steps": 60}
    assert within(60, {"candidates": 3, "particles": 2, "select": "checks"}, lm) == {
        "candidates": 3, "particles": 2, "select": "checks", "steps": 10,
    }  # fmt: skip
    assert within(10, {"candidates": 2, "select": "likelihood"}, lm) is None
    assert within(60, {"candidates": 2, "select": "mbr"}, lm) is None
    assert all(preset("default", kind, **{key: value}) for key, values in SPACES[kind].items() for value in values)


def test_a_search_ends_with_a_file_goes_on_where_it_stopped_and_keeps_every_trial(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna", reason="pip install 'dlm-control[tune]'")
    text = "The Golden Fox is a cheap pub near the river ."
    lines = [{"name": str(n), "controls": [{"length": n}], "reference": text} for n in (9, 10)]
    lines.append({"name": "no such text", "controls": [{"length": 5}, {"length": 6}], "reference": text})
    made_suite(tmp_path, lines)
    suite, out, space = tmp_path / "mine.yaml", tmp_path / "chosen.yaml", tmp_path / "space.yaml"
    space.write_text("candidates: [1, 2]\ntemperature: [0.9]\n")
    given = {
        "suites": [str(suite)], "data": tmp_path, "space": space, "model": str(tiny_folder), "calls": 14, "trials": 3,
        "flaws": 1.0, "diversity": 0.0, "teacher": "e2e-teacher",
    }  # fmt: skip

    def tune(force: bool = False, **changes: object) -> Trial:
        return tune_presets(Tuning(**{**given, **changes}), out, force=force)  # type: ignore[arg-type]

    with pytest.raises(UsageError, match=r"suite mine is for reporting; .* says `tuning: true`"):
        tune()
    suite.write_text(suite.read_text() + "tuning: true\n")
    with pytest.raises(UsageError, match=rf"has none; `dlm train --kind autoregressive-lm .* --out {tiny_folder}/teacher"):
        tune(teacher=None)
    with pytest.raises(UsageError, match="--calls 0 leaves no preset a single step"):
        tune(calls=0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("dlm_control.eval.studies.tuning._KEPT", 1)
        patch.setattr("dlm_control.eval.studies.tuning.write_whole", interrupted)
        tune()
    with pytest.raises(UsageError, match=r"no preset keeps to the bounds; the nearest: success 0\.667"):
        tune(diversity=9.0)
    with pytest.raises(UsageError, match=r"chosen\.yaml\.journal holds a search with other calls, seed"):
        tune(calls=15, seed=1)
    trials = [json.loads(line) for line in (tmp_path / "chosen.yaml.trials.jsonl").read_text().splitlines()]
    assert {each["round"] for each in trials} == {"search", "confirm"} and any(each["front"] for each in trials)
    chosen = tune()
    assert chosen.success == pytest.approx(2 / 3, abs=1e-4)  # lengths are exact; what contradicts itself counts as 0
    assert chosen_preset(str(out), {}).calls() <= 14
    with pytest.raises(UsageError, match="exists; --force replaces it"):
        tune()
    tune(force=True)


def interrupted(files: object) -> None:
    raise KeyboardInterrupt


def test_all_faults_of_a_space_come_in_one_report(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("steps: 3\ncandidates: [1, x]\nweihgt: [1.0, 2.0]\nscale: []\nname: [fast]\n")
    with pytest.raises(UsageError) as error:
        read_space(space, "gaussian")
    for part in (
        "5 problems",
        "space.yaml:1: steps: expected a list of values to try, got 3",
        "candidates: expected a whole number above 0, got 'x'",
        "weihgt: unknown key, did you mean 'weight'",
        "scale: expected a list of values to try, got []",
        "name: unknown key",
    ):
        assert part in str(error.value)
