"""What the controls of a run did, as sentences and pictures."""

from __future__ import annotations

import importlib.util
from functools import partial
from html import escape

from dlm_control.eval.studio.markup import empty_html, faults_html
from dlm_control.eval.studio.studio import drawn
from dlm_control.eval.studio.writing import Outcome
from dlm_control.tasks.explain import PANELS, draw_panel


def trace_html(outcome: Outcome) -> str:
    """The trace of a run: a sentence, warnings, and a picture of each quantity over noise levels."""
    if not outcome.sentence:
        return empty_html("Nothing to explain", "The guidance `paper` leaves no trace; the presets with `tilt` do.")
    said = f'<p class="st-said">{escape(outcome.sentence)}</p>{faults_html(outcome.warnings)}'
    if not outcome.rows:
        return said
    if importlib.util.find_spec("matplotlib") is None:
        return said + faults_html(["The pictures need matplotlib: pip install 'dlm-control[plot]'"])
    pictures = []
    for label in PANELS:
        picture = drawn(partial(_panel, outcome=outcome, label=label))
        pictures.append(
            f'<figure class="st-picture" role="img" aria-label="{escape(label)} over noise levels">{picture}</figure>'
        )
    return f'{said}<div class="st-pictures">{"".join(pictures)}</div>'


def _panel(axes: object, outcome: Outcome, label: str) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    draw_panel(axes, outcome.rows, label)
    axes.set_xlabel("noise level (the run goes to the right)")
    axes.legend()
