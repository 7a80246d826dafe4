"""What a user sees when something is wrong: one report, every fault in it, each with its place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

_LONGEST = 60  # letters that are compared with known words


class Issue(NamedTuple):
    """One thing that is wrong, and where; an empty place means the whole subject."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class UsageError(ValueError):
    """A mistake of the caller's: what was given, what was expected, what to do.

    Attributes:
        issues: those that a report lists; the message itself where there is but one.
    """

    def __init__(self, message: str, issues: Sequence[Issue] = ()) -> None:
        super().__init__(message)
        self.issues = tuple(issues) or (Issue("", message),)


class ErrorCollector:
    """Collects faults so that one report can name them all.

    Args:
        subject: what is faulty: a file, a preset, …
        lines: where the subject is a file, the line of each place; a place that is not there takes that of what holds it.

    Attributes:
        found: the faults so far.
    """

    def __init__(self, subject: str, lines: Mapping[str, int] | None = None) -> None:
        self.subject, self.lines = subject, {} if lines is None else lines
        self.found: list[Issue] = []

    def add(self, place: str, message: str) -> None:
        """Note one fault; an empty place means the whole subject."""
        self.found.append(Issue(place, message))

    def extend(self, place: str, error: UsageError) -> None:
        """Note the faults of another report, their places below this one's."""
        for fault in error.issues:
            self.add(f"{place}.{fault.place}" if place and fault.place else place or fault.place, fault.message)

    def raise_if_any(self) -> None:
        """
        Raises:
            UsageError: at least one fault was noted; its text lists them all.
        """
        if self.found:
            count = f"{len(self.found)} problem{'s' if len(self.found) > 1 else ''}"
            listed = "\n".join(f"  - {self._line(fault.place)}{fault}" for fault in self.found)
            raise UsageError(f"{self.subject}: {count}\n{listed}", self.found)

    def line_of(self, place: str) -> int | None:
        """The line of a place such as `controls[1].weight` or `controls[1] (river)`; None where it is not known."""
        place = place.partition(" (")[0]
        while place and place not in self.lines:
            place = re.sub(r"(^|\.|\[)[^.\[]*$", "", place)
        return self.lines[place] if place else None

    def _line(self, place: str) -> str:
        line = self.line_of(place)
        return "" if line is None else f"{self.subject}:{line}: "


def suggestion(given: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` when a known word is near, else nothing."""
    folded = {word.lower(): word for word in known}
    near = difflib.get_close_matches(str(given)[:_LONGEST].lower(), folded, n=1, cutoff=0.6)
    return f", did you mean {folded[near[0]]!r}?" if near else ""


def short_repr(value: object, most: int = 80) -> str:
    """What was given, as a report shows it: its repr, cut where it is long."""
    try:
        text = repr(value)
    except Exception:  # a whole number of more than 4,300 digits, or an object's own mistake
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= most else f"{text[: most - 1]}…"
