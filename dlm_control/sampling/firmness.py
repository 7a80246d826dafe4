"""How firmly a control is held: what its plan, its energy, its weight and the preset make of it."""

from __future__ import annotations

from typing import Literal

from dlm_control.control.plan import Plan
from dlm_control.control.use import BoundControl
from dlm_control.sampling.presets import Preset

Firmness = Literal["exact", "conditioned", "steered", "weighed", "checked only"]


def firmness(bound: BoundControl, preset: Preset) -> Firmness:
    """How firmly a control is held.

    - exact: its plan says all that it asks for, so no text breaks it.
    - conditioned: at each step the word distributions are conditioned on it by Bayes' rule, in closed form.
    - steered: an energy pushes: that of a guide, of a gradient, or of a changed weight.
    - weighed: nothing pushes, but particles count by what it says of them, so that texts follow p(text | control) the more
      closely the more particles there are.
    - checked only: nothing pushes; candidates may be chosen by its check.

    Args:
        bound: a control, resolved for the model, with the weight and interval that the preset leaves it.
        preset: how texts are sampled.
    """
    control = bound.control
    if control.weight == 0:
        return "checked only"
    if is_exact(bound):
        return "exact"
    if control.controller.reads is None:
        return "weighed" if preset.particles > 1 else "checked only"
    bayes = (preset.guidance, preset.scale, preset.conflict, preset.lagrangian) == ("tilt", "nats", "sum", 0)
    plain = control.weight == 1 and control.schedule == "constant" and control.interval[0] == 0
    return "conditioned" if control.controller.closed_form and bayes and plain else "steered"


def is_exact(bound: BoundControl) -> bool:
    """Does a control's plan say all that it asks for?"""
    return bound.control.controller.reads is None and fixes(bound.plan)


def fixes(plan: Plan) -> bool:
    """Does a plan hold each text to something? Room for phrases and what a language leaves to single positions does not."""
    lengths = plan.min_words is not None or plan.max_words is not None
    return lengths or bool(plan.at) or bool(plan.forbidden) or plan.template is not None
