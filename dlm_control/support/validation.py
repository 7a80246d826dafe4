"""Do keys and values that a user wrote fit the parameters of what they are for?"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from dlm_control.support.errors import Problems, shown, suggestion

_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "nothing"}


def check_arguments(
    problems: Problems, place: str, function: Callable[..., Any], given: Mapping[str, Any], positional: int = 0
) -> None:
    """Note the keys that a function (or a class's constructor) does not take, those it lacks, and values of other types.

    Args:
        problems: takes the faults.
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
            problems.add(f"{head}{key}", f"unknown key{suggestion(key, known)}; {takes}")
        elif key in known and not _fits(given[key], kinds.get(key, Any)):
            problems.add(f"{head}{key}", f"expected {_told(kinds[key])}, got {shown(given[key])}")
    for key, parameter in known.items():
        if key not in given and parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            problems.add(f"{head}{key}", f"missing; {takes}")


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
