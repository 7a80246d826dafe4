"""Merging what the controls fix into the layout of each text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations

import torch
from torch import Tensor

from dlm_control.control.plan import Gap, Plan
from dlm_control.diffusion.seq_len import seq_len_of
from dlm_control.sampling.automata import GapChoices, feasible_lengths, shortest_text
from dlm_control.support.errors import ErrorCollector
from dlm_control.text.tokenizer import WordTokenizer


@dataclass(frozen=True)
class Layout:
    """What is fixed for one item.

    Attributes:
        words: length of its text.
        seq_len: positions, END and PADs included.
        allowed: (seq_len, vocab) bool, the words that may stand at each position.
    """

    words: int
    seq_len: int
    allowed: Tensor


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
        self._ordinary = frozenset(range(len(tokenizer))).difference(tokenizer.all_special_ids)
        self._merged = [plan for _, plan in plans]
        feasible = feasible_lengths(self._merged, max_seq_len - 1, self._ordinary)
        if not feasible:
            self._explain()
        weights = [length_counts[n] + 0.01 if n < len(length_counts) else 0.01 for n in feasible]
        self._lengths, self._weights = feasible, torch.tensor(weights, dtype=torch.float64)
        self._choices = lru_cache(maxsize=8)(lambda words: GapChoices(self._merged, words, self._ordinary))
        self._allowed = lru_cache(maxsize=8)(self._make_allowed)

    def draw(self, generator: torch.Generator) -> Layout:
        """One layout: a length as frequent as in training, then gap sizes, all choices alike."""
        words = self._lengths[int(torch.multinomial(self._weights, 1, generator=generator))]
        seq_len = seq_len_of(words, self._max_seq_len)
        return Layout(words, seq_len, self._allowed(seq_len, tuple(self._path(words, generator))))

    def _path(self, words: int, generator: torch.Generator) -> list[int | None]:
        """The words that the templates fix, position by position, in a random choice of gap sizes with room for all phrases."""
        choices = self._choices(words)
        while True:
            at, fixed = choices.start, list[int | None]()
            for position in range(words):
                options = choices.steps(position, at)
                counts = torch.tensor([float(choices.count(position + 1, after)) for _, after in options], dtype=torch.float64)
                word, at = options[int(torch.multinomial(counts, 1, generator=generator))]
                fixed.append(word)
            if all(word is None for word in fixed) or not any(plan.phrases for plan in self._merged):
                return fixed
            chosen = Plan(template=tuple(Gap(1, 1) if word is None else word for word in fixed))
            if words in feasible_lengths([*self._merged, chosen], words, self._ordinary):
                return fixed

    def _make_allowed(self, seq_len: int, fixed: tuple[int | None, ...]) -> Tensor:
        pad, end, words = self._tokenizer.pad_token_id, self._tokenizer.eos_token_id, len(fixed)
        usable = torch.zeros(len(self._tokenizer), dtype=torch.bool)
        usable[sorted(self._ordinary.difference(*(plan.forbidden for plan in self._merged)))] = True
        allowed = torch.zeros(seq_len, len(self._tokenizer), dtype=torch.bool)
        allowed[:words] = usable
        allowed[words, end] = True
        allowed[words + 1 :, pad] = True
        for position, possible in enumerate(self._choices(words).possible(fixed)):
            if len(possible) < int(usable.sum()):
                allowed[position] = False
                allowed[position, sorted(possible)] = True
        return allowed

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
