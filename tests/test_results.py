"""What is committed of results: documents equal what tools/figures makes of them, and rows of older weights say so."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_cli import dlm

from dlm_control.sampling.presets import named_preset, preset
from dlm_control.support.hub import file_digest

ROOT = Path(__file__).resolve().parent.parent
MANIFESTS: dict[Path, dict[str, Any]] = {
    file.relative_to(ROOT / "results").parent: json.loads(file.read_text(encoding="utf-8"))["manifest"]
    for file in sorted((ROOT / "results").glob("*/*/scores.json"))
}


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tools" / "figures"))


def test_the_readme_shows_what_the_results_say(figures: dict[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"\n{figures['readme']()}\n<!-- end of figures -->" in readme, "run tools/figures"


def test_the_default_of_masked_models_is_what_the_search_chose() -> None:
    chosen = named_preset(str(ROOT / "results" / "tuning" / "masked.yaml"))
    assert preset(chosen.pop("name"), "masked", **chosen) == preset("default", "masked")


def test_the_page_on_soft_controls_shows_what_the_results_say(figures: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "soft-controls.md").read_text(encoding="utf-8")
    assert f"\n{figures['soft']()}\n<!-- end of soft -->" in page, "run tools/figures"


def test_the_page_of_results_shows_what_they_say(figures: dict[str, Any]) -> None:
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == figures["results_page"](), "run tools/figures"


def test_the_page_on_composition_shows_what_the_results_say(figures: dict[str, Any]) -> None:
    assert (ROOT / "docs" / "composition.md").read_text(encoding="utf-8") == figures["composition"](), "run tools/figures"


def test_results_of_other_weights_than_the_bundled_ones_are_known(figures: dict[str, Any]) -> None:
    """Ours are of the bundled models, and baselines of one language model; `reject` is of an older one, and its row says so."""
    from dlm_control import load

    diffusion = {where for where, manifest in MANIFESTS.items() if manifest["generator"] == "diffusion"}
    masked, everyday = ({where for where in diffusion if where.parts[0] == name} for name in ("masked", "everyday"))
    for model, runs in (("e2e", diffusion - masked - everyday), ("e2e-masked", masked), ("everyday", everyday)):
        assert runs and {MANIFESTS[where]["weights"] for where in runs} == {load(model).backbone.weights_digest}
    models = {
        where.parts[0]: manifest["weights"]["ar-lm"] if isinstance(manifest["weights"], dict) else manifest["weights"]
        for where, manifest in MANIFESTS.items()
        if where not in diffusion
    }
    usual = models["fudge"]
    assert {name for name, digest in models.items() if digest != usual} == {"reject"}
    assert "older LM" in figures["TITLES"]["reject"]


def test_every_result_names_the_scorer_that_made_it() -> None:
    for where, manifest in MANIFESTS.items():
        name = "everyday-teacher" if where.parts[0] == "everyday" else "e2e-teacher"
        teacher = file_digest(ROOT / "eval" / "models" / name / "model.safetensors")
        assert manifest["weights"], where
        assert teacher in str(manifest.get("scorers", {}).get("teacher", teacher)), where


LOGS = sorted(file.relative_to(ROOT / "results") for file in (ROOT / "results").glob("*/*/samples.jsonl"))


@pytest.mark.parametrize("log", LOGS, ids=lambda log: str(log.parent))
def test_the_committed_texts_are_those_that_were_scored(log: Path) -> None:
    texts = [json.loads(line)["texts"] for line in (ROOT / "results" / log).read_text(encoding="utf-8").splitlines()]
    scores = json.loads((ROOT / "results" / log).with_name("scores.json").read_text(encoding="utf-8"))
    assert sum(map(len, texts)) == scores["texts"]


def test_a_committed_run_can_be_scored_again(tmp_path: Path) -> None:
    run, mine = ROOT / "results" / "outside" / "ours" / "controls", tmp_path / "controls"
    shutil.copytree(run, mine, ignore=shutil.ignore_patterns("texts.jsonl"))
    dlm("score", mine, "--suite", ROOT / "results" / "outside" / "controls.yaml", "--data", ROOT / "results" / "outside")
    assert json.loads((mine / "scores.json").read_text()) == json.loads((run / "scores.json").read_text())
    assert len((mine / "texts.jsonl").read_text().splitlines()) == 48
