"""Choosing among texts: best of n, and minimum Bayes risk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dlm_control.control.controller import Check

if TYPE_CHECKING:
    from dlm_control.sampling.sample import Sample

OBEYED = 1.0  # nats: a control whose final energy is at most this counts as obeyed


def select(candidates: Sequence[Sample], how: str) -> Sample:
    """One text of several.

    Args:
        how: `checks`: the highest sum of check scores; `energies`: the lowest sum of the controls' final energies, with no look
            at the checks; `likelihood`: of those that obey by their final energies (one nat each at most) the likeliest under
            the model itself; `mbr`: the one most like the others (highest mean F1 of 1- and 2-grams; Kumar & Byrne 2004,
            utility as in Li et al. 2022, §6.4); of fewer than three, which are all that is left when the others failed, as
            `checks`. Of equals the first.
    """
    if how == "mbr" and len(candidates) > 2:
        grams = [_grams(candidate.words) for candidate in candidates]
        agreement = [sum(_f1(mine, other) for other in grams if other is not mine) for mine in grams]
        return candidates[max(range(len(candidates)), key=agreement.__getitem__)]

    def quality(candidate: Sample) -> tuple[float, float]:
        if how == "likelihood":
            unmet = sum(max(0.0, energy - OBEYED) for energy in candidate.energies.values())
            return -unmet, -(candidate.nats_per_word or 0.0)
        return -sum(candidate.energies.values()) if how == "energies" else _obedience(candidate.checks), 0.0

    return max(candidates, key=quality)


def _obedience(checks: Mapping[str, Check]) -> float:
    return sum(check.score for check in checks.values() if check.judged)


def _grams(words: Sequence[str]) -> Counter[tuple[str, ...]]:
    return Counter([(word,) for word in words] + list(zip(words, words[1:], strict=False)))


def _f1(a: Counter[tuple[str, ...]], b: Counter[tuple[str, ...]]) -> float:
    return 2 * (a & b).total() / max(1, a.total() + b.total())
