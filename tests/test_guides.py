"""Guide networks, trained from annotated text."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from dlm_control import UsageError, load
from dlm_control.controllers.annotate import annotate_file
from dlm_control.controllers.noise_aware import fitting
from dlm_control.controllers.semantic_guide import SemanticGuide
from dlm_control.controllers.structure_guide import StructureGuide
from dlm_control.controllers.syntax_guide import SyntaxGuide
from dlm_control.trainer import TrainConfig, Trainer


@pytest.mark.parametrize("kind", ["structure-guide", "syntax-guide", "semantic-guide"])
def test_guides_are_trained_for_any_model(kind: str, annotated: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """Forty steps teach something, and what they leave loads for the model it was trained for and for no other."""
    sizes = {"width": 16, "depth": 1, "heads": 2}
    recipe = {"lm": str(tiny_folder), "model": sizes, "tokens": 120} | ({} if kind == "semantic-guide" else {"least": 1})
    config = TrainConfig(
        kind=kind, out=str(tmp_path / "guide"), steps=40, warmup=2, lr=1e-2, data=str(annotated), recipe=recipe,
        save_every=40, eval_every=40,
    )  # fmt: skip
    trainer = Trainer(config)
    before = trainer.recipe.evaluate(trainer.recipe.model)
    trainer.run()
    after = trainer.recipe.evaluate(trainer.recipe.model)
    rising = "accuracy" if kind == "semantic-guide" else "tags" if kind == "syntax-guide" else None
    told = {name: after[name] - before[name] for name in before if rising is None or rising in name}
    assert told and all(gain >= 0 if rising else gain < 0 for gain in told.values()), told
    cls = {"structure-guide": StructureGuide, "syntax-guide": SyntaxGuide, "semantic-guide": SemanticGuide}[kind]
    lm = load(tiny_folder)
    assert fitting(cls, lm, str(tmp_path / "guide"), "its.yaml").config.fingerprint == lm.fingerprint
    with pytest.raises(UsageError, match=r"other embeddings than 'e2e' has; train one with `dlm train its\.yaml`"):
        fitting(cls, load("e2e"), str(tmp_path / "guide"), "its.yaml")


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory, sentences: tuple[str, ...]) -> Path:
    """The invented corpus with tags, trees and meanings, as train and dev."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("annotated")
    foods = ("Japanese", "French")
    with open(source / "trainset.csv", "w", newline="") as file:
        rows = [[f"food[{next((food for food in foods if food in text), 'English')}]", text] for text in sentences]
        csv.writer(file).writerows([["mr", "ref"], *rows * 4])
    annotate_file(source / "trainset.csv", "ref", out)
    (out / "devset.csv").write_text((out / "trainset.csv").read_text())
    return out
