"""What a preset says of weights and intervals reaches every control."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dlm_control import Check, Control, Controller, LanguageModel, Plan, State, UsageError, load
from dlm_control.diffusion.backbone import Backbone
from dlm_control.eval.run.generator import Diffusion
from dlm_control.tasks.run import run_spec
from dlm_control.tasks.spec import Spec
from dlm_control.tasks.suite import Suite

LENGTH = Plan(min_words=6, max_words=6)


class Wish(Controller):
    """Wants one word at one position, with soft evidence; keeps the noise levels at which it was asked."""

    def __init__(self, reads: str = "log_probs") -> None:
        self.reads = reads  # type: ignore[assignment]
        self._asked: list[float] = []

    def plan(self, lm: Backbone) -> Plan:
        return LENGTH

    def energy(self, state: State) -> Tensor:
        self._asked.append(float(state.t[0].detach()))
        if self.reads == "x_t":
            return (state.x_t[:, 2] - state.lm.embeddings[5]).square().sum(-1)
        return -(0.01 + state.log_probs.exp()[:, 2, 5:9].sum(-1)).log()

    def check(self, text: str) -> Check:
        return Check(1.0, "")


TILT: dict[str, Any] = {"steps": 12, "candidates": 1, "interval": (0.0, 1.0)}
PAPER: dict[str, Any] = {**TILT, "guidance": "paper", "sampler": "ddim-eta1", "local_likelihood_weight": 1.0}


@pytest.mark.parametrize(
    ("way", "reads", "least"), [(TILT, "log_probs", 2.0**-4), (PAPER, "x_t", 2.0**-10)], ids=["tilt", "2022"]
)
def test_a_presets_weight_multiplies_every_controls(
    way: dict[str, Any], reads: str, least: float, tiny_lm: LanguageModel
) -> None:
    """A control of weight v under a preset of weight w is a control of weight v·w."""

    def texts(of_control: float, of_preset: float) -> list[str]:
        control = Control("wish", Wish(reads), of_control)
        return [sample.text for sample in tiny_lm.generate([control], 6, **way, weight=of_preset)]

    assert texts(least, 1 / least) == texts(1.0, 1.0) != texts(least, 1.0)


@pytest.mark.parametrize("own", [(0.0, 1.0), (0.5, 0.9)], ids=["any level", "levels of its own"])
def test_no_control_steers_outside_of_the_presets_interval(own: tuple[float, float], tiny_lm: LanguageModel) -> None:
    wish = Wish()
    tiny_lm.generate([Control("wish", wish, interval=own)], 1, **{**TILT, "interval": (0.3, 0.7)})
    low, high = max(own[0], 0.3), min(own[1], 0.7)
    *steps, finished = wish._asked
    assert finished < 0.05  # of the finished text
    levels = torch.arange(1, 13) / 12
    expected = [float(t) for t in levels.flip(0) if low <= t <= high]
    assert steps == pytest.approx(expected, abs=1e-4) and len(steps) > 1


def test_a_models_own_preset_is_its_default_and_goes_where_it_is_saved(tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "mine")
    (tmp_path / "mine" / "preset.yaml").write_text("# as `dlm tune` writes\nname: default\nsteps: 3\ncandidates: 1\n")
    lm = load(tmp_path / "mine")
    lm.save_pretrained(tmp_path / "copy")
    for model in (lm, load(tmp_path / "copy")):
        assert model.generate([], seed=1)[0].calls == 3
        assert model.generate([], seed=1, steps=5)[0].calls == 5  # what the caller says comes last
        assert model.generate([], seed=1, preset="fast")[0].calls == 20
    spec = Spec.from_mapping({"unconditional": True})
    assert run_spec(spec, lm)[0].calls == 3
    suite = Suite(included=(), name="s", version=1, targets={"reader": "unconditional", "count": 1}, metrics=(), samples=1)
    assert Diffusion(suite, lm).preset.calls() == 3 and Diffusion(suite, lm, steps=4).preset.calls() == 4
    (tmp_path / "copy" / "preset.yaml").write_text("name: fast\nsteps: 3\n")
    with pytest.raises(UsageError, match=r"preset.yaml: changes the preset 'fast'; a model's own is its default"):
        load(tmp_path / "copy").generate([])
    (tmp_path / "copy" / "preset.yaml").write_text("stepps: 3\n")
    with pytest.raises(UsageError, match=r"(?s)preset.yaml: .*stepps: unknown key, did you mean 'steps'"):
        load(tmp_path / "copy").generate([])
