"""Does a value that a user wrote fit a type annotation? If so in Python's own types, if not with what would fit.

Known are int, float, bool, str, None, Literal, lists, tuples, mappings, unions of them, classes, and Annotated with the rules
of this module. A value of any other annotation is taken as it is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from dlm_control.support.errors import Issue, short_repr, suggestion

_TOLD: dict[Any, str] = {int: "a whole number", float: "a number", str: "a string", bool: "true or false", NoneType: "nothing"}
LISTS = (list, tuple, Sequence, Collection, Iterable)
MAPPINGS = (dict, Mapping)
_LARGEST = 1e308  # a larger int is no float
_MOST_BITS = 64  # a longer int fits no tensor, and Python refuses to write one of thousands of digits
_EXPONENT = re.compile(r"([+-]?\d+)(e[+-]?\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Bound:
    """A rule of an annotation: `Annotated[int, Bound("that is even", lambda x: x % 2 == 0)]`.

    Attributes:
        words: follow the type's own in "expected a whole number that is even".
        holds: of a value that has the type.
        schema: the same as keywords of a JSON schema, as far as those can say it.
    """

    words: str
    holds: Callable[[Any], bool]
    schema: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Fits(Bound):
    """A rule whose words stand in place of the type's own."""

    holds: Callable[[Any], bool] = lambda value: True


@dataclass(frozen=True)
class OneOf:
    """A rule: one of the options that a function names when a value is checked."""

    options: Callable[[], Collection[str]]


def Above(limit: float) -> Bound:  # noqa: N802  # reads as the type that it makes
    """A rule: more than that."""
    return Bound(f"above {limit:g}", lambda value: value > limit, {"exclusiveMinimum": limit})


def AtLeast(least: float) -> Bound:  # noqa: N802
    """A rule: that or more."""
    return Bound(f"of {least:g} or more", lambda value: value >= least, {"minimum": least})


def Between(least: float, most: float) -> Bound:  # noqa: N802
    """A rule: from one to the other, both included."""
    return Bound(f"from {least} to {most}", lambda value: least <= value <= most, {"minimum": least, "maximum": most})


NoiseLevels = Annotated[
    tuple[float, float],
    Fits("two noise levels, 0 <= from < to <= 1, such as [0.1, 1.0]", lambda ends: 0 <= ends[0] < ends[1] <= 1),
]


Seed = Annotated[int, Between(0, 2**63 - 1)]


class MisfitError(Exception):
    """A value does not fit.

    Attributes:
        issues: places start with that of the value.
        inner: something within the value is at fault.
    """

    def __init__(self, issues: Sequence[Issue], inner: bool = False) -> None:
        super().__init__("; ".join(map(str, issues)))
        self.issues, self.inner = list(issues), inner


def fitted(kind: Any, value: object, place: str = "") -> Any:
    """A value as its annotation wants it: numbers of numpy and pandas as Python's, whole numbers as floats, lists as tuples.

    Args:
        kind: the annotation.
        value: what was given.
        place: of the value, for the faults.

    Raises:
        MisfitError: it does not fit.
    """
    value = plain(value)
    origin, parts = get_origin(kind), get_args(kind)
    if kind in (Any, object):
        return value
    if origin is Annotated:
        return _ruled(kind, value, place)
    if origin in (Union, UnionType):
        return _any_of(kind, value, place)
    if origin is Literal:
        for part in parts:
            if type(part) is type(value) and part == value:
                return value
        raise _unknown(value, parts, place)
    base = origin or kind
    if base in LISTS:
        return _listed(kind, value, place)
    if base in MAPPINGS:
        return _mapped(kind, value, place)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if hasattr(base, "from_json") and isinstance(value, Mapping):  # a Record
        return base.from_json(value, place)
    if kind in (float, int, bool, str) or isinstance(base, type):
        if kind is not float and _is_a(value, base):
            return value
        raise _unfit(kind, value, place)
    if kind is None and value is not None:
        raise _unfit(NoneType, value, place)
    return value


def plain(value: object) -> Any:
    """A number, truth value or text of numpy or pandas as Python's; anything else as it is."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not (isinstance(value, numpy.generic) or (isinstance(value, numpy.ndarray) and value.ndim == 0)):
        return value
    return float(value) if isinstance(value, numpy.floating) else value.item()


def described(kind: Any) -> str:
    """An annotation in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        base, *rules = parts
        whole = [rule.words for rule in rules if isinstance(rule, Fits)]
        more = [rule.words for rule in rules if isinstance(rule, Bound)]
        options = [", ".join(rule.options()) for rule in rules if isinstance(rule, OneOf)]
        return whole[0] if whole else f"one of {options[0]}" if options else " ".join([described(base), *more])
    if origin in (Union, UnionType):
        return " or ".join(map(described, parts))
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if (origin or kind) in LISTS:
        each = [part for part in parts if part is not Ellipsis]
        fixed = origin is tuple and Ellipsis not in parts
        return (
            f"a list of {', '.join(map(described, each))}"
            if fixed
            else f"a list{f', each {described(each[0])}' if each else ''}"
        )
    if (origin or kind) in MAPPINGS:
        return "keys and values"
    if (origin or kind) is Callable:
        return "a function"
    return _TOLD.get(kind, getattr(kind, "__name__", str(kind)))


def _ruled(kind: Any, value: object, place: str) -> Any:
    base, *rules = get_args(kind)
    for rule in rules:
        if isinstance(rule, OneOf) and not (isinstance(value, str) and value in rule.options()):
            raise _unknown(value, list(rule.options()), place)
    try:
        found = fitted(base, value, place)
    except MisfitError as misfit:
        if misfit.inner and not any(isinstance(rule, Fits) for rule in rules):
            raise
        raise _unfit(kind, value, place) from None
    if all(rule.holds(found) for rule in rules if isinstance(rule, Bound)):
        return found
    raise _unfit(kind, value, place)


def _any_of(kind: Any, value: object, place: str) -> Any:
    misfits = []
    for part in get_args(kind):
        try:
            return fitted(part, value, place)
        except MisfitError as misfit:
            misfits.append((part, misfit))
    own = [misfit for part, misfit in misfits if part is not NoneType]
    raise next((misfit for misfit in own if misfit.inner or len(own) == 1), _unfit(kind, value, place))


def _listed(kind: Any, value: object, place: str) -> Any:
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if type(value).__module__.partition(".")[0] in ("numpy", "pandas") and hasattr(value, "tolist"):
        value = value.tolist()  # an array or a column
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise _unfit(kind, value, place)
    fixed = origin is tuple and parts and Ellipsis not in parts
    if fixed and len(value) != len(parts):
        raise _unfit(kind, value, place)
    kinds = parts if fixed else (*(parts or (Any,))[:1],) * len(value)
    issues: list[Issue] = []
    found = [_collected(each, item, f"{place}[{i}]", issues) for i, (each, item) in enumerate(zip(kinds, value, strict=True))]
    if issues:
        raise MisfitError(issues, inner=True)
    if origin is tuple or (origin is list and type(value) is not list):
        return origin(found)
    return value if all(a is b for a, b in zip(found, value, strict=True)) else found


def _mapped(kind: Any, value: object, place: str) -> Any:
    if not isinstance(value, Mapping):
        raise _unfit(kind, value, place)
    keys, values = get_args(kind) or (Any, Any)
    issues: list[Issue] = []
    found = {}
    for key, item in value.items():
        inner = f"{place}.{key}" if place else str(key)
        try:
            found[fitted(keys, key)] = _collected(values, item, inner, issues)
        except MisfitError:
            issues.append(Issue(place, f"expected {described(keys)} as key, got {short_repr(key)}"))
    if issues:
        raise MisfitError(issues, inner=True)
    return found


def _collected(kind: Any, value: object, place: str, issues: list[Issue]) -> Any:
    try:
        return fitted(kind, value, place)
    except MisfitError as misfit:
        issues += misfit.issues
        return None


def _is_a(value: object, kind: type) -> bool:
    if kind is int and (isinstance(value, bool) or (isinstance(value, int) and value.bit_length() > _MOST_BITS)):
        return False
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol, which cannot be asked
        return True


def _unfit(kind: Any, value: object, place: str) -> MisfitError:
    number = isinstance(value, str) and "number" in described(kind) and _EXPONENT.fullmatch(value)
    hint = f" (YAML wants {number[1]}.0{number[2]}, not {value})" if number else ""
    hint = hint or (f" (a class; make one: {value.__name__}(…))" if isinstance(value, type) else "")
    return MisfitError([Issue(place, f"expected {described(kind)}, got {short_repr(value)}{hint}")])


def _unknown(value: object, options: Collection[Any], place: str) -> MisfitError:
    given = value if isinstance(value, str) else short_repr(value)
    near = suggestion(given, map(str, options)) if isinstance(value, (str, list)) else ""
    return MisfitError([Issue(place, f"unknown {short_repr(value)}{near}; there are: {', '.join(map(str, options))}")])
