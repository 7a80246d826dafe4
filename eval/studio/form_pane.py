"""The form beside the YAML, each following the other, and the verdict on both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from dlm_control.eval.studio.cards import Content, added, removed
from dlm_control.eval.studio.export import as_yaml
from dlm_control.eval.studio.form import Change, Form, note_of
from dlm_control.eval.studio.guard import guarded
from dlm_control.eval.studio.markup import problem_html, said_html, verdict_html
from dlm_control.eval.studio.studio import Studio
from dlm_control.eval.studio.verdict import Verdict
from dlm_control.support.yaml_file import parse_yaml

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
EDITS: dict[str, Any] = {**QUIET, "trigger_mode": "always_last", "concurrency_id": "edit", "concurrency_limit": 1}


class FormPane:
    """The form of a spec.

    Args:
        studio: that the page belongs to.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._form = gr.Column()  # what `bind` draws stands here
        with gr.Accordion("Open or save a spec", open=False):
            self._file = gr.Dropdown(studio.folder.specs(), value=None, label="Open a spec of the folder", elem_id="open")
            with gr.Row(elem_classes="st-save"):
                self._name = gr.Textbox("mine.yaml", label="Save the spec in the folder as", elem_id="spec-name")
                self._save = gr.Button("Save spec", size="sm", scale=0, min_width=110)
            self._saved = gr.HTML("")

    def bind(
        self, page: gr.Blocks, content: Content, yaml: gr.Code, verdict: gr.HTML, python: gr.Code, command: gr.Code
    ) -> None:
        """Connect the form with what stands beside it.

        Args:
            page: that the pane is on.
            content: the spec that a visitor finds.
            yaml: the same as text, to edit.
            verdict: takes what is wrong.
            python, command: take the spec in other forms.
        """
        self._yaml, self._told = yaml, [verdict, python, command]
        self._content, self._shape = gr.State(content), gr.State(0)
        whole = [self._content, yaml, self._shape, *self._told]
        page.load(lambda text: self._said(self._studio.judge(text)), [yaml], self._told, **QUIET)
        with self._form:
            gr.render([self._content, yaml], [page.load, self._shape.change], show_progress="hidden")(self._draw)
        yaml.input(self._from_yaml, [yaml, self._content, self._shape], [self._content, self._shape, *self._told], **EDITS)
        self._file.input(
            guarded(self._from_file, lambda message: (gr.skip(),) * 3 + (problem_html(message), gr.skip(), gr.skip())),
            [self._file, self._shape], whole, **QUIET,
        )  # fmt: skip
        self._save.click(guarded(self._keep, problem_html), [self._name, yaml], [self._saved], **QUIET)

    def _draw(self, content: Content, text: str) -> None:
        """Draw the form; its events live as long as it."""
        verdict = self._studio.judge(text)
        form = Form(content, self._studio.folder.models(), self._studio.usual_preset(verdict), verdict.faults)
        whole = [self._content, self._yaml, self._shape, *self._told]
        more = self._redrawing(lambda name, content: added(content, name))
        form.addition.input(more, [form.addition, self._content, self._shape], whole, **QUIET)
        for made, change in form.changes:
            if made in form.redrawing:
                made.input(self._redrawing(change), [made, self._content, self._shape], whole, **EDITS)
                continue
            edit = made.input(self._edit(change), [made, self._content], [self._content, self._yaml], **EDITS)
            check = self._checks(len(form.notes))
            edit.then(check, [self._yaml], [*self._told, *form.notes], trigger_mode="always_last", **QUIET)
        for button, index in form.removals:
            drop = self._redrawing(_removal(index))
            button.click(drop, [button, self._content, self._shape], whole, **QUIET)

    def _edit(self, change: Change) -> Callable[[Any, Content], tuple[Content, str]]:
        def edit(raw: Any, content: Content) -> tuple[Content, str]:
            changed = change(raw, content)
            return changed, as_yaml(changed)

        return edit

    def _redrawing(self, change: Change) -> Callable[[Any, Content, int], tuple[Any, ...]]:
        return lambda raw, content, shape: self._whole(change(raw, content), shape)

    def _checks(self, cards: int) -> Callable[[str], tuple[Any, ...]]:
        def check(text: str) -> tuple[Any, ...]:
            verdict = self._studio.judge(text)
            return (*self._said(verdict), *(note_of(i, verdict.faults) for i in range(cards)))

        return check

    def _whole(self, content: Content, shape: int) -> tuple[Any, ...]:
        """A changed spec everywhere, and the form drawn anew."""
        text = as_yaml(content)
        return (content, text, shape + 1, *self._said(self._studio.judge(text)))

    def _from_yaml(self, text: str, content: Content, shape: int) -> tuple[Any, ...]:
        """The form follows the YAML, and stays as it is while that cannot be read."""
        verdict = self._studio.judge(text)
        if verdict.unreadable or verdict.content == content:
            return (gr.skip(), gr.skip(), *self._said(verdict))
        return (dict(verdict.content), shape + 1, *self._said(verdict))

    def _from_file(self, name: str, shape: int) -> tuple[Any, ...]:
        text = self._studio.opened(name)
        return (parse_yaml(text, name).content, text, shape + 1, *self._said(self._studio.judge(text)))

    def _keep(self, name: str, text: str) -> str:
        return said_html(self._studio.save_spec(name, text))

    def _said(self, verdict: Verdict) -> tuple[str, str, str]:
        return (verdict_html(verdict), *self._studio.copies(verdict))


def _removal(index: int) -> Change:
    """Takes a card out."""
    return lambda _, content: removed(content, index)
