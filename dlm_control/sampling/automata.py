"""Which texts obey all plans: templates and phrases as automata, and their product."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from dlm_control.control.plan import Gap, Plan

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

    def beyond(self, words: frozenset[int]) -> bool:
        """Is there one that is none of these?"""
        if self.expected is None:
            return len(self.excluded | words) < self.size
        return any(word not in words and word not in self.excluded for word in self.expected)

    def __bool__(self) -> bool:
        return self.beyond(frozenset())


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
    begun = [walk.start]
    for position in range(lengths[-1] - ending):
        begun.append(walk.onward(begun[-1], position, None))
    feasible = []
    for n in lengths:
        states = begun[n - ending]
        for position in range(n - ending, n):
            states = walk.onward(states, position, n)
        if walk.accepts(states):
            feasible.append(n)
    return feasible


_State = tuple[tuple[Node, ...], Progress]


class _Walk:
    """All ways through the templates and phrases of several plans at once."""

    def __init__(self, plans: Sequence[Plan], ordinary: Words) -> None:
        self._plans, self._ordinary = plans, ordinary
        self._templates = [Template(plan.template) for plan in plans if plan.template is not None]
        self._phrases = Phrases([alternatives for plan in plans for alternatives in plan.phrases])
        self.start = {(tuple(template.start for template in self._templates), self._phrases.start)}

    def onward(self, states: set[_State], position: int, words: int | None) -> set[_State]:
        """Where the word at a position of a text of so many words (None: unknown) may lead."""
        allowed, phrases = allowed_at(self._plans, self._ordinary, words)(position), self._phrases
        reached = set()
        for nodes, progress in states:
            telling = phrases.words(progress.unmet)
            free: list[int | None] = [word for word in telling if word in allowed]
            free += [None] if allowed.beyond(telling) else []
            for fixed, after in _steps(self._templates, nodes):
                if fixed is None:
                    reached |= {(after, phrases.after(progress, word)) for word in free}
                elif fixed in allowed:
                    reached.add((after, phrases.after(progress, fixed)))
        return _best(reached)

    def accepts(self, states: set[_State]) -> bool:
        """May a text end here?"""
        return any(not progress.unmet and _accept(self._templates, nodes) for nodes, progress in states)


def _best(states: Iterable[tuple[tuple[Node, ...], Progress]]) -> set[tuple[tuple[Node, ...], Progress]]:
    """The states that no other one makes superfluous by having met more demands at the same place."""
    best: dict[tuple[tuple[Node, ...], tuple[int, ...]], list[frozenset[int]]] = {}
    for nodes, (unmet, recent) in sorted(states, key=lambda state: len(state[1].unmet)):
        rivals = best.setdefault((nodes, recent), [])
        if not any(rival <= unmet for rival in rivals):
            rivals.append(unmet)
    return {(nodes, Progress(unmet, recent)) for (nodes, recent), kept in best.items() for unmet in kept}


def _steps(templates: Sequence[Template], nodes: tuple[Node, ...]) -> Iterator[tuple[int | None, tuple[Node, ...]]]:
    """The choices of one edge a template that agree: the word they fix (None: free) and where they lead."""
    for edges in product(*(template.edges(node) for template, node in zip(templates, nodes, strict=True))):
        fixed = {word for word, _ in edges if word is not None}
        if len(fixed) < 2:
            yield next(iter(fixed), None), tuple(node for _, node in edges)


def _accept(templates: Sequence[Template], nodes: tuple[Node, ...]) -> bool:
    return all(template.accepts(node) for template, node in zip(templates, nodes, strict=True))


class GapChoices:
    """Counts the choices of gap sizes that templates, `at` and `forbidden` leave to a text of n words."""

    def __init__(self, plans: Sequence[Plan], words: int, ordinary: Words) -> None:
        self._templates = [Template(plan.template) for plan in plans if plan.template is not None]
        allowed = allowed_at(plans, ordinary, words)
        self._allowed = [allowed(position) for position in range(words)]
        self.start = tuple(template.start for template in self._templates)
        self._counts = self._counted(words)

    def steps(self, position: int, nodes: tuple[Node, ...]) -> list[tuple[int | None, tuple[Node, ...]]]:
        """Ways on from a position: the word each fixes (None: free) and where it leads."""
        allowed = self._allowed[position]
        return [
            (word, after)
            for word, after in _steps(self._templates, nodes)
            if (bool(allowed) if word is None else word in allowed)
        ]

    def count(self, position: int, nodes: tuple[Node, ...]) -> int:
        """The choices that are left at a node before a position; it can be reached from the start."""
        return self._counts[position][nodes]

    def _counted(self, words: int) -> list[dict[tuple[Node, ...], int]]:
        """The counts of the nodes before each position, and at the end."""
        ways = [{self.start: list[tuple[Node, ...]]()}]
        for position in range(words):
            for nodes, onward in ways[-1].items():
                onward += [after for _, after in self.steps(position, nodes)]
            ways.append({after: [] for onward in ways[-1].values() for after in onward})
        counts = [{nodes: int(_accept(self._templates, nodes)) for nodes in ways.pop()}]
        for each in reversed(ways):
            counts.append({nodes: sum(counts[-1][after] for after in onward) for nodes, onward in each.items()})
        return counts[::-1]
