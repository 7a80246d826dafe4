"""The one validator: which values fit which annotations, what they become, and what is said of those that do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pytest

from dlm_control.support.errors import ErrorCollector, UsageError
from dlm_control.support.validation import check_arguments, checked_call
from dlm_control.support.values import Above, AtLeast, Between, Bound, Fits, MisfitError, NoiseLevels, OneOf, fitted

if TYPE_CHECKING:
    from somewhere import Unknown  # type: ignore[import-not-found]

Size = Annotated[int, Above(0)]


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (int, np.int64(3), 3),
        (Size, np.uint8(3), 3),
        (int, np.array(3), 3),
        (float, np.float32(0.5), 0.5),
        (float, np.int16(2), 2.0),
        (float, np.longdouble(0.5), 0.5),
        (float, 2, 2.0),
        (bool, np.bool_(True), True),
        (str, np.str_("pub"), "pub"),
        (int | None, None, None),
        (int | str, "3", "3"),
        (Literal["a", 1], np.int64(1), 1),
        (tuple[float, float], [0, 1], (0.0, 1.0)),
        (tuple[float, ...], np.array([1, 2]), (1.0, 2.0)),
        (list[int], (1, 2), [1, 2]),
        (Sequence[int], np.arange(2), [0, 1]),
        (Mapping[str, float], {"a": np.int64(1)}, {"a": 1.0}),
        (dict[str, list[int]], {"a": [np.int64(1)]}, {"a": [1]}),
        (Path, "a/b", Path("a/b")),
        (Any, [object], [object]),
        (NoiseLevels, [0, 1], (0.0, 1.0)),
        (Annotated[str, OneOf(lambda: ["x"])], "x", "x"),
    ],
)
def test_values_that_fit_become_python_s_own(kind: Any, given: object, expected: object) -> None:
    found = fitted(kind, given)
    assert found == expected and type(found) is type(expected)
    assert not isinstance(found, (list, tuple)) or all(map(lambda a, b: type(a) is type(b), found, expected))  # type: ignore[call-overload]


def test_numbers_of_pandas_fit() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"words": [8, 9], "cheap": [True, False], "weight": [0.5, 1.0]})
    row = frame.iloc[0]
    assert fitted(int, frame["words"][0]) == 8 and fitted(int, row["words"]) == 8
    assert fitted(bool, row["cheap"]) is True and type(fitted(float, row["weight"])) is float
    assert fitted(list[int], frame["words"]) == [8, 9]
    with pytest.raises(MisfitError, match="expected a whole number, got <NA>"):
        fitted(int, pandas.NA)


@pytest.mark.parametrize(
    ("kind", "given", "raised"),
    [
        (int, True, "expected a whole number, got True"),
        (int, np.bool_(True), "expected a whole number, got True"),
        (int, 3.0, "expected a whole number, got 3.0"),
        (int, np.float64(3.0), "expected a whole number, got 3.0"),
        (float, float("nan"), "expected a number, got nan"),
        (float, 10**400, "expected a number, got 1000"),
        (float, True, "expected a number, got True"),
        (float, "2e-3", "expected a number, got '2e-3' (YAML wants 2.0e-3, not 2e-3)"),
        (bool, 1, "expected true or false, got 1"),
        (str, 3, "expected a string, got 3"),
        (Size, 0, "expected a whole number above 0, got 0"),
        (Size | None, 0, "expected a whole number above 0, got 0"),
        (Annotated[float, AtLeast(0)], -1, "expected a number of 0 or more, got -1"),
        (Annotated[int, Between(0, 9)], 10, "expected a whole number from 0 to 9, got 10"),
        (Annotated[int, Bound("that is even", lambda x: x % 2 == 0)], 3, "expected a whole number that is even, got 3"),
        (int | str, 1.5, "expected a whole number or a string, got 1.5"),
        (Literal["words", "counts"], "word", "unknown 'word', did you mean 'words'?; there are: words, counts"),
        (Literal["a"] | None, ["a"], "unknown ['a']"),
        (Literal[1], True, "unknown True"),
        (Annotated[str, OneOf(lambda: ["ddim"])], "dddim", "unknown 'dddim', did you mean 'ddim'?; there are: ddim"),
        (list[int], "12", "expected a list, each a whole number, got '12'"),
        (list[int], [1, "x"], "[1]: expected a whole number, got 'x'"),
        (str | Sequence[str], ["a", 3], "[1]: expected a string, got 3"),
        (tuple[float, float], [1], "expected a list of a number, a number, got [1]"),
        (NoiseLevels, [0.5, 0.1], "expected two noise levels, 0 <= from < to <= 1, such as [0.1, 1.0], got [0.5, 0.1]"),
        (Annotated[list[str], Fits("a list of names")], [3], "expected a list of names, got [3]"),
        (dict[str, int], {3: 1}, "expected a string as key, got 3"),
        (Mapping[str, int], {"a": "b"}, "a: expected a whole number, got 'b'"),
        (Mapping[str, int], [], "expected keys and values, got []"),
        (Path, 3, "expected Path, got 3"),
    ],
)
def test_values_that_do_not_fit(kind: Any, given: object, raised: str) -> None:
    with pytest.raises(MisfitError) as caught:
        fitted(kind, given)
    assert str(caught.value).startswith(raised)


def made(words: int, guide: Literal["a", "b"] = "a", *, thing: Unknown = None, each: list[Unknown] | None = None) -> None:
    """Its annotations name what only type checkers import."""


def test_all_faults_of_a_call_come_at_once() -> None:
    problems = ErrorCollector("made")
    found = check_arguments(problems, "here", made, {"wrods": 1, 3: 4, "guide": "c", "thing": object, "each": [1, "b"]})
    assert [str(fault) for fault in problems.found] == [
        "here.wrods: unknown key, did you mean 'words'?; it takes words, guide, thing, each",
        "here.3: unknown key; it takes words, guide, thing, each",
        "here.guide: unknown 'c'; there are: a, b",
        "here.words: missing; it takes words, guide, thing, each",
    ]
    assert found == {"thing": object, "each": [1, "b"]}


def test_a_call_in_python_is_held_to_the_same_rules() -> None:
    assert checked_call("made", made, (np.int64(3),), {"guide": "b"}) == ((3,), {"guide": "b"})
    for args, kwargs, raised in (
        ((3, "a", 5), {}, r"made: takes 2 arguments without a name \(words, guide\), got 3"),
        ((3,), {"words": 3}, "made: words: given twice, by place and by name"),
        (("x", "y"), {}, r"(?s)made: 2 problems.*words: expected a whole number.*guide: unknown 'y'"),
        ((), {"wodrs": 1}, "unknown key, did you mean 'words'"),
    ):
        with pytest.raises(UsageError, match=raised):
            checked_call("made", made, args, kwargs)
