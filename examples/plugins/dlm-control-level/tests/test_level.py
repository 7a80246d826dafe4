"""The plugin keeps the contract of dlm-control, learns what is easy, and composes."""

from __future__ import annotations

from pathlib import Path

import pytest
from dlm_control_level import Level
from dlm_control_level.model import load_model
from dlm_control_level.train import accuracy, fit, read_table

from dlm_control import UsageError, check_controller, load
from dlm_control.controllers import Length, Pattern

EASY = ["The Mill is a cheap pub .", "The food is good .", "The pub is near the river ."]
HARD = ["Moderately priced establishment offers average dining environment ."]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("level")
    rows = [f"train\t{levels}\t{text}" for texts, levels in ((EASY, "1,2"), (HARD * 3, "5,6")) for text in texts * 3]
    (folder / "table.tsv").write_text("split\tlabel\ttext\n" + "\n".join(rows) + "\n")
    read = read_table(folder / "table.tsv")["train"]
    made = fit(read)
    assert accuracy(made, read)[1] > 0.9 and made.thresholds == tuple(sorted(made.thresholds))
    made.save(folder / "level.json")
    assert load_model(str(folder / "level.json")) == made
    return str(folder / "level.json")


def test_contract(model: str) -> None:
    faulty = [lambda: Level(model), lambda: Level("none.json", at_most="A2"), lambda: Level(model, at_most="Z9")]
    check_controller(Level(model, at_most="A2"), satisfying=EASY[:1], violating=HARD, faulty=faulty)


def test_it_composes(model: str) -> None:
    lm = load("e2e")
    for sample in lm.generate([Level(model, at_most="A2"), Length(12), Pattern("The * .")], 2, steps=8, candidates=1):
        assert sample.checks["length"].passed and sample.checks["pattern"].passed and sample.checks["level"].why


@pytest.mark.parametrize("content", ["", "text\tlabel\nx\ty\n", "split\tlabel\ttext\ntrain\t9\tx\n"])
def test_a_faulty_table_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "table.tsv").write_text(content)
    with pytest.raises(UsageError, match=r"--data .*: expected"):
        read_table(tmp_path / "table.tsv")
