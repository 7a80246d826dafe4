"""Probabilities of phrases under independent word distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_control.control.controller import State


def log_prob_any(state: State, phrases: Sequence[Sequence[int]]) -> Tensor:
    """Log-probability that at least one phrase stands somewhere: log(1 − Π(1 − p)) over phrases and places, (batch,).

    Exact for single words; places of longer phrases overlap and are taken as independent. Arguments as `log_prob_places`.
    """
    absent = log_prob_none(state, phrases)
    return (-absent.clamp(max=-1e-30).expm1()).clamp(min=1e-30).log()


def log_prob_none(state: State, phrases: Sequence[Sequence[int]]) -> Tensor:
    """Log-probability that no phrase stands anywhere, (batch,). Arguments as `log_prob_places`."""
    places = log_prob_places(state, phrases)
    return (-places.exp().clamp(max=1 - 1e-6)).log1p().sum(-1)


def log_prob_places(state: State, phrases: Sequence[Sequence[int]]) -> Tensor:
    """Log-probability that a phrase stands at a place, for each phrase and place.

    Args:
        state: whose words are asked about; only the phrases' own are read.
        phrases: word ids; a phrase longer than the text has no place.

    Returns:
        (batch, places), all phrases' places side by side.

    Raises:
        ValueError: no phrase fits.
    """
    import torch

    seq_len = state.log_probs.shape[1]
    words = sorted({word for phrase in phrases for word in phrase})
    column = {word: i for i, word in enumerate(words)}
    needed = state.log_probs_of(words)
    places = [
        torch.stack([needed[:, i : seq_len - len(phrase) + 1 + i, column[word]] for i, word in enumerate(phrase)]).sum(0)
        for phrase in phrases
        if len(phrase) <= seq_len
    ]
    if not places:
        raise ValueError(f"no phrase fits {seq_len} positions: {list(phrases)}")
    return torch.cat(places, dim=1)
