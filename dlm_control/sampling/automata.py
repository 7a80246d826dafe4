"""Which texts obey all plans: templates and phrases as automata, and their product."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from dlm_control.control.plan import Gap, Plan
from dlm_control.sampling.languages import Languages, States, Symbol

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


def feasible_lengths(plans: Sequence[Plan], most: int, ordinary: frozenset[int]) -> list[int]:
    """The numbers of words, 1 to `most`, of the texts that obey all plans.

    Args:
        ordinary: the words a text may hold: all but UNK, PAD and END.
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
    if any(position < 0 for position in positions):
        return [n for n in lengths if _endings(plans, n, ordinary, n)[-1]]
    endings = _endings(plans, lengths[-1], ordinary, None)
    return [n for n in lengths if endings[n - 1]]


def shortest_text(plans: Sequence[Plan], most: int, ordinary: frozenset[int]) -> list[int] | None:
    """The words of a shortest text of 1 to `most` words that obeys all plans, or None. Arguments as `feasible_lengths`."""
    lengths = feasible_lengths(plans, most, ordinary)
    if not lengths:
        return None
    layers = list(_layers(plans, lengths[0], ordinary, lengths[0]))
    state = next(state for state in layers[-1] if state.may_end)
    words = []
    for layer in reversed(layers):
        state, word = layer[state]
        words.append(word)
    return words[::-1]


class _State(NamedTuple):
    """Where a text stands with all plans."""

    nodes: tuple[Node, ...]  # of the templates
    progress: Progress  # with the phrases
    states: States  # of the languages
    may_end: bool


def _endings(plans: Sequence[Plan], most: int, ordinary: frozenset[int], words: int | None) -> list[bool]:
    """May a text end after 1, 2, … `most` words?"""
    return [any(state.may_end for state in layer) for layer in _layers(plans, most, ordinary, words)]


def _layers(
    plans: Sequence[Plan], most: int, ordinary: frozenset[int], words: int | None
) -> Iterator[dict[_State, tuple[_State, int]]]:
    """Where texts may stand after 1, 2, … `most` words: each state with one that leads to it, and by which word.

    Args:
        plans: what the texts obey.
        most: how many words.
        ordinary: the words a text may hold.
        words: the length of the texts, if it is known.
    """
    templates = [Template(plan.template) for plan in plans if plan.template is not None]
    phrases = Phrases([alternatives for plan in plans for alternatives in plan.phrases])
    languages = Languages(plans)
    usable = ordinary.difference(*(plan.forbidden for plan in plans))
    layer = [_State(tuple(template.start for template in templates), phrases.start, languages.start, False)]
    for position in range(most):
        expected = wanted_at(plans, position, words)
        allowed = usable if expected is None else usable & expected
        reached: dict[_State, tuple[_State, int]] = {}
        for state in layer:
            telling = phrases.words(state.progress.unmet)
            examples = languages.examples(allowed, telling)
            free: list[tuple[int | None, Symbol, int]] = [(word, languages.symbol(word), word) for word in telling & allowed]
            free += [(None, symbol, example) for symbol, example in examples.items()]
            for fixed, nodes in _steps(templates, state.nodes):
                given = [(fixed, languages.symbol(fixed), fixed)] if fixed in allowed else []
                for word, symbol, example in free if fixed is None else given:
                    states = languages.after(state.states, symbol)
                    if states is not None:
                        progress = phrases.after(state.progress, word)
                        may_end = not progress.unmet and _accept(templates, nodes) and languages.accepts(states)
                        reached.setdefault(_State(nodes, progress, states, may_end), (state, example))
        layer = _best(reached)
        yield {state: reached[state] for state in layer}


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

    def __init__(self, plans: Sequence[Plan], words: int, ordinary: frozenset[int]) -> None:
        self._templates = [Template(plan.template) for plan in plans if plan.template is not None]
        self._languages = Languages(plans)
        self._words = words
        usable = ordinary.difference(*(plan.forbidden for plan in plans))
        expected = [wanted_at(plans, position, words) for position in range(words)]
        self._allowed = [usable if these is None else usable & these for these in expected]
        self.start = Choice(tuple(template.start for template in self._templates), frozenset({self._languages.start}))
        self.count = lru_cache(maxsize=None)(self._count)

    def steps(self, position: int, choice: Choice) -> list[tuple[int | None, Choice]]:
        """Ways on from a position: the word each fixes (None: free) and where it leads."""
        allowed, found = self._allowed[position], list[tuple[int | None, Choice]]()
        for word, nodes in _steps(self._templates, choice.nodes):
            symbols = (
                self._languages.examples(allowed, frozenset())
                if word is None
                else [self._languages.symbol(word)]
                if word in allowed
                else []
            )
            reached = {self._languages.after(states, symbol) for states in choice.living for symbol in symbols}
            living = frozenset(states for states in reached if states is not None)
            if living:
                found.append((word, Choice(nodes, living)))
        return found

    def possible(self, fixed: Sequence[int | None]) -> list[frozenset[int]]:
        """The words that may stand at each position of a text with these words fixed."""
        sets = [allowed if word is None else frozenset({word}) for word, allowed in zip(fixed, self._allowed, strict=True)]
        return self._languages.possible(sets)

    def _count(self, position: int, choice: Choice) -> int:
        if position == self._words:
            accepted = any(self._languages.accepts(states) for states in choice.living)
            return int(accepted and _accept(self._templates, choice.nodes))
        return sum(self.count(position + 1, after) for _, after in self.steps(position, choice))
