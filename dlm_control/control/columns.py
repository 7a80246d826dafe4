"""Numbers for each position and word, most words alike: a control that names few words touches few columns of a large table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Columns:
    """A number for each item, position and word of the vocabulary.

    Attributes:
        values: (batch, seq_len, words).
        words: (words,), distinct ids that the values are of; every other word has 0. None: the whole vocabulary.
    """

    values: Tensor
    words: Tensor | None = None

    def of(self, table: Tensor) -> Tensor:
        """These words' columns of a table (batch, seq_len, vocab)."""
        return table if self.words is None else table[..., self.words]

    def times(self, factor: Tensor) -> Columns:
        """Each item's numbers times its factor (batch,)."""
        return replace(self, values=factor[:, None, None] * self.values)

    def plus(self, other: Columns) -> Columns:
        """The sum of both."""
        if self.words is None:
            return Columns(other.added_to(self.values.clone()))
        if other.words is None:
            return other.plus(self)
        words = torch.cat([self.words, other.words]).unique()
        return Columns(self.at(words) + other.at(words), words)

    def at(self, words: Tensor | None) -> Tensor:
        """(batch, seq_len, words), the numbers of some words; None: of all, where these are of all."""
        if self.words is None or words is None:
            return self.values if words is None else self.values[..., words]
        return self.values @ (self.words[:, None] == words).to(self.values.dtype)

    def of_words(self, ids: Tensor) -> Tensor:
        """(batch, seq_len), the number of one word at each position."""
        if self.words is None:
            return self.values.gather(-1, ids[..., None])[..., 0]
        return (self.values * (self.words == ids[..., None])).sum(-1)

    def added_to(self, table: Tensor, factor: Tensor | None = None) -> Tensor:
        """A table (batch, seq_len, vocab) with these numbers, times each item's factor (batch,), added to it in place."""
        if self.words is None:
            return table.add_(self.values) if factor is None else table.addcmul_(self.values, factor[:, None, None])
        return table.index_add_(-1, self.words, self.values if factor is None else self.times(factor).values)

    def mean(self, probs: Tensor) -> Tensor:
        """(batch, seq_len, 1), the mean under word distributions (batch, seq_len, vocab)."""
        return (self.of(probs) * self.values).sum(-1, keepdim=True)


def covariance(a: Columns, b: Columns, probs: Tensor) -> Tensor:
    """(batch,), Σ p·(a − E a)·(b − E b) over positions and words. What is added to all words of a position does not count."""
    if b.words is None and a.words is not None:
        a, b = b, a
    return (b.of(probs) * (a.at(b.words) - a.mean(probs)) * b.values).sum((1, 2))


class ColumnReader:
    """Gives an energy a table to be differentiable in, whole or some columns of it, and remembers what it has read.

    Args:
        table: (batch, seq_len, vocab) log-probabilities of words; read whole, it may be of anything.
    """

    def __init__(self, table: Tensor) -> None:
        self.table = table.detach().requires_grad_()
        self._read: list[tuple[Tensor, Tensor]] = []

    def __call__(self, words: Sequence[int]) -> Tensor:
        """(batch, seq_len, words), of distinct words."""
        index = torch.tensor(list(words), dtype=torch.long, device=self.table.device)
        read = self.table.detach()[..., index].requires_grad_()
        self._read.append((index, read))
        return read

    def gradient(self, energy: Tensor) -> Columns | None:
        """Of an energy's sum (batch,); None where it depends on nothing that was read."""
        if not energy.requires_grad:
            return None
        leaves = [self.table, *(read for _, read in self._read)]
        whole, *parts = torch.autograd.grad(energy.sum(), leaves, allow_unused=True)
        found = [Columns(whole)] if whole is not None else []
        found += [Columns(part, words) for part, (words, _) in zip(parts, self._read, strict=True) if part is not None]
        total = found.pop(0) if found else None
        for each in found:
            assert total is not None
            total = total.plus(each)
        return total
