"""The form of a spec: components for its fields, which change its keys and values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from dlm_control.eval.studio.cards import Card, Content, cards_of, edited, names_of, offered, with_value
from dlm_control.eval.studio.fields import ABSENT, Field, field_of, fields_of
from dlm_control.eval.studio.markup import faults_html
from dlm_control.sampling.presets import NAMES, Preset
from dlm_control.support.errors import Issue
from dlm_control.tasks.spec import TYPES

Change = Callable[[Any, Content], Content]
"""From what a person entered, and the spec as it is, to the changed spec."""
_DEFAULTS = {"num_samples": 1, "seed": 0}
_OPTIONAL = ("unconditional", "on_error")


class Form:
    """Draws the form and keeps its components.

    Args:
        content: keys and values of the spec.
        models: that can be chosen.
        usual: the values of the chosen preset.
        faults: of the spec.

    Attributes:
        changes: each field's component, and what it does.
        redrawing: those of `changes` after which other fields show other things.
        removals: each card's button, and the number of the card.
        notes: a component for the faults of each card.
        addition: names the controller to add.
    """

    def __init__(self, content: Content, models: Sequence[str], usual: Preset, faults: Sequence[Issue]) -> None:
        self._faults = faults
        self.changes: list[tuple[gr.components.Component, Change]] = []
        self.redrawing: list[gr.components.Component] = []
        self.removals: list[tuple[gr.Button, int]] = []
        self.notes: list[gr.HTML] = []
        cards = cards_of(content)
        if not cards:
            gr.HTML('<p class="st-soft">No controls yet: add one below.</p>')
        for i, (card, name) in enumerate(zip(cards, names_of(cards), strict=True)):
            self._card(i, card, name)
        self.addition = gr.Dropdown(
            [(f"{name}: {says}", name) for name, says in offered().items()], value=None, label="Add a control", elem_id="add",
            interactive=True,
        )  # fmt: skip
        self._sampling(content, models, usual)

    def _card(self, index: int, card: Card, name: str) -> None:
        with gr.Group(elem_classes="st-card"):
            with gr.Row(elem_classes="st-card-head"):
                gr.Markdown(f"### {name}\n{card.says}", elem_classes="st-card-title")
                remove = gr.Button("Remove", size="sm", min_width=80, scale=0, elem_classes="st-remove")
                self.removals.append((remove, index))
            main = [field for field in card.own if field.main]
            rest = [field for field in card.own if not field.main]
            if main:
                with gr.Row():
                    for field in main:
                        self._argument(index, card, field)
            options = [*rest, *card.use]
            if options:
                said = any(card.value(field) is not ABSENT for field in options)
                with gr.Accordion(f"Options of {name}", open=said), gr.Row():
                    for field in options:
                        self._argument(index, card, field)
            if card.unshown:
                gr.HTML(faults_html([card.unshown]))
            self.notes.append(gr.HTML(note_of(index, self._faults), elem_classes="st-note"))

    def _argument(self, index: int, card: Card, field: Field) -> None:
        kind, value = field.kind_for(card.value(field)), card.value(field)
        made = component(field, value)
        self.changes.append((made, lambda raw, content: edited(content, index, field.name, field.read(raw, kind))))

    def _sampling(self, content: Content, models: Sequence[str], usual: Preset) -> None:
        preset = content.get("preset", "default")
        name = preset.get("name", "default") if isinstance(preset, Mapping) else preset
        with gr.Group(elem_classes="st-card"):
            with gr.Row(elem_classes="st-card-head"):
                gr.Markdown("### Texts\nHow many, by which model, and how.", elem_classes="st-card-title")
            with gr.Row():
                for key, options in (("model", models), ("preset", NAMES)):
                    given = content.get(key, options[0]) if key == "model" else name
                    known = [*options, *([given] if isinstance(given, str) and given not in options else [])]
                    shown = given if given in known else None
                    picked = gr.Dropdown(known, value=shown, label=key, min_width=120, interactive=True)
                    self.changes.append((picked, _picks_preset if key == "preset" else _picks_model))
                    self.redrawing.append(picked)
                for key, default in _DEFAULTS.items():
                    self._own(content, field_of(key, TYPES[key], default))
            changed = {key: value for key, value in preset.items() if key != "name"} if isinstance(preset, Mapping) else {}
            with gr.Accordion("Options of the preset", open=bool(changed)), gr.Row():
                for field in (replace(each, default=getattr(usual, each.name)) for each in fields_of(Preset)):
                    given = changed.get(field.name, ABSENT)
                    self.changes.append((component(field, given), _sets_of_preset(field, field.kind_for(given))))
            said = any(key in content for key in _OPTIONAL)
            with gr.Accordion("Options of the run", open=said), gr.Row():
                self._own(content, field_of("unconditional", bool, False, "no controls: what the model writes by itself"))
                self._own(content, field_of("on_error", TYPES["on_error"], "raise", "skip: a failing control costs one text"))

    def _own(self, content: Content, field: Field) -> None:
        given = content.get(field.name, ABSENT)
        kind = field.kind_for(given)
        self.changes.append(
            (component(field, given), lambda raw, content: with_value(content, field.name, field.read(raw, kind)))
        )


def component(field: Field, value: Any) -> gr.components.Component:
    """The component of a field.

    Args:
        field: of a form.
        value: that it shows, or ABSENT.
    """
    kind, shown = field.kind_for(value), field.shown(value)
    default = None if field.required or field.default in (None, ()) else str(field.default)
    # Gradio takes what is drawn later for an output, and locks it, unless told otherwise.
    common: dict[str, Any] = {"label": field.name, "info": field.about or None, "min_width": 150, "interactive": True}
    if kind == "flag":
        return gr.Checkbox(value=shown, **common)
    if kind == "choice":
        blank = [] if field.required or default is not None else [("", None)]
        return gr.Dropdown([*blank, *((str(each), each) for each in field.choices)], value=shown, **common)
    if kind == "number":
        return gr.Number(value=shown, placeholder=default or field.expects, **common)
    return gr.Textbox(value=shown, placeholder=default or field.expects, lines=1, **common)


def note_of(index: int, faults: Sequence[Issue]) -> str:
    """The faults of one card."""
    place = f"controls[{index}]"
    own = [each for each in faults if each.place.startswith(place)]
    inside = [(each.place.removeprefix(place).lstrip("."), each.message) for each in own]
    return faults_html([f"{key}: {message}" if key and key[0] != " " else message for key, message in inside])


def _picks_model(raw: Any, content: Content) -> Content:
    return with_value(content, "model", ABSENT if raw in (None, "e2e") else raw)


def _picks_preset(raw: Any, content: Content) -> Content:
    preset = content.get("preset")
    changes = {key: value for key, value in preset.items() if key != "name"} if isinstance(preset, Mapping) else {}
    return _with_preset(content, raw or "default", changes)


def _sets_of_preset(field: Field, kind: Any) -> Change:
    def change(raw: Any, content: Content) -> Content:
        preset = content.get("preset", "default")
        changes = dict(preset) if isinstance(preset, Mapping) else {"name": preset}
        name, value = changes.pop("name", "default"), field.read(raw, kind)
        changes.pop(field.name, None)
        if value is not ABSENT:
            changes[field.name] = value
        return _with_preset(content, name, changes)

    return change


def _with_preset(content: Content, name: str, changes: Mapping[str, Any]) -> Content:
    if changes:
        return with_value(content, "preset", {**({} if name == "default" else {"name": name}), **changes})
    return with_value(content, "preset", ABSENT if name == "default" else name)
