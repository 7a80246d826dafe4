"""One entry of a spec's `controls` list: a controller, its target, and how it is used."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from dlm_control.control.controller import Controller
from dlm_control.control.registry import CONTROLLERS, parameters, signature
from dlm_control.control.use import Control
from dlm_control.support.errors import ErrorCollector, UsageError, short_repr
from dlm_control.support.validation import check_arguments

USE = ("name", "weight", "interval", "schedule")  # keys of every control, whatever its controller
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Entry(NamedTuple):
    """A control as the spec gives it, and in the one form that its hash is taken of."""

    control: Control
    canonical: dict[str, Any]


def read_control(
    given: object, place: str, problems: ErrorCollector, defaults: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> Entry | None:
    """The control of one entry, or None when it has faults.

    Args:
        given: a mapping of one key, such as {"length": 18} or {"keyword": {"words": "pub", "weight": 2.0}}.
        place: where it stands, such as `controls[1]`.
        problems: takes the faults.
        defaults: by the name of a controller, arguments that it has where the entry does not give them.
    """
    before = len(problems.found)
    if not (isinstance(given, Mapping) and len(given) == 1 and all(isinstance(key, str) for key in given)):
        problems.add(place, f"expected one controller and its target, such as `length: 18`, got {_entry(given)}")
        return None
    name, target = next(iter(given.items()))
    try:
        cls = CONTROLLERS.find(name)
    except UsageError as error:
        problems.extend(place, error)
        return None
    known = parameters(cls)
    taken = [key for key in USE if key in known]
    if taken:
        problems.add(place, f"controller {name!r} has a parameter {taken[0]!r}, a key that every control has; rename it")
        return None
    arguments = {**defaults.get(name, {}), **arguments_of(name, target, known)}
    use = {key: arguments.pop(key) for key in USE if key in arguments}
    title = _title(use.get("name", name), place, problems)
    used = check_arguments(problems, place, Control, {key: value for key, value in use.items() if key != "name"}, positional=2)
    takes = f"{name!r} takes {signature(cls)}; every control takes {', '.join(USE)}"
    arguments = check_arguments(problems, place, cls, arguments, takes=takes, others=USE)
    if len(problems.found) > before:
        return None
    made = _construct(name, cls, arguments, place, problems)
    if made is None:
        return None
    defaults = {key: p.default for key, p in known.items() if p.kind not in _VARIADIC}
    try:
        control = Control(title, made, **used)
    except UsageError as error:
        problems.extend(place, error)
        return None
    canonical = {"controller": name, "arguments": defaults | arguments, "name": title, "weight": control.weight}
    return Entry(control, canonical | {"interval": control.interval, "schedule": control.schedule})


def _entry(given: object) -> str:
    """What was given in place of a one-key mapping, and the likeliest remedy."""
    if isinstance(given, Mapping) and len(given) > 1:
        inner = [str(key) for key in given if key in USE]
        others = [str(key) for key in given if key not in USE]
        hint = "give each controller an entry of its own"
        if inner and others:
            hint = f"{', '.join(inner)} stands inside the controller's braces: `{others[0]}: {{…, {inner[0]}: …}}`"
        return f"the keys {', '.join(map(str, given))}; {hint}"
    return short_repr(given)


def arguments_of(name: str, target: object, known: Mapping[str, inspect.Parameter]) -> dict[Any, Any]:
    """What an entry gives a controller: a mapping as it is, nothing as no arguments, anything else as the first parameter.

    Args:
        name: of the controller.
        target: what the entry says of it.
        known: its parameters.
    """
    if isinstance(target, Mapping):
        return dict(target)
    if target is None:
        return {}
    first = next((key for key, p in known.items() if p.kind not in _VARIADIC), name)
    return {first: target}


def _construct(
    name: str, cls: type[Controller], arguments: dict[Any, Any], place: str, problems: ErrorCollector
) -> Controller | None:
    """The controller, whose arguments have the right types; what it says of their meaning are faults."""
    known = parameters(cls)
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        for fault in error.issues if isinstance(error, UsageError) else UsageError(str(error)).issues:
            message = str(fault).removeprefix(f"{name}: ")  # the place says that already
            parameter, _, rest = message.partition(": ")
            problems.add(*((f"{place}.{parameter}", rest) if parameter in known else (place, f"{name}: {message}")))
        return None
    except Exception as error:  # a plugin's own mistake
        problems.add(place, f"{name}: its constructor raised {type(error).__name__}: {error}")
        return None


def _title(given: object, place: str, problems: ErrorCollector) -> str:
    if isinstance(given, str) and re.fullmatch(r"[^\W\d][\w-]*", given):
        return given
    problems.add(f"{place}.name", f"expected a name of letters, digits, _ and -, got {short_repr(given)}")
    return ""
