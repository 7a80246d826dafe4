"""Merging what the controls fix: one automaton a control, and their product says which layouts exist."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product

import torch
from torch import Tensor

from dlm_control.controller import Gap, Plan
from dlm_control.data import canvas_of
from dlm_control.errors import Problems
from dlm_control.tokenizer import WordTokenizer

Node = Hashable
Edge = tuple[int | None, Node]  # the word it takes (None: any) and where it leads


class Automaton(ABC):
    """A set of word sequences."""

    start: Node

    @abstractmethod
    def edges(self, node: Node) -> list[Edge]:
        """Ways on from a node, one word each."""

    @abstractmethod
    def accepts(self, node: Node) -> bool:
        """May the text end here?"""


class TemplateAutomaton(Automaton):
    """Exactly the texts of a template; each choice of gap sizes is one path."""

    start = (0, 0)  # piece, words its gap has taken

    def __init__(self, pieces: Sequence[int | Gap]) -> None:
        self.pieces = pieces

    def _reachable(self, node: Node) -> Iterator[tuple[int, int]]:
        """The node, and those behind gaps that may close here."""
        piece, taken = node  # type: ignore[misc]
        yield piece, taken
        if piece < len(self.pieces):
            gap = self.pieces[piece]
            if isinstance(gap, Gap) and taken >= gap.least:
                yield from self._reachable((piece + 1, 0))

    def edges(self, node: Node) -> list[Edge]:
        found: list[Edge] = []
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
        return any(piece == len(self.pieces) for piece, _ in self._reachable(node))


class PhraseAutomaton(Automaton):
    """The texts that hold at least one of several phrases."""

    start = "before"

    def __init__(self, alternatives: Sequence[tuple[int, ...]]) -> None:
        self.alternatives = alternatives

    def edges(self, node: Node) -> list[Edge]:
        if node == "after":
            return [(None, "after")]
        if node == "before":
            begun = [(phrase[0], self._within(i, 1)) for i, phrase in enumerate(self.alternatives)]
            return [(None, "before"), *begun]
        i, taken = node  # type: ignore[misc]
        return [(self.alternatives[i][taken], self._within(i, taken + 1))]

    def _within(self, i: int, taken: int) -> Node:
        return "after" if taken == len(self.alternatives[i]) else (i, taken)

    def accepts(self, node: Node) -> bool:
        return node == "after"


@dataclass(frozen=True)
class Layout:
    """What is fixed for one item.

    Attributes:
        words: length of its text, −1 where the model decides.
        canvas: positions, END and PADs included.
        allowed: (canvas, vocab) bool, the words that may stand at each position.
    """

    words: int
    canvas: int
    allowed: Tensor


class Layouts:
    """The layouts that several plans leave open.

    Args:
        plans: each with the name of its controller, for reports.
        tokenizer: of the language model.
        length_counts: how many training sentences have n words; lengths are drawn in proportion.
        max_canvas: positions at most.

    Raises:
        UsageError: no text obeys all plans; the report names those that contradict each other.
    """

    def __init__(
        self, plans: Sequence[tuple[str, Plan]], tokenizer: WordTokenizer, length_counts: Sequence[int], max_canvas: int
    ) -> None:
        self._plans, self._tokenizer, self._max_canvas = plans, tokenizer, max_canvas
        self._special = {tokenizer.unk_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id}
        merged = [plan for _, plan in plans]
        self._forbidden = frozenset().union(*(plan.forbidden for plan in merged)) | {tokenizer.unk_token_id}
        self._templates = [TemplateAutomaton(plan.template) for plan in merged if plan.template is not None]
        self.fixes_length = bool(self._templates) or any(
            plan.min_words is not None or plan.max_words is not None or any(p < 0 for p in plan.at) for plan in merged
        )
        feasible = [n for n in range(1, max_canvas) if _exists(merged, n, self._special)]
        if not feasible:
            self._explain()
        weights = [length_counts[n] + 0.01 if n < len(length_counts) else 0.01 for n in feasible]
        self._lengths, self._weights = feasible, torch.tensor(weights, dtype=torch.float64)

    def draw(self, generator: torch.Generator) -> Layout:
        """One layout: a length as frequent as in training, then gap sizes, all choices alike."""
        words = self._lengths[int(torch.multinomial(self._weights, 1, generator=generator))]
        if not self.fixes_length:
            spare = int(torch.randint(1, 9, (), generator=generator))
            spare = spare if torch.rand((), generator=generator) < 0.25 else 0  # as CanvasBatches does
            canvas = canvas_of(words, self._max_canvas, spare)
            return Layout(-1, canvas, self._allowed(canvas, None, [None] * canvas, canvas))
        canvas = canvas_of(words, self._max_canvas)
        return Layout(words, canvas, self._allowed(canvas, words, self._path(words, generator), words))

    def _path(self, words: int, generator: torch.Generator) -> list[int | None]:
        """The words that the templates fix, position by position, in a random choice of gap sizes."""
        ways = _Ways([plan for _, plan in self._plans], self._templates, words, self._special)
        nodes, fixed = tuple(a.start for a in self._templates), list[int | None]()
        for position in range(words):
            options = list(ways.steps(position, nodes))
            counts = torch.tensor([float(ways.count(position + 1, after)) for _, after in options], dtype=torch.float64)
            word, nodes = options[int(torch.multinomial(counts, 1, generator=generator))]
            fixed.append(word)
        return fixed

    def _allowed(self, canvas: int, words: int | None, fixed: list[int | None], open_until: int) -> Tensor:
        pad, end = self._tokenizer.pad_token_id, self._tokenizer.eos_token_id
        allowed = torch.ones(canvas, len(self._tokenizer), dtype=torch.bool)
        allowed[:, sorted(self._forbidden)] = False
        if words is not None:
            allowed[:words, [pad, end]] = False
            allowed[words:] = False
            allowed[words, end] = True
            allowed[words + 1 :, pad] = True
        else:
            allowed[0, [pad, end]] = False  # never an empty text
        for position in range(open_until):
            wanted = _wanted([plan for _, plan in self._plans], position, words, fixed[position])
            if wanted is not None:
                row = torch.zeros(len(self._tokenizer), dtype=torch.bool)
                row[sorted(wanted)] = True
                allowed[position] &= row
        return allowed

    def _explain(self) -> None:
        """Raise with the smallest sets of controls that contradict each other."""
        most = self._max_canvas - 1
        for size in range(1, len(self._plans) + 1):
            clashes = [
                group
                for group in combinations(self._plans, size)
                if not any(_exists([plan for _, plan in group], n, self._special) for n in range(1, most + 1))
            ]
            if clashes:
                problems = Problems("controls that no text can obey")
                for group in clashes:
                    needs = "; ".join(f"{name} needs {_needs(plan)}" for name, plan in group)
                    problems.add("", f"{needs}; a text has 1 to {most} words")
                problems.raise_if_any()
        raise AssertionError("an infeasible set has an infeasible subset")


class _Ways:
    """Counts the paths through the product of automata for a text of n words."""

    def __init__(self, plans: Sequence[Plan], automata: Sequence[Automaton], words: int, special: set[int]) -> None:
        self._plans, self._automata, self._words, self._special = plans, automata, words, special
        self._forbidden = frozenset().union(*(plan.forbidden for plan in plans)) | special
        self.count = lru_cache(maxsize=None)(self._count)

    def steps(self, position: int, nodes: tuple[Node, ...]) -> Iterator[tuple[int | None, tuple[Node, ...]]]:
        """The compatible choices of one edge an automaton: the word they fix (None: free) and where they lead."""
        for edges in product(*(a.edges(node) for a, node in zip(self._automata, nodes, strict=True))):
            fixed = {word for word, _ in edges if word is not None}
            if len(fixed) > 1:
                continue
            word = next(iter(fixed), None)
            wanted = _wanted(self._plans, position, self._words, word)
            if wanted is None or wanted - self._forbidden:
                yield word, tuple(node for _, node in edges)

    def _count(self, position: int, nodes: tuple[Node, ...]) -> int:
        if position == self._words:
            return int(all(a.accepts(node) for a, node in zip(self._automata, nodes, strict=True)))
        return sum(self.count(position + 1, after) for _, after in self.steps(position, nodes))


def _exists(plans: Sequence[Plan], words: int, special: set[int]) -> bool:
    """Is there a text of n words that obeys the plans?"""
    if any(plan.min_words is not None and words < plan.min_words for plan in plans):
        return False
    if any(plan.max_words is not None and words > plan.max_words for plan in plans):
        return False
    if any(not -words <= position < words for plan in plans for position in plan.at):
        return False
    automata: list[Automaton] = [TemplateAutomaton(plan.template) for plan in plans if plan.template is not None]
    automata += [PhraseAutomaton(alternatives) for plan in plans for alternatives in plan.phrases]
    return _Ways(plans, automata, words, special).count(0, tuple(a.start for a in automata)) > 0


def _wanted(plans: Sequence[Plan], position: int, words: int | None, fixed: int | None) -> frozenset[int] | None:
    """The words that may stand at a position by `at` and by a template's word; None: any."""
    wanted: frozenset[int] | None = None if fixed is None else frozenset({fixed})
    for plan in plans:
        for place in (position,) if words is None else (position, position - words):
            if place in plan.at:
                wanted = plan.at[place] if wanted is None else wanted & plan.at[place]
    return wanted


def _needs(plan: Plan) -> str:
    """A plan in words, for a report of contradictions."""
    parts = []
    if plan.min_words is not None or plan.max_words is not None:
        low, high = plan.min_words, plan.max_words
        parts.append(f"{low} words" if low == high else f"{low or 1} to {'any number of' if high is None else high} words")
    if plan.template is not None:
        given = sum(not isinstance(piece, Gap) for piece in plan.template)
        free = [piece for piece in plan.template if isinstance(piece, Gap)]
        least = given + sum(gap.least for gap in free)
        most = None if any(gap.most is None for gap in free) else given + sum(gap.most or 0 for gap in free)
        parts.append(f"its template, {least} words" if least == most else f"its template, {least} to {most or 'any number of'} words")
    if plan.at:
        parts.append("a word at position " + ", ".join(str(p) for p in sorted(plan.at)))
    if plan.phrases:
        parts.append(" and ".join(f"room for {min(map(len, alternatives))} more words" for alternatives in plan.phrases))
    if plan.forbidden:
        parts.append(f"{len(plan.forbidden)} words absent")
    return ", ".join(parts) or "nothing"


