"""The tab Write: a form and YAML beside each other, and the texts that form from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dlm_control.eval.studio.form_pane import QUIET, FormPane
from dlm_control.eval.studio.guard import guarded, guarded_steps
from dlm_control.eval.studio.markup import empty_html, problem_html, run_html, said_html
from dlm_control.eval.studio.studio import Studio
from dlm_control.eval.studio.trace_pictures import trace_html
from dlm_control.eval.studio.writing import View, seen_at, write
from dlm_control.support.errors import UsageError
from dlm_control.tasks.spec import Spec

RUNS: dict[str, Any] = {**QUIET, "concurrency_id": "run", "concurrency_limit": 2}  # two visitors write at once
NOTHING = empty_html("No texts yet", "Press “Write texts”. Each word takes the colour of the control that holds it.")
UNTRACED = empty_html("Nothing to explain yet", "After a run: what each control did at every noise level.")


@dataclass(frozen=True)
class Finished:
    """A visitor's last run."""

    spec: Spec
    view: View


class WriteTab:
    """The components of the tab, and what they do.

    Args:
        studio: that the page belongs to.
        page: that the tab is on.

    Attributes:
        yaml: the spec as the visitor sees it.
    """

    def __init__(self, studio: Studio, page: gr.Blocks) -> None:
        self._studio, self._last = studio, gr.State(None)
        content, text = studio.start()
        with gr.Row(elem_classes="st-panes"):
            with gr.Column(scale=5, min_width=320):
                pane = FormPane(studio)
            with gr.Column(scale=6, min_width=320, elem_classes="st-result"):
                with gr.Row(elem_classes="st-actions"):
                    self._go = gr.Button("Write texts", variant="primary", elem_id="write")
                    self._halt = gr.Button("Stop", variant="stop", elem_id="stop", visible=False)
                verdict = gr.HTML("", elem_id="verdict")
                with gr.Tabs():
                    with gr.Tab("Texts"):
                        self._texts_tab()
                    with gr.Tab("Why"):
                        self._why = gr.HTML(UNTRACED, elem_id="why")
                    with gr.Tab("YAML"):
                        self.yaml = gr.Code(
                            text, language="yaml", label="The spec: edit it here or in the form", lines=12, interactive=True,
                            elem_id="yaml", wrap_lines=True, buttons=["copy"],
                        )  # fmt: skip
                    with gr.Tab("Python"):
                        python = gr.Code(language="python", label="The same in Python", wrap_lines=True, buttons=["copy"])
                    with gr.Tab("Command"):
                        command = gr.Code(language="shell", label="The same in a shell", wrap_lines=True, buttons=["copy"])
        pane.bind(page, content, self.yaml, verdict, python, command)
        self._bind()

    def _texts_tab(self) -> None:
        self._texts = gr.HTML(NOTHING, elem_id="texts")
        self._level = gr.Slider(0, 1, value=1, step=1, label="Replay: step of the run", visible=False, elem_id="replay")
        with gr.Row(visible=False, elem_classes="st-save") as self._keep:
            self._name = gr.Textbox("texts.jsonl", label="Save these texts in the folder as", elem_id="texts-name")
            self._save = gr.Button("Save texts", size="sm", scale=0, min_width=110)
        self._saved = gr.HTML("")

    def _bind(self) -> None:
        shown = [self._texts, self._why, self._level, self._keep, self._saved, self._last, self._go, self._halt]
        run = guarded_steps(self._run, lambda message: (problem_html(message), *self._idle(None)))
        self._go.click(run, [self.yaml], shown, **RUNS)
        self._halt.click(self._stop, None, None, concurrency_limit=None, **QUIET)
        self._level.input(self._replay, [self._last, self._level], [self._texts], trigger_mode="always_last", **QUIET)
        save = guarded(self._keep_texts, problem_html)
        self._save.click(save, [self._name, self._last], [self._saved], **QUIET)

    def _run(self, text: str, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """Each answer says all: of two that reach the page within one frame, the browser draws the later one alone."""
        busy = (gr.skip(), gr.update(visible=False), gr.update(visible=False), "", None)
        running = (gr.update(interactive=False), gr.update(visible=True))
        yield (empty_html("Beginning", "The first texts are a moment away."), *busy, *running)
        spec, view = self._studio.spec_of(text), None
        stopped = self._studio.stops.begun(str(request.session_hash))
        for view in write(spec, self._studio.model_of(spec.model), stopped):
            yield (run_html(view), *busy, *running)
        assert view is not None and view.outcome is not None
        why, *idle = self._idle(Finished(spec, view))
        yield (run_html(view), why, *idle)
        yield (run_html(view), trace_html(view.outcome), *idle)  # pictures take a second, for which no text should wait

    def _idle(self, finished: Finished | None) -> tuple[Any, ...]:
        """What all components but the texts show when no run is under way."""
        outcome = finished.view.outcome if finished else None
        made = outcome.film if outcome else None
        last = len(made.levels) - 1 if made else 1
        level = gr.update(maximum=max(last, 1), value=last, visible=last > 1)
        buttons = (gr.update(interactive=True), gr.update(visible=False))
        return (UNTRACED, level, gr.update(visible=made is not None), "", finished, *buttons)

    def _stop(self, request: gr.Request) -> None:
        self._studio.stops.stop(str(request.session_hash))

    def _replay(self, finished: Finished | None, level: float) -> str:
        return NOTHING if finished is None else run_html(seen_at(finished.view, int(level)))

    def _keep_texts(self, name: str, finished: Finished | None) -> str:
        if finished is None or finished.view.outcome is None:
            raise UsageError("There are no texts to save; write some first.")
        return said_html(self._studio.save_texts(name, finished.spec, finished.view.outcome))
