"""What a preset says of weights and intervals reaches every control."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dlm_control import Check, Control, Controller, LanguageModel, Plan, State
from dlm_control.diffusion.backbone import Backbone

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
