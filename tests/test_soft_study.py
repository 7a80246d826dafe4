"""`dlm bench soft`: what its file holds, which cells are written again, and what it says of mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from dlm_control import UsageError
from dlm_control.eval.studies.bench import bench

ROOT = Path(__file__).parents[1]
STUDY: dict[str, Any] = {
    "include": ["points.py"],
    "models": {"e2e": "e2e-teacher"},
    "texts": 3,
    "seed": 1,
    "soft": {
        "word": {
            "control": {"keyword": {"words": "riverside"}},
            "preset": {"name": "fast", "steps": 4},
            "judge": {"reward": {"functions": "points:ends", "at_least": 1}},
        }
    },
    "company": {"length": [{"length": {"words": 9}}]},
}


def run(folder: Path, study: dict[str, Any], *options: object) -> str:
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    (folder / "points.py").write_text('def ends(text):\n    return float(text.endswith("."))\n')
    arguments = ["soft", folder / "study.yaml", "--out", folder / "out", *options]
    return CliRunner().invoke(bench, [str(each) for each in arguments], catch_exceptions=False).output


def test_each_cell_has_its_shares_and_texts_and_is_written_once(tmp_path: Path) -> None:
    printed, file = run(tmp_path, STUDY), tmp_path / "out" / "soft-e2e.json"
    assert "e2e, word, length: 100% obey, 100% all" in printed
    found = json.loads(file.read_text())
    assert [(cell["control"], cell["company"]) for cell in found["cells"]] == [
        ("word", "not controlled"), ("word", "alone"), ("word", "length"),
    ]  # fmt: skip
    for cell in found["cells"]:
        texts = cell["written"]
        assert cell["texts"] == len(texts) == 3 and cell["cpu_s_a_text"] > 0
        assert cell["success"] == pytest.approx(sum("riverside" in text for text in texts) / 3, abs=1e-3)
        assert cell["judge"] == pytest.approx(sum(text.endswith(".") for text in texts) / 3, abs=1e-3)
        assert 0 <= cell["flaw_rate"] <= 1
    free, alone, _ = (cell["success"] for cell in found["cells"])
    assert free < alone
    more = {**STUDY, "company": {**STUDY["company"], "end": [{"keyword": {"words": ".", "position": -1}}]}}
    assert run(tmp_path, more).startswith("e2e, word, end:")  # the others are kept
    assert json.loads(file.read_text())["cells"][:3] == found["cells"]
    with pytest.raises(UsageError, match=r"soft-e2e.json holds cells of .*3 texts a cell; this study asks for .*, 5 texts"):
        run(tmp_path, {**STUDY, "texts": 5})


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, ["--model", "e2e-masked"], r"--model e2e-masked: not among the study's models \(e2e\)"),
        ({"texts": 0}, [], "texts: expected a whole number above 0, got 0"),
        ({"soft": {"a": {"control": {"length": {"words": 9}}}}}, [], r"soft.a\S*: .*preset"),
        ({"soft": {"a": {"control": {"length": {"words": 9}}, "preset": {}, "models": ["none"]}}}, [], "'none' is not among"),
        ({"soft": {"a": {"control": {"lenght": {"words": 9}}, "preset": {}}}}, [], "unknown.*'lenght', did you mean 'length'"),
        ({"soft": {"a": {"control": {"length": 9}, "preset": {}}}}, [], "length: give its arguments by name"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    changes: dict[str, Any], options: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        run(tmp_path, {**STUDY, **changes}, *options)
    assert not list(tmp_path.glob("out/*"))


def test_the_published_study_can_be_read() -> None:
    from dlm_control.eval.studies.soft import read_study

    study = read_study(ROOT / "results" / "soft" / "study.yaml")
    asked = {model: [name for name, _, _ in study.softs(model)] for model in study.models}
    assert asked["e2e"] == asked["e2e-masked"] == ["reward", "classifier", "classifier-gradient", "topic"]
    assert asked["everyday"] == ["level"]
