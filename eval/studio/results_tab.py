"""The tab Results: what lies in the folder, as tables, curves and texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from dlm_control.eval.records import Curves
from dlm_control.eval.report.plots import draw
from dlm_control.eval.studio.form_pane import QUIET
from dlm_control.eval.studio.guard import guarded
from dlm_control.eval.studio.markup import empty_html, problem_html, table_html, texts_html
from dlm_control.eval.studio.results import (
    PAGE,
    SHOW,
    ReadText,
    chosen,
    curves_of,
    figures_of,
    origin_of,
    overview,
    run_of,
    texts_of,
)
from dlm_control.eval.studio.studio import Studio, drawn

NONE = empty_html(
    "No results in this folder",
    "`dlm eval` leaves runs, `dlm bench` curves, `dlm generate --out` and “Save texts” texts; they appear here.",
)
UNCHOSEN = empty_html("Nothing opened", "Choose a result above to see its figures and texts.")
HEAD = ("run", "targets", "texts", "success", "nats a word", "flawed")


class ResultsTab:
    """The components of the tab, and what they do.

    Args:
        studio: that the page belongs to.
        tab: that they are on.
    """

    def __init__(self, studio: Studio, tab: gr.Tab) -> None:
        self._studio, texts, number = studio, gr.State([]), gr.State(0)
        with gr.Row():
            search = gr.Textbox("", label="Find a run", placeholder="letters of its name", elem_id="find-run", min_width=200)
            name = gr.Dropdown([], label="Open a result", elem_id="result", scale=2, min_width=260)
        table = gr.HTML(NONE, elem_id="runs")
        detail = gr.HTML(UNCHOSEN, elem_id="detail")
        with gr.Column(visible=False) as reader:
            with gr.Row():
                show = gr.Radio(list(SHOW), value=SHOW[0], label="Texts", elem_id="show", min_width=300)
                letters = gr.Textbox(
                    "", label="Search the texts", placeholder="a word, a target, a reason", elem_id="search", min_width=200
                )
            listed = gr.HTML("", elem_id="listed")
            with gr.Row(elem_classes="st-actions"):
                before, after = gr.Button("Earlier texts", size="sm"), gr.Button("Later texts", size="sm")
        filtered = [texts, show, letters]
        tab.select(guarded(self._found, _unfound), [search, name], [table, name], **QUIET)
        search.input(guarded(self._found, _unfound), [search, name], [table, name], trigger_mode="always_last", **QUIET)
        opened = guarded(self._open, lambda message: (problem_html(message), [], gr.update(visible=False)))
        drawn_anew = name.change(opened, [name], [detail, texts, reader], **QUIET)
        for event in (drawn_anew.then, show.input, letters.input):
            event(partial(_listed, 0), filtered, [listed, number], **QUIET)
        for button, way in ((before, -1), (after, 1)):
            button.click(partial(_turned, way), [number, *filtered], [listed, number], **QUIET)

    def _found(self, search: str, now: str | None) -> tuple[Any, ...]:
        folder, rows = self._studio.folder, overview(self._studio.folder, search)
        choices = [*(row[0] for row in rows), *folder.curves(), *folder.texts()]
        runs = table_html(HEAD, rows, "Runs") if rows else ""
        if not choices:
            runs = NONE if not search.strip() else empty_html("No such run", "Other letters may find one.")
        return runs, gr.update(choices=choices, value=now if now in choices else None)

    def _open(self, name: str | None) -> tuple[Any, ...]:
        if not name:
            return UNCHOSEN, [], gr.update(visible=False)
        if name.endswith(".json"):
            return _curves_html(curves_of(self._studio.folder, name)), [], gr.update(visible=False)
        texts = texts_of(self._studio.folder, name)
        if name.endswith(".jsonl"):
            failing = sum(bool(each.failed) for each in texts)
            return f"<h3>{escape(name)}</h3><p>{len(texts)} texts, {failing} fail a check.</p>", texts, gr.update(visible=True)
        scores = run_of(self._studio.folder, name).scores
        figures = table_html(("figure", "mean", "95 % interval", "n"), figures_of(scores), "Figures")
        origin = table_html(("", ""), origin_of(scores), "How it was made")
        groups = ""
        if scores.groups:
            keys = list(dict.fromkeys(key for group in scores.groups.values() for key in group.means))
            rows = [
                (title, str(group.texts), *(f"{group.means[key]:.3f}" if key in group.means else "–" for key in keys))
                for title, group in scores.groups.items()
            ]
            groups = table_html(("group", "texts", *keys), rows, "Groups of targets")
        missing = "" if texts else '<p class="st-soft">Its texts are not in the folder.</p>'
        return f"<h3>{escape(name)}</h3>{figures}{groups}{origin}{missing}", texts, gr.update(visible=bool(texts))


def _unfound(message: str) -> tuple[Any, ...]:
    return problem_html(message), gr.skip()


def _curves_html(curves: Curves) -> str:
    points = [
        (series, f"{point.x:g}", f"{point.y:g}", point.label or "") for series, line in curves.series.items() for point in line
    ]
    picture = drawn(lambda axes: draw(axes, curves))
    figure = f'<figure class="st-picture st-wide" role="img" aria-label="{escape(curves.title)}">{picture}</figure>'
    numbers = table_html(("curve", curves.x, curves.y, "point"), points, "The same as numbers")
    return f"<h3>{escape(curves.title)}</h3><p>{escape(curves.caption)}</p>{figure}{numbers}"


def _listed(page: int, texts: Sequence[ReadText], show: str, letters: str) -> tuple[str, int]:
    """A page of the texts that are wanted, and its number; the last one where there are not so many."""
    wanted = chosen(texts, show, letters)
    page = max(0, min(page, (len(wanted) - 1) // PAGE))
    return texts_html(wanted, page * PAGE, PAGE), page


def _turned(way: int, page: int, texts: Sequence[ReadText], show: str, letters: str) -> tuple[str, int]:
    return _listed(page + way, texts, show, letters)
