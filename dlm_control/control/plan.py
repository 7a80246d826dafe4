"""What a control fixes before sampling starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dlm_control.text.automaton import Automaton


class Gap(NamedTuple):
    """A stretch of free words: at least `least`, at most `most` (None: whatever fits)."""

    least: int = 0
    most: int | None = None


@dataclass(frozen=True, eq=False)
class Language:
    """Texts of a vocabulary, as an automaton reads them.

    Attributes:
        classes: of each word id; −1 for words that may not occur.
        automaton: over these classes.
    """

    classes: tuple[int, ...]
    automaton: Automaton


@dataclass(frozen=True)
class Plan:
    """What a control fixes before sampling starts, in words counted from 0.

    Attributes:
        min_words, max_words: lengths it allows; None is no bound.
        at: word ids allowed at a position; negative positions count from the end (−1 is the last word).
        forbidden: word ids that must not occur.
        phrases: for each demand, the word-id sequences of which one must occur somewhere.
        template: fixed words and gaps that make up the whole text, or None.
        language: the texts it allows, or None for all.
    """

    min_words: int | None = None
    max_words: int | None = None
    at: Mapping[int, frozenset[int]] = field(default_factory=dict)
    forbidden: frozenset[int] = frozenset()
    phrases: tuple[tuple[tuple[int, ...], ...], ...] = ()
    template: tuple[int | Gap, ...] | None = None
    language: Language | None = None
