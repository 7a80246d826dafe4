"""Sets of words that are never listed as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """The words that may stand at a place. The set is never listed: vocabularies are large, and plans name few words.

    Attributes:
        expected: they are among these; None: among all.
        excluded: they are none of these.
        size: of the vocabulary.
    """

    expected: frozenset[int] | None
    excluded: frozenset[int]
    size: int

    def __contains__(self, word: int) -> bool:
        return word not in self.excluded and (self.expected is None or word in self.expected)

    def __iter__(self) -> Iterator[int]:
        """The words one by one, the first first: for those who need few of them, or all."""
        candidates = range(self.size) if self.expected is None else sorted(self.expected)
        return (word for word in candidates if word not in self.excluded)
