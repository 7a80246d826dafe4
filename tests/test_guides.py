"""Guide networks, trained from annotated text."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dlm_control import UsageError, cli, load
from dlm_control.controllers.fields.classifier import SemanticGuide
from dlm_control.controllers.guides.lookup import find_guide, load_guide, read_guides, use_guides
from dlm_control.controllers.guides.structure_guide import StructureGuide, StructureGuideConfig
from dlm_control.controllers.guides.syntax_guide import SyntaxGuide
from dlm_control.controllers.linguistics.annotate import annotate_file
from dlm_control.controllers.span import Span
from dlm_control.pipeline import LanguageModel
from dlm_control.support.hub import model_folder
from dlm_control.training.trainer import TrainConfig, Trainer


@pytest.mark.parametrize("kind", ["structure-guide", "syntax-guide", "semantic-guide"])
def test_guides_are_trained_for_any_model(kind: str, annotated: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """Forty steps teach something, and what they leave loads for the model it was trained for and for no other."""
    sizes = {"width": 16, "depth": 1, "heads": 2}
    own: dict[str, Any] = {"domain": "e2e"} if kind == "semantic-guide" else {"least": 1}
    recipe = {"lm": str(tiny_folder), "model": sizes, "tokens": 120, **own}
    config = TrainConfig(
        kind=kind, out=str(tmp_path / "guide"), steps=40, warmup=2, lr=1e-2, data=str(annotated), recipe=recipe,
        save_every=40, eval_every=40,
    )  # fmt: skip
    trainer = Trainer(config)
    before = trainer.recipe.evaluate(trainer.recipe.model)
    trainer.run()
    after = trainer.recipe.evaluate(trainer.recipe.model)
    rising = "accuracy" if kind == "semantic-guide" else "tags" if kind == "syntax-guide" else None
    raised = {name: after[name] - before[name] for name in before if rising is None or rising in name}
    assert raised and all(gain >= 0 if rising else gain < 0 for gain in raised.values()), raised
    cls = {"structure-guide": StructureGuide, "syntax-guide": SyntaxGuide, "semantic-guide": SemanticGuide}[kind]
    lm = load(tiny_folder)
    short = kind.removesuffix("-guide")
    use_guides(lm, **{short: tmp_path / "guide"})
    assert load_guide(cls, short, lm.backbone).config.fingerprint == lm.backbone.fingerprint
    with pytest.raises(
        UsageError, match=rf"other embeddings than 'e2e' has .*`dlm train --kind {kind} --lm e2e --data DATA --out"
    ):
        use_guides(load("e2e"), **{short: tmp_path / "guide"})


def test_a_guide_is_found_by_path_then_beside_its_model_then_among_the_bundled(tiny_folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "mine"
    shutil.copytree(tiny_folder, home)
    lm = load(home)
    command = rf"`dlm train --kind structure-guide --lm {home} --data DATA` trains one, .*found in {home}/guides/structure"
    with pytest.raises(UsageError, match=command):
        lm.generate([Span([0, 1, "NP"])], steps=2)
    for folder in (home / "guides" / "structure", tmp_path / "elsewhere"):
        _guide(lm.backbone.fingerprint).save_pretrained(folder)
    assert load_guide(StructureGuide, "structure", lm.backbone).name_or_path == str(home / "guides" / "structure")
    assert lm.generate([Span([0, 1, "NP"])], steps=2, candidates=2)[0].text  # candidates are chosen without a syntax guide
    use_guides(lm, structure=tmp_path / "elsewhere")
    assert load_guide(StructureGuide, "structure", lm.backbone).name_or_path == str(tmp_path / "elsewhere")
    _guide("of another").save_pretrained(home / "guides" / "structure")
    with pytest.raises(UsageError, match=rf"other embeddings than .*remove {home}/guides/structure; `dlm train"):
        find_guide("structure", load(home).backbone)


def test_a_guide_that_is_none_or_of_another_kind_is_refused(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    _guide(tiny_lm.backbone.fingerprint).save_pretrained(tmp_path / "guide")
    with pytest.raises(UsageError, match="unknown kind, did you mean 'structure'"):
        use_guides(tiny_lm, structur=tmp_path / "guide")
    with pytest.raises(UsageError, match="not a syntax guide; `dlm train --kind syntax-guide --lm FOLDER"):
        use_guides(tiny_lm, syntax=tmp_path / "guide")
    with pytest.raises(UsageError, match="--guide 'structure': expected KIND=PATH"):
        read_guides(["structure"])


def test_bundled_guides_are_found_by_fingerprint_under_any_name(tmp_path: Path) -> None:
    shutil.copytree(model_folder("e2e"), tmp_path / "renamed")
    assert find_guide("structure", load(tmp_path / "renamed").backbone) == model_folder("e2e-structure")


def test_train_writes_a_guide_beside_its_model(annotated: Path, tiny_folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "mine"
    shutil.copytree(tiny_folder, home)
    config = tmp_path / "guide.yaml"
    config.write_text(
        "kind: syntax-guide\nout: elsewhere\nsteps: 1\nrecipe: {lm: e2e, least: 1, model: {width: 16, depth: 1, heads: 2}}\n"
    )
    done = CliRunner().invoke(cli.build(), ["train", str(config), "--lm", str(home), "--data", str(annotated)])
    assert done.exit_code == 0, done.output
    assert find_guide("syntax", load(home).backbone) == home / "guides" / "syntax" and not Path("elsewhere").exists()
    done = CliRunner().invoke(cli.build(), ["train", "--kind", "semantic-guide", "--lm", "e2e", "--data", str(annotated)])
    assert done.exit_code == 2 and "out: missing" in done.output


def test_text_without_the_labels_that_a_guide_learns_from_is_refused_with_what_gives_them(
    tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.csv").write_text("ref\n" + "The Golden Fox is a pub .\n" * 40)
    for kind, own, raised in (
        ("syntax", {}, "no column 'pos'.*`dlm annotate"), ("semantic", {}, "says no fields; write .*fields.yaml"),
        ("semantic", {"domain": "e2e"}, "no column of the fields name.*'mr' of meanings"),
    ):  # fmt: skip
        recipe = {"lm": str(tiny_folder), **own}
        config = TrainConfig.checked(
            {"kind": f"{kind}-guide", "steps": 1, "data": str(tmp_path / "own.csv"), "recipe": recipe}, ""
        )
        assert config.out == str(tiny_folder / "guides" / kind)
        with pytest.raises(UsageError, match=raised):
            Trainer(config)


def _guide(fingerprint: str) -> StructureGuide:
    config = StructureGuideConfig(labels=["*"], dim=8, vocab_size=58, width=16, depth=1, heads=2, max_seq_len=32)
    config.fingerprint = fingerprint
    return StructureGuide(config)


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
