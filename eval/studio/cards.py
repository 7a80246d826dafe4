"""The controls of a spec as cards of forms: from keys and values to fields, and every edit back."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

from dlm_control.control.controller import Controller
from dlm_control.control.registry import CONTROLLERS, parameters
from dlm_control.control.use import Control
from dlm_control.eval.studio.fields import ABSENT, Field, field_of, fields_of
from dlm_control.support.errors import UsageError, short_repr
from dlm_control.tasks.controls import USE, arguments_of

Content = dict[str, Any]
"""Keys and values of a spec, as a file holds them; they may be at fault."""


@dataclass(frozen=True)
class Card:
    """One entry of `controls`.

    Attributes:
        title: the controller's name, or what stands in its place.
        says: what the controller is for.
        own: fields of the controller's parameters.
        use: fields that every control has: name, weight, interval, schedule.
        given: values of the spec by key.
        unshown: why a part of the entry, or all of it, can be changed in the YAML only; empty where there is none.
    """

    title: str
    says: str = ""
    own: tuple[Field, ...] = ()
    use: tuple[Field, ...] = ()
    given: Mapping[str, Any] | None = None
    unshown: str = ""

    def value(self, field: Field) -> Any:
        """What the spec says of a field, or ABSENT."""
        return (self.given or {}).get(field.name, ABSENT)


def cards_of(content: Content) -> list[Card]:
    """A card for each entry of a spec's `controls`."""
    entries = content.get("controls")
    return [_card(entry) for entry in entries] if isinstance(entries, list) else []


def offered() -> dict[str, str]:
    """The controllers that can be added, by name, with what each says; one that does not import is left out."""
    found = {}
    for name, entry in CONTROLLERS.entries().items():
        try:
            found[name] = _first_line(entry.load())
        except UsageError:
            continue  # `dlm ls` tells why
    return found


def added(content: Content, name: str) -> Content:
    """The spec with one more control, which still says nothing."""
    changed = deepcopy(content)
    entries = changed.get("controls")
    changed["controls"] = [*(entries if isinstance(entries, list) else []), {name: {}}]
    changed.pop("unconditional", None)
    return changed


def removed(content: Content, index: int) -> Content:
    """The spec without one of its controls."""
    changed = deepcopy(content)
    del changed["controls"][index]
    return changed


def edited(content: Content, index: int, key: str, value: Any) -> Content:
    """The spec with another value of one control.

    Args:
        content: the spec.
        index: of the control.
        key: of its argument.
        value: of the argument; ABSENT takes the key out.
    """
    changed = deepcopy(content)
    [(name, target)] = changed["controls"][index].items()
    known = parameters(CONTROLLERS.find(name))
    given = arguments_of(name, target, known)
    if value is ABSENT:
        given.pop(key, None)
    else:
        given[key] = value
    changed["controls"][index] = {name: _target(given, known)}
    return changed


def with_value(content: Content, key: str, value: Any) -> Content:
    """The spec with another value of one of its own keys; ABSENT takes the key out."""
    changed = deepcopy(content)
    if value is ABSENT:
        changed.pop(key, None)
    else:
        changed[key] = value
    return changed


def _card(entry: object) -> Card:
    if not (isinstance(entry, Mapping) and len(entry) == 1):
        return Card(short_repr(entry, 40), unshown="This entry is no controller with its target; mend it in the YAML.")
    [(name, target)] = entry.items()
    try:
        cls = CONTROLLERS.find(name)
    except UsageError:
        return Card(str(name), unshown="There is no such controller; mend it in the YAML, or remove it.")
    given = arguments_of(name, target, parameters(cls))
    own = fields_of(cls)
    known = {field.name for field in (*own, *_use_fields())}
    others = [str(key) for key in given if key not in known]
    unshown = f"In the YAML only: {', '.join(others)}." if others else ""
    return Card(name, _first_line(cls), own, _use_fields(), given, unshown)


@cache
def _use_fields() -> tuple[Field, ...]:
    named = field_of("name", str, None, "heads its checks and energies")
    return (named, *(field for field in fields_of(Control, positional=2) if field.name in USE))


def _target(given: Mapping[str, Any], known: Mapping[str, inspect.Parameter]) -> Any:
    """The short form where only the first parameter is given, and cannot be mistaken for the long one."""
    first = next(iter(known), None)
    if first is not None and list(given) == [first] and given[first] is not None and not isinstance(given[first], Mapping):
        return given[first]
    return dict(given)


def _first_line(cls: type[Controller]) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def names_of(entries: Sequence[Card]) -> list[str]:
    """What a page calls each card: as the engine calls the controls, numbered where several share a name."""
    given = [(card.given or {}).get("name", card.title) for card in entries]
    titles = [title if isinstance(title, str) else card.title for title, card in zip(given, entries, strict=True)]
    return [f"{title}#{titles[: i + 1].count(title)}" if titles.count(title) > 1 else title for i, title in enumerate(titles)]
