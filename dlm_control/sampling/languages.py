"""The languages of several plans together: which words a text may go on with, and where it leads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from dlm_control.control.plan import Language, Plan
from dlm_control.sampling.word_sets import Words

States = tuple[int, ...]  # of the automata of all languages
Symbol = tuple[int, ...]  # the classes of a word in all languages


class Languages:
    """The languages of plans, walked side by side; without languages there is one state, and every word is like the next."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._languages: list[Language] = [plan.language for plan in plans if plan.language is not None]
        self.start: States = (0,) * len(self._languages)
        self._symbols = list(zip(*(language.classes for language in self._languages), strict=True))
        self.after = lru_cache(maxsize=None)(self._after)
        self.examples = lru_cache(maxsize=64)(self._examples)

    def __bool__(self) -> bool:
        return bool(self._languages)

    def symbol(self, word: int) -> Symbol:
        """What the automata read of a word."""
        return self._symbols[word] if self._languages else ()

    def _after(self, states: States, symbol: Symbol) -> States | None:
        """Where a word leads; None if no text goes on from there, or the word may not occur."""
        if any(word_class < 0 for word_class in symbol):
            return None
        steps = [
            int(language.automaton.steps[state, word_class])
            for language, state, word_class in zip(self._languages, states, symbol, strict=True)
        ]
        alive = all(language.automaton.alive[state] for language, state in zip(self._languages, steps, strict=True))
        return tuple(steps) if alive else None

    def accepts(self, states: States) -> bool:
        """May a text end here?"""
        return all(language.automaton.accepting[state] for language, state in zip(self._languages, states, strict=True))

    def _examples(self, words: Words, without: frozenset[int]) -> dict[Symbol, int]:
        """What the automata may read of words but some, and the first word of each kind."""
        left = (word for word in words if word not in without)
        if not self._languages:
            first = next(left, None)
            return {} if first is None else {(): first}
        found: dict[Symbol, int] = {}
        for word in left:
            found.setdefault(self._symbols[word], word)
        return found

    def possible(self, allowed: Sequence[Words]) -> list[frozenset[int] | None]:
        """The words that stand at each position in some text of all languages; None: all of those allowed there."""
        if not self._languages:
            return [None] * len(allowed)
        kinds = [self.examples(words, frozenset()) for words in allowed]
        reached = [{self.start}]
        for symbols in kinds:
            following = (self.after(states, symbol) for states in reached[-1] for symbol in symbols)
            reached.append({states for states in following if states is not None})
        living, possible = {states for states in reached[-1] if self.accepts(states)}, list[frozenset[int] | None]()
        for words, before, symbols in zip(allowed[::-1], reached[-2::-1], kinds[::-1], strict=True):
            ways = [(states, symbol) for states in before for symbol in symbols if self.after(states, symbol) in living]
            living, kept = {states for states, _ in ways}, {symbol for _, symbol in ways}
            everything = len(kept) == len(symbols)
            possible.append(None if everything else frozenset(word for word in words if self._symbols[word] in kept))
        return possible[::-1]
