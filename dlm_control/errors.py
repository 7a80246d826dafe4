"""What a user sees when something is wrong: one report, every fault in it, each with its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A mistake of the caller's: what was given, what was expected, what to do."""


class Problems:
    """Collects faults so that one report can name them all.

    Attributes:
        found: the faults so far, as "place: what is wrong".
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.found: list[str] = []

    def add(self, place: str, message: str) -> None:
        """Note one fault; an empty place speaks of the whole subject."""
        self.found.append(f"{place}: {message}" if place else message)

    def raise_if_any(self) -> None:
        """
        Raises:
            UsageError: at least one fault was noted; its text lists them all.
        """
        if self.found:
            count = f"{len(self.found)} problem{'s' if len(self.found) > 1 else ''}"
            raise UsageError(f"{self.subject}: {count}\n" + "\n".join(f"  - {problem}" for problem in self.found))


def suggestion(given: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` when a known word is near, else nothing."""
    folded = {word.lower(): word for word in known}
    near = difflib.get_close_matches(str(given).lower(), folded, n=1, cutoff=0.6)
    return f", did you mean {folded[near[0]]!r}?" if near else ""
