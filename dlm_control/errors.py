"""What a user sees when something is wrong: one report, every fault in it, each with its place."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin


class Fault(NamedTuple):
    """One thing that is wrong, and where; an empty place speaks of the whole."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class UsageError(ValueError):
    """A mistake of the caller's: what was given, what was expected, what to do.

    Attributes:
        faults: those that a report lists; the message itself where there is but one.
    """

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults) or (Fault("", message),)


class Problems:
    """Collects faults so that one report can name them all.

    Args:
        subject: what is faulty: a file, a preset, …
        lines: where the subject is a file, the line of each place; a place that is not there takes that of what holds it.

    Attributes:
        found: the faults so far.
    """

    def __init__(self, subject: str, lines: Mapping[str, int] | None = None) -> None:
        self.subject, self.lines = subject, {} if lines is None else lines
        self.found: list[Fault] = []

    def add(self, place: str, message: str) -> None:
        """Note one fault; an empty place speaks of the whole subject."""
        self.found.append(Fault(place, message))

    def adopt(self, place: str, error: UsageError) -> None:
        """Note the faults of another report, their places below this one's."""
        for fault in error.faults:
            self.add(f"{place}.{fault.place}" if place and fault.place else place or fault.place, fault.message)

    def check_call(self, place: str, function: Callable[..., Any], given: Mapping[str, Any], positional: int = 0) -> None:
        """Note the keys that a function (or a class's constructor) does not take, those it lacks, and values of other types.

        Args:
            place: of the keys; empty for the whole subject.
            function: that is to be called with them.
            given: keys and values.
            positional: how many of its first parameters are not for the user to give.
        """
        parameters = list(inspect.signature(function).parameters.items())
        known, reserved = dict(parameters[positional:]), dict(parameters[:positional])
        kinds = _annotations(function)
        takes = f"it takes {', '.join(known) or 'nothing'}"
        anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
        head = f"{place}." if place else ""
        for key in sorted(given):
            if key in reserved or (key not in known and not anything):
                self.add(f"{head}{key}", f"unknown key{suggestion(key, known)}; {takes}")
            elif key in known and not _fits(given[key], kinds.get(key, Any)):
                self.add(f"{head}{key}", f"expected {_told(kinds[key])}, got {shown(given[key])}")
        for key, parameter in known.items():
            if key not in given and parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
                self.add(f"{head}{key}", f"missing; {takes}")

    def raise_if_any(self) -> None:
        """
        Raises:
            UsageError: at least one fault was noted; its text lists them all.
        """
        if self.found:
            count = f"{len(self.found)} problem{'s' if len(self.found) > 1 else ''}"
            listed = "\n".join(f"  - {self._line(fault.place)}{fault}" for fault in self.found)
            raise UsageError(f"{self.subject}: {count}\n{listed}", self.found)

    def _line(self, place: str) -> str:
        """`file:line: ` of a place such as `controls[1].weight` or `controls[1] (river)`, or nothing."""
        place = place.partition(" (")[0]
        while place and place not in self.lines:
            place = re.sub(r"(^|\.|\[)[^.\[]*$", "", place)
        return f"{self.subject}:{self.lines[place]}: " if place else ""


def suggestion(given: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` when a known word is near, else nothing."""
    folded = {word.lower(): word for word in known}
    near = difflib.get_close_matches(str(given).lower(), folded, n=1, cutoff=0.6)
    return f", did you mean {folded[near[0]]!r}?" if near else ""


_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "nothing"}


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        found = inspect.signature(function, eval_str=True).parameters
    except NameError:  # of a name that is imported for type checkers alone
        return {}
    return {name: parameter.annotation for name, parameter in found.items()}


def _fits(value: object, kind: Any) -> bool:
    """Is it of a type as YAML has them? Of other types anything is."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is list:
        return isinstance(value, list) and all(_fits(each, parts[0]) for each in value)
    if kind in (int, float):
        return isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    return kind not in _KINDS or isinstance(value, kind)


def _told(kind: Any) -> str:
    """A type in words."""
    if get_origin(kind) is list:
        return f"a list, each {_told(get_args(kind)[0])}"
    return " or ".join(map(_told, get_args(kind))) if get_args(kind) else _KINDS.get(kind, getattr(kind, "__name__", str(kind)))


def shown(value: object, most: int = 80) -> str:
    """What was given, as a report shows it: its repr, cut where it is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
