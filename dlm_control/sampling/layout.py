"""Merging what the controls fix into the layout of each text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations

import torch
from torch import Tensor

from dlm_control.control.plan import Gap, Plan
from dlm_control.diffusion.seq_len import seq_len_of
from dlm_control.sampling.automata import GapChoices, feasible_lengths, shortest_text, wanted_at
from dlm_control.sampling.word_sets import Words
from dlm_control.support.errors import ErrorCollector
from dlm_control.text.tokenizer import WordTokenizer


@dataclass(frozen=True)
class Layout:
    """What is fixed for one item.

    Attributes:
        words: length of its text.
        seq_len: positions, END and PADs included.
        chosen: the words of templates, by position.
        layouts: that it is one of.
    """

    words: int
    seq_len: int
    chosen: Mapping[int, int]
    layouts: Layouts = field(repr=False, compare=False)

    @property
    def allowed(self) -> Tensor:
        """(seq_len, vocab) bool, the words that may stand at each position. It is large, and made anew when asked for."""
        return self.layouts.allowed(self)


class Layouts:
    """The layouts that several plans leave open.

    Args:
        plans: each with the name of its controller, for reports.
        tokenizer: of the language model.
        length_counts: how many training sentences have n words; lengths are drawn in proportion.
        max_seq_len: positions at most.

    Raises:
        UsageError: no text obeys all plans; the report names those that contradict each other.
    """

    def __init__(
        self, plans: Sequence[tuple[str, Plan]], tokenizer: WordTokenizer, length_counts: Sequence[int], max_seq_len: int
    ) -> None:
        self._plans, self._tokenizer, self._max_seq_len = plans, tokenizer, max_seq_len
        self._ordinary = Words(None, frozenset(tokenizer.all_special_ids), len(tokenizer))
        self._merged = [plan for _, plan in plans]
        feasible = feasible_lengths(self._merged, max_seq_len - 1, self._ordinary)
        if not feasible:
            self._explain()
        weights = [length_counts[n] + 0.01 if n < len(length_counts) else 0.01 for n in feasible]
        self._lengths, self._weights = feasible, torch.tensor(weights, dtype=torch.float64)
        self._choices = lru_cache(maxsize=8)(lambda words: GapChoices(self._merged, words, self._ordinary))
        self._possible = lru_cache(maxsize=8)(self._make_possible)

    def draw(self, generator: torch.Generator) -> Layout:
        """One layout: a length as frequent as in training, then gap sizes, all choices alike."""
        words = self._lengths[int(torch.multinomial(self._weights, 1, generator=generator))]
        return Layout(words, seq_len_of(words, self._max_seq_len), self._path(words, generator), self)

    def _path(self, words: int, generator: torch.Generator) -> dict[int, int]:
        """The words that the templates fix, by position, in a random choice of gap sizes with room for all phrases."""
        if all(plan.template is None for plan in self._merged):
            return {}
        choices = self._choices(words)
        while True:
            choice, fixed = choices.start, dict[int, int]()
            for position in range(words):
                options = choices.steps(position, choice)
                counts = torch.tensor([float(choices.count(position + 1, after)) for _, after in options], dtype=torch.float64)
                word, choice = options[int(torch.multinomial(counts, 1, generator=generator))]
                if word is not None:
                    fixed[position] = word
            if not fixed or not any(plan.phrases for plan in self._merged):
                return fixed
            chosen = Plan(template=tuple(fixed.get(position, Gap(1, 1)) for position in range(words)))
            if words in feasible_lengths([*self._merged, chosen], words, self._ordinary):
                return fixed

    def _make_possible(self, words: int, chosen: tuple[tuple[int, int], ...]) -> list[frozenset[int] | None]:
        """What the languages leave to each position; None: all that the plans allow there."""
        if all(plan.language is None for plan in self._merged):
            return [None] * words
        return self._choices(words).possible(dict(chosen))

    def allowed(self, layout: Layout) -> Tensor:
        """(seq_len, vocab) bool, the words that may stand at each position of one of these layouts."""
        pad, end, words = self._tokenizer.pad_token_id, self._tokenizer.eos_token_id, layout.words
        allowed = torch.ones(layout.seq_len, len(self._tokenizer), dtype=torch.bool)
        allowed[:, sorted(self._ordinary.excluded.union(*(plan.forbidden for plan in self._merged)))] = False
        allowed[words:] = False
        allowed[words, end] = True
        allowed[words + 1 :, pad] = True
        possible = self._possible(words, tuple(layout.chosen.items()))
        for position in range(words):
            chosen = layout.chosen.get(position)
            expected = wanted_at(self._merged, position, words) if chosen is None else frozenset({chosen})
            for these in (expected, possible[position]):
                if these is not None:
                    row = torch.zeros(len(self._tokenizer), dtype=torch.bool)
                    row[list(these)] = True
                    allowed[position] &= row
        return allowed

    def given(self, layout: Layout) -> dict[int, str]:
        """Where one plan leaves but one word: by position, the name of its controller."""
        possible, found = self._possible(layout.words, tuple(layout.chosen.items())), dict[int, str]()
        for name, plan in self._plans:
            for position in range(layout.words):
                options = wanted_at([plan], position, layout.words)
                if plan.template is not None and position in layout.chosen:
                    options = frozenset({layout.chosen[position]})
                elif plan.language is not None and options is None:
                    options = possible[position]
                if options is not None and len(options) == 1:
                    found.setdefault(position, name)
        return found

    def _explain(self) -> None:
        """Raise with the smallest sets of controls that contradict each other."""
        most = self._max_seq_len - 1
        for size in range(1, len(self._plans) + 1):
            clashes = [
                group
                for group in combinations(self._plans, size)
                if not feasible_lengths([plan for _, plan in group], most, self._ordinary)
            ]
            if clashes:
                problems = ErrorCollector("controls that no text can obey")
                for group in clashes:
                    needs = "; ".join(f"{name} needs {_needs(plan)}" for name, plan in group)
                    problems.add("", f"{needs}; a text has 1 to {most} words{self._nearest([plan for _, plan in group])}")
                problems.raise_if_any()
        raise AssertionError("an infeasible set has an infeasible subset")

    def _nearest(self, plans: Sequence[Plan]) -> str:
        """Where patterns are among plans that contradict each other: what would obey them if its length were free."""
        if not any(plan.language for plan in plans):
            return ""
        free = [replace(plan, min_words=None, max_words=None) for plan in plans]
        shortest = shortest_text(free, self._max_seq_len - 1, self._ordinary)
        if shortest is None:
            return ", and none obeys, whatever its length"
        text = self._tokenizer.join(self._tokenizer.convert_ids_to_tokens(shortest))
        return f"; the shortest that obeys but for its length has {len(shortest)}: {text!r}"


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
        parts.append(
            f"its template, {least} words" if least == most else f"its template, {least} to {most or 'any number of'} words"
        )
    if plan.at:
        parts.append("a word at position " + ", ".join(str(p) for p in sorted(plan.at)))
    if plan.phrases:
        parts.append(" and ".join(f"room for {min(map(len, alternatives))} more words" for alternatives in plan.phrases))
    if plan.language is not None:
        fewest = plan.language.automaton.fewest
        parts.append("a pattern that no text matches" if fewest is None else f"its pattern, of {max(1, fewest)} or more words")
    if plan.forbidden:
        parts.append(f"{len(plan.forbidden)} words absent")
    return ", ".join(parts) or "nothing"
