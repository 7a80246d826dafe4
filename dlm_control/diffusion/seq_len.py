"""Sequence length: how many positions a sentence gets, and sentences padded to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def seq_len_of(length: int, max_seq_len: int, spare: int = 0) -> int:
    """Positions for a sentence of `length` words: room for END and `spare` PADs, rounded up to a multiple of 4."""
    return min(max_seq_len, -(-(length + 1 + spare) // 4) * 4)


def padded(sentences: Sequence[Sequence[int]], seq_len: int, pad: int, device: str | torch.device = "cpu") -> Tensor:
    """Sentences as one tensor (batch, seq_len), with PADs after each.

    Args:
        sentences: word ids of each; none is longer than seq_len.
        seq_len: positions.
        pad: id of PAD.
        device: of the tensor.
    """
    import torch

    ids = torch.full((len(sentences), seq_len), pad)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence)] = torch.tensor(sentence)
    return ids.to(device)
