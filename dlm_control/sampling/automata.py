"""Which texts obey all plans: templates and phrases as automata, and their product."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from dlm_control.control.plan import Gap, Plan
from dlm_control.sampling.languages import Languages, States, Symbol
from dlm_control.sampling.word_sets import Words

Node = tuple[int, int]  # piece of a template, words that its gap has taken


class Template:
    """The texts of a template; each choice of gap sizes is one path."""

    start: Node = (0, 0)

    def __init__(self, pieces: Sequence[int | Gap]) -> None:
        self.pieces = pieces

    def _reachable(self, node: Node) -> Iterator[Node]:
        """The node, and those behind gaps that may close here."""
        piece, taken = node
        yield node
        if piece < len(self.pieces):
            gap = self.pieces[piece]
            if isinstance(gap, Gap) and taken >= gap.least:
                yield from self._reachable((piece + 1, 0))

    def edges(self, node: Node) -> list[tuple[int | None, Node]]:
        """Ways on from a node: the word each takes (None: any) and where it leads."""
        found: list[tuple[int | None, Node]] = []
        for piece, taken in self._reachable(node):
            if piece == len(self.pieces):
                continue
            part = self.pieces[piece]
            if not isinstance(part, Gap):
                found.append((part, (piece + 1, 0)))
            elif part.most is None:
                found.append((None, (piece, min(taken + 1, part.least))))
            elif taken < part.most:
                found.append((None, (piece, taken + 1)))
        return found

    def accepts(self, node: Node) -> bool:
        """May the text end here?"""
        return any(piece == len(self.pieces) for piece, _ in self._reachable(node))


class Progress(NamedTuple):
    """How far a text has come with the phrases it must hold."""

    unmet: frozenset[int]  # demands
    recent: tuple[int, ...]  # the last words, as far as a phrase of an unmet demand begins with them


class Phrases:
    """Demands, each for at least one of several phrases (Aho & Corasick 1975, over words)."""

    def __init__(self, demands: Sequence[Sequence[tuple[int, ...]]]) -> None:
        self._demands = demands
        self.after = lru_cache(maxsize=None)(self._after)
        self.words = lru_cache(maxsize=None)(self._words)

    @property
    def start(self) -> Progress:
        """Nothing said yet."""
        return Progress(frozenset(range(len(self._demands))), ())

    def _words(self, unmet: frozenset[int]) -> frozenset[int]:
        """The words of the unmet demands' phrases; any other is as good as the next."""
        return frozenset(word for demand in unmet for phrase in self._demands[demand] for word in phrase)

    def _after(self, progress: Progress, word: int | None) -> Progress:
        """Where one more word leads; None: one that no unmet phrase holds."""
        if word is None:
            return Progress(progress.unmet, ())
        text = (*progress.recent, word)
        unmet = frozenset(d for d in progress.unmet if not any(text[-len(p) :] == p for p in self._demands[d]))
        begun = {phrase[:n] for demand in unmet for phrase in self._demands[demand] for n in range(1, len(phrase))}
        return Progress(unmet, next((text[i:] for i in range(len(text)) if text[i:] in begun), ()))


def wanted_at(plans: Sequence[Plan], position: int, words: int | None) -> frozenset[int] | None:
    """The words that `at` allows at a position of a text of so many words (None: unknown); None: any."""
    places = (position,) if words is None else (position, position - words)
    expected = [plan.at[place] for plan in plans for place in places if place in plan.at]
    return frozenset.intersection(*expected) if expected else None


def allowed_at(plans: Sequence[Plan], ordinary: Words, words: int | None) -> Callable[[int], Words]:
    """What may stand at each position of a text of so many words (None: unknown).

    Args:
        ordinary: the words that any text may hold.
    """
    usable = replace(ordinary, excluded=ordinary.excluded.union(*(plan.forbidden for plan in plans)))
    return lambda position: replace(usable, expected=wanted_at(plans, position, words))


def feasible_lengths(plans: Sequence[Plan], most: int, ordinary: Words) -> list[int]:
    """The numbers of words, 1 to `most`, of the texts that obey all plans.

    Args:
        ordinary: the words that any text may hold: all but UNK, PAD, END and their like.
    """
    positions = [position for plan in plans for position in plan.at]
    lengths = [
        n
        for n in range(1, most + 1)
        if all((plan.min_words or 0) <= n and (plan.max_words is None or n <= plan.max_words) for plan in plans)
        and all(-n <= position < n for position in positions)
    ]
    if not lengths:
        return []
    walk = _Walk(plans, ordinary)
    ending = -min([0, *positions])  # so many last words have a say in which position is meant
    begun: list[Iterable[_State]] = [[walk.start]]
    for position in range(lengths[-1] - ending):
        begun.append(walk.onward(begun[-1], position, None))
    feasible = []
    for n in lengths:
        states = begun[n - ending]
        for position in range(n - ending, n):
            states = walk.onward(states, position, n)
        if any(map(walk.accepts, states)):
            feasible.append(n)
    return feasible


def shortest_text(plans: Sequence[Plan], most: int, ordinary: Words) -> list[int] | None:
    """The words of a shortest text of 1 to `most` words that obeys all plans, or None. Arguments as `feasible_lengths`."""
    lengths = feasible_lengths(plans, most, ordinary)
    if not lengths:
        return None
    walk, ways = _Walk(plans, ordinary), list[dict[_State, tuple[_State, int]]]()
    states: Iterable[_State] = [walk.start]
    for position in range(lengths[0]):
        ways.append(walk.onward(states, position, lengths[0]))
        states = ways[-1]
    state = next(state for state in states if walk.accepts(state))
    words = []
    for way in reversed(ways):
        state, word = way[state]
        words.append(word)
    return words[::-1]


class _State(NamedTuple):
    """Where a text stands with all plans."""

    nodes: tuple[Node, ...]  # of the templates
    progress: Progress  # with the phrases
    states: States  # of the languages


class _Walk:
    """All ways through the templates, phrases and languages of several plans at once."""

    def __init__(self, plans: Sequence[Plan], ordinary: Words) -> None:
        self._plans, self._ordinary = plans, ordinary
        self._templates = [Template(plan.template) for plan in plans if plan.template is not None]
        self._phrases = Phrases([alternatives for plan in plans for alternatives in plan.phrases])
        self._languages = Languages(plans)
        nodes = tuple(template.start for template in self._templates)
        self.start = _State(nodes, self._phrases.start, self._languages.start)

    def onward(self, states: Iterable[_State], position: int, words: int | None) -> dict[_State, tuple[_State, int]]:
        """Where the word at a position of a text of so many words (None: unknown) may lead.

        Returns:
            Each state that may be reached, with one that leads to it, and by which word.
        """
        allowed, phrases, languages = allowed_at(self._plans, self._ordinary, words)(position), self._phrases, self._languages
        reached: dict[_State, tuple[_State, int]] = {}
        for state in states:
            telling = phrases.words(state.progress.unmet)
            free: list[tuple[int | None, Symbol, int]] = []  # the word, as far as phrases tell it; its symbol; an example
            free += [(word, languages.symbol(word), word) for word in telling if word in allowed]
            free += [(None, symbol, example) for symbol, example in languages.examples(allowed, telling).items()]
            for fixed, nodes in _steps(self._templates, state.nodes):
                given = [(fixed, languages.symbol(fixed), fixed)] if fixed is not None and fixed in allowed else []
                for word, symbol, example in free if fixed is None else given:
                    after = languages.after(state.states, symbol)
                    if after is not None:
                        following = _State(nodes, phrases.after(state.progress, word), after)
                        reached.setdefault(following, (state, example))
        return {state: reached[state] for state in _best(reached)}

    def accepts(self, state: _State) -> bool:
        """May a text end here?"""
        met = not state.progress.unmet and self._languages.accepts(state.states)
        return met and _accept(self._templates, state.nodes)


def _best(states: Iterable[_State]) -> list[_State]:
    """The states that no other one makes superfluous by having met more demands at the same place."""
    best: dict[tuple[tuple[Node, ...], tuple[int, ...], States], list[_State]] = {}
    for state in sorted(states, key=lambda state: len(state.progress.unmet)):
        rivals = best.setdefault((state.nodes, state.progress.recent, state.states), [])
        if not any(rival.progress.unmet <= state.progress.unmet for rival in rivals):
            rivals.append(state)
    return [state for kept in best.values() for state in kept]


def _steps(templates: Sequence[Template], nodes: tuple[Node, ...]) -> Iterator[tuple[int | None, tuple[Node, ...]]]:
    """The choices of one edge a template that agree: the word they fix (None: free) and where they lead."""
    for edges in product(*(template.edges(node) for template, node in zip(templates, nodes, strict=True))):
        fixed = {word for word, _ in edges if word is not None}
        if len(fixed) < 2:
            yield next(iter(fixed), None), tuple(node for _, node in edges)


def _accept(templates: Sequence[Template], nodes: tuple[Node, ...]) -> bool:
    return all(template.accepts(node) for template, node in zip(templates, nodes, strict=True))


class Choice(NamedTuple):
    """How far the gaps of a text are chosen: where its templates stand, and where its languages may stand."""

    nodes: tuple[Node, ...]
    living: frozenset[States]


class GapChoices:
    """Counts the choices of gap sizes that templates, `at`, `forbidden` and languages leave to a text of n words."""

    def __init__(self, plans: Sequence[Plan], words: int, ordinary: Words) -> None:
        self._templates = [Template(plan.template) for plan in plans if plan.template is not None]
        self._languages = Languages(plans)
        allowed = allowed_at(plans, ordinary, words)
        self._allowed = [allowed(position) for position in range(words)]
        self.start = Choice(tuple(template.start for template in self._templates), frozenset({self._languages.start}))
        self._counts = self._counted(words)

    def steps(self, position: int, choice: Choice) -> list[tuple[int | None, Choice]]:
        """Ways on from a position: the word each fixes (None: free) and where it leads."""
        allowed, languages, found = self._allowed[position], self._languages, list[tuple[int | None, Choice]]()
        for word, nodes in _steps(self._templates, choice.nodes):
            symbols: Iterable[Symbol] = [languages.symbol(word)] if word is not None and word in allowed else []
            if word is None:
                symbols = languages.examples(allowed, frozenset())
            reached = {languages.after(states, symbol) for states in choice.living for symbol in symbols}
            living = frozenset(states for states in reached if states is not None)
            if living:
                found.append((word, Choice(nodes, living)))
        return found

    def possible(self, chosen: Mapping[int, int]) -> list[frozenset[int] | None]:
        """What the languages leave to each position of a text with these words chosen; None: all that plans allow there."""
        sets = [
            replace(allowed, expected=frozenset({chosen[position]})) if position in chosen else allowed
            for position, allowed in enumerate(self._allowed)
        ]
        return self._languages.possible(sets)

    def count(self, position: int, choice: Choice) -> int:
        """The choices that are left before a position; `choice` can be reached from the start."""
        return self._counts[position][choice]

    def _counted(self, words: int) -> list[dict[Choice, int]]:
        """The counts of what can be reached before each position, and at the end."""
        ways = [{self.start: list[Choice]()}]
        for position in range(words):
            for choice, onward in ways[-1].items():
                onward += [after for _, after in self.steps(position, choice)]
            ways.append({after: [] for onward in ways[-1].values() for after in onward})
        counts = [{choice: int(self._accepts(choice)) for choice in ways.pop()}]
        for each in reversed(ways):
            counts.append({choice: sum(counts[-1][after] for after in onward) for choice, onward in each.items()})
        return counts[::-1]

    def _accepts(self, choice: Choice) -> bool:
        return any(map(self._languages.accepts, choice.living)) and _accept(self._templates, choice.nodes)
