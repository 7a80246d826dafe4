"""Do keys and values that a user wrote fit the parameters of what they are for?"""

from __future__ import annotations

import builtins
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from dlm_control.support.errors import ErrorCollector, UsageError, short_repr, suggestion
from dlm_control.support.values import MisfitError, fitted

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_arguments(
    problems: ErrorCollector,
    place: str,
    function: Callable[..., Any],
    given: Mapping[Any, Any],
    positional: int = 0,
    takes: str | None = None,
    others: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Note the keys that a function (or a class's constructor) does not take, those it lacks, and values of other types.

    Args:
        problems: takes the faults.
        place: of the keys; empty for the whole subject.
        function: that is to be called with them; its annotations are rules of `dlm_control.support.values`.
        given: keys and values.
        positional: how many of its first parameters are not for the user to give.
        takes: what it takes, in words; by default the names of its parameters.
        others: keys that something else takes, for suggestions.

    Returns:
        The values that fit, in the types of their annotations.
    """
    parameters = list(inspect.signature(function).parameters.items())
    known, reserved = dict(parameters[positional:]), dict(parameters[:positional])
    kinds = parameter_types(function)
    open_ended = next((p.name for p in known.values() if p.kind is p.VAR_KEYWORD), None)
    named = {key: p for key, p in known.items() if p.kind not in _VARIADIC}
    takes = takes or f"it takes {', '.join(named if open_ended is None else known) or 'nothing'}"
    head = f"{place}." if place else ""
    found = {}
    for key, value in given.items():
        if not isinstance(key, str) or key in reserved or (key not in named and open_ended is None):
            key = key if isinstance(key, str) else short_repr(key)
            problems.add(f"{head}{key}", f"unknown key{suggestion(key, [*named, *others])}; {takes}")
            continue
        try:
            found[key] = fitted(kinds.get(key if key in named else str(open_ended), Any), value, f"{head}{key}")
        except MisfitError as misfit:
            problems.found += misfit.issues
    for key, parameter in named.items():
        if key not in given and parameter.default is parameter.empty:
            problems.add(f"{head}{key}", f"missing; {takes}")
    return found


def construct(cls: type[T], place: str, /, *arguments: Any, **settings: Any) -> T:
    """An object of a class, of settings that a user gave.

    Args:
        cls: its constructor's annotations are rules of `dlm_control.support.values`.
        place: heads the report of faults.
        *arguments: what is not for the user to give.
        **settings: what the user gave.

    Raises:
        UsageError: settings do not fit; all faults in one report.
    """
    problems = ErrorCollector(place)
    found = check_arguments(problems, "", cls, settings, positional=len(arguments))
    problems.raise_if_any()
    return cls(*arguments, **found)


def checked_constructor(init: F, title: Callable[[Any], str]) -> F:
    """An `__init__` whose arguments are checked against its annotations before it runs; one that is checked stays as it is.

    Args:
        init: to be wrapped; its signature is kept.
        title: of an object that is being made, heads the report of its faults.
    """
    if hasattr(init, "checks_arguments"):
        return init

    @wraps(init)
    def checked(self: Any, /, *args: Any, **kwargs: Any) -> None:
        args, kwargs = checked_call(title(self), init, args, kwargs, own=1)
        init(self, *args, **kwargs)

    checked.checks_arguments = True  # type: ignore[attr-defined]
    return checked  # type: ignore[return-value]


def checked_call_of(subject: str, own: int = 0) -> Callable[[F], F]:
    """Decorator: the arguments of every call are checked against the function's annotations.

    Args:
        subject: heads the report of faults.
        own: how many of its first parameters, such as `self`, are not checked.
    """

    def decorate(function: F) -> F:
        @wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            given, named = checked_call(subject, function, args[own:], kwargs, own)
            return function(*args[:own], *given, **named)

        return checked  # type: ignore[return-value]

    return decorate


def checked_call(
    subject: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], own: int = 0
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call in Python, in the types of their annotations.

    Args:
        subject: heads the report of faults.
        function: that is called.
        args, kwargs: with what.
        own: how many of its first parameters are not among them.

    Raises:
        UsageError: they do not fit, all faults in one report; of a single one in one line.
    """
    problems = ErrorCollector(subject)
    parameters = list(inspect.signature(function).parameters.values())[own:]
    names = [p.name for p in parameters if p.kind in _POSITIONAL]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    if len(args) > len(names) and rest is None:
        problems.add("", f"takes {len(names)} arguments without a name ({', '.join(names) or 'none'}), got {len(args)}")
    given = dict(zip(names, args, strict=False))
    for key in given.keys() & kwargs.keys():
        problems.add(key, "given twice, by place and by name")
    found = check_arguments(problems, "", function, {**kwargs, **given}, own)
    if len(problems.found) == 1:
        raise UsageError(f"{subject}: {problems.found[0]}", problems.found)
    problems.raise_if_any()
    placed = tuple(found.pop(name) for name in names[: len(args)])
    return (*placed, *args[len(names) :]), found


def parameter_types(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of a function's (or constructor's) parameters; Any for what only type checkers import."""
    bare = inspect.unwrap(function.__init__ if inspect.isclass(function) else function)
    names = {**vars(sys.modules.get(getattr(bare, "__module__", ""), builtins)), **getattr(bare, "__globals__", {})}
    parameters = inspect.signature(function).parameters.values()
    return {p.name: _evaluated(p.annotation, names) for p in parameters if p.annotation is not p.empty}


class _Lenient(dict[str, Any]):
    """Names that nothing else knows are Any."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        super().__init__()
        self._known = known

    def __missing__(self, name: str) -> Any:
        if name in self._known or hasattr(builtins, name):
            raise KeyError(name)
        return Any


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names, _Lenient(names))
    except Exception:  # not for this interpreter: the value is taken as it is
        return Any
