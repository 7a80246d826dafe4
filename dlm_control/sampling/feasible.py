"""What can be known before the first network call: can a text of this model obey these controls, all at once?"""

from __future__ import annotations

from collections.abc import Sequence

from dlm_control.control.use import Control
from dlm_control.diffusion.backbone import Backbone
from dlm_control.sampling.layout import Layouts
from dlm_control.support.errors import ErrorCollector, UsageError


def check_feasible(lm: Backbone, controls: Sequence[tuple[str, Control]], problems: ErrorCollector) -> None:
    """Note words that the model does not know, texts longer than it takes, and controls that contradict each other.

    Args:
        lm: the model.
        controls: each with its place in what the user wrote; those of weight 0 ask for nothing.
        problems: takes the faults.
    """
    plans, steering = [], [(place, control) for place, control in controls if control.weight > 0]
    for place, control in steering:
        try:
            plans.append((control.name, control.bind(lm).plan))
        except UsageError as error:
            for fault in error.issues:
                problems.add(f"{place} ({control.name})", str(fault))
    if len(plans) == len(steering):
        try:
            Layouts(plans, lm.tokenizer, lm.length_counts, lm.max_seq_len)
        except UsageError as error:
            for fault in error.issues:
                problems.add("controls", f"no text can obey them: {fault}")
