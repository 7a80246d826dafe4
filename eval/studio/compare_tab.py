"""The tab Compare: one spec under two presets, or with two weights of a control, on equal seeds."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr

from dlm_control.eval.studio.cards import Content, cards_of, edited, names_of, with_value
from dlm_control.eval.studio.export import as_yaml
from dlm_control.eval.studio.form_pane import QUIET
from dlm_control.eval.studio.guard import guarded_steps
from dlm_control.eval.studio.markup import empty_html, problem_html, run_html, table_html
from dlm_control.eval.studio.studio import Studio
from dlm_control.eval.studio.write_tab import RUNS
from dlm_control.eval.studio.writing import View, contrasted, side_by_side
from dlm_control.sampling.presets import NAMES
from dlm_control.support.errors import UsageError

WAYS = ("two presets", "two weights")
PRESETS, WEIGHTS = (("A", "default"), ("B", "sound")), (("A", 1), ("B", 3))
NOTHING = empty_html("Nothing compared yet", "The spec of the tab Write is written twice, with equal seeds.")
RUNNING = '<p class="st-soft">Writing both, step by step in turn.</p>'


class CompareTab:
    """The components of the tab, and what they do.

    Args:
        studio: that the page belongs to.
        tab: that they are on.
        yaml: the spec.
    """

    def __init__(self, studio: Studio, tab: gr.Tab, yaml: gr.Code) -> None:
        self._studio = studio
        with gr.Row():
            way = gr.Radio(list(WAYS), value=WAYS[0], label="Compare", min_width=200, elem_id="way")
            presets = [gr.Dropdown(list(NAMES), value=name, label=f"Preset {side}", min_width=130) for side, name in PRESETS]
            control = gr.Dropdown([], label="Control", min_width=130, visible=False)
            weights = [gr.Number(value, label=f"Weight {side}", min_width=110, visible=False) for side, value in WEIGHTS]
        with gr.Row(elem_classes="st-actions"):
            go = gr.Button("Write both", variant="primary", elem_id="compare")
            halt = gr.Button("Stop", variant="stop", visible=False, elem_id="stop-both")
        table = gr.HTML(NOTHING, elem_id="contrast")
        with gr.Row(elem_classes="st-panes"):
            sides = [gr.HTML("", elem_classes="st-side", min_width=320) for _ in "AB"]
        way.input(self._fields, [way], [*presets, control, *weights], **QUIET)
        tab.select(self._controls, [yaml, control], [control], **QUIET)
        shown = [table, *sides, go, halt]
        run = guarded_steps(self._run, lambda message: (problem_html(message), "", "", *_buttons(idle=True)))

        def stop(request: gr.Request) -> None:
            studio.stops.stop(str(request.session_hash))

        go.click(run, [yaml, way, *presets, control, *weights], shown, **RUNS)
        halt.click(stop, None, None, concurrency_limit=None, **QUIET)

    def _fields(self, way: str) -> tuple[Any, ...]:
        by_preset = way == WAYS[0]
        return (*(gr.update(visible=by_preset),) * 2, *(gr.update(visible=not by_preset),) * 3)

    def _controls(self, text: str, now: str | None) -> Any:
        names = names_of(cards_of(self._studio.judge(text).content))
        return gr.update(choices=names, value=now if now in names else next(iter(names), None))

    def _run(
        self, text: str, way: str, preset_a: str, preset_b: str, control: str | None, weight_a: float | None,
        weight_b: float | None, request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        content = self._studio.judge(text).content
        if way == WAYS[0]:
            titles = (f"A: preset {preset_a}", f"B: preset {preset_b}")
            contents = [with_value(content, "preset", preset) for preset in (preset_a, preset_b)]
        else:
            titles = (f"A: {control}, weight {weight_a}", f"B: {control}, weight {weight_b}")
            contents = [_weighted(content, control, weight) for weight in (weight_a, weight_b)]
        one, other = (self._studio.spec_of(as_yaml(each)) for each in contents)
        stopped = self._studio.stops.begun(str(request.session_hash))
        yield (empty_html("Beginning", "The first texts are a moment away."), "", "", *_buttons(idle=False))
        first = second = None
        for first, second in side_by_side((one, other), self._studio.model_of, stopped):
            both = _side(titles[0], first), _side(titles[1], second)
            yield (RUNNING, *both, *_buttons(idle=False))
        assert first and second and first.outcome and second.outcome
        lines = contrasted(first.outcome, second.outcome)
        yield (table_html(("", *titles), lines, "A and B on equal seeds"), *both, *_buttons(idle=True))


def _weighted(content: Content, control: str | None, weight: float | None) -> Content:
    """The spec with another weight of one control.

    Raises:
        UsageError: there is no such control, or no weight.
    """
    names = names_of(cards_of(content))
    if control not in names:
        raise UsageError("Choose a control of the spec first.")
    if weight is None:
        raise UsageError("Give both weights first, such as 1 and 3.")
    return edited(content, names.index(control), "weight", weight)


def _side(title: str, view: View | None) -> str:
    return f"<h3>{escape(title)}</h3>{run_html(view) if view else ''}"


def _buttons(idle: bool) -> tuple[Any, Any]:
    return gr.update(interactive=idle), gr.update(visible=not idle)
