"""Noise schedules: how much signal is left at noise level t.

Everything is written for the variance-preserving process x_t = α(t)·x0 + σ(t)·ε with α² + σ² = 1 and t in [0, 1].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from dlm_control.support.errors import UsageError, suggestion

_FLOOR = 1e-6  # keeps log-SNR finite at both ends: |log-SNR| <= 13.8


class NoiseSchedule(ABC):
    """Signal level as a function of t; subclasses give ᾱ(t) alone."""

    name: ClassVar[str]

    @abstractmethod
    def alpha_bar(self, t: Tensor) -> Tensor:
        """Share of the variance that is signal, ᾱ(t) = α(t)²: 1 at t = 0, falling to 0 at t = 1."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """α(t) and σ(t), each of the shape of t."""
        alpha_bar = self.alpha_bar(t).clamp(_FLOOR, 1 - _FLOOR)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        """log(α² / σ²), of the shape of t."""
        return torch.logit(self.alpha_bar(t).clamp(_FLOOR, 1 - _FLOOR))


class SqrtSchedule(NoiseSchedule):
    """ᾱ(t) = (1 − √(t + s)) / (1 − √s), s = 1e−4 (Li et al. 2022, App. A).

    The released code builds β_i from ratios of ᾱ, which divides by ᾱ(0); this is its continuous form: with T steps its
    ᾱ_i is ours at t = (i + 1) / T.
    """

    name = "sqrt"

    def alpha_bar(self, t: Tensor) -> Tensor:
        return (1 - (t + 1e-4).sqrt()) / (1 - math.sqrt(1e-4))


class CosineSchedule(NoiseSchedule):
    """ᾱ(t) = cos²(π/2 · (t + s)/(1 + s)) / cos²(π/2 · s/(1 + s)), s = 0.008 (Nichol & Dhariwal 2021, eq. 17)."""

    name = "cosine"

    def alpha_bar(self, t: Tensor) -> Tensor:
        s = 0.008
        return (torch.cos((t + s) / (1 + s) * math.pi / 2) / math.cos(s / (1 + s) * math.pi / 2)).square()


class LogLinearSchedule(NoiseSchedule):
    """log-SNR falls linearly from 6 to −8: every factor of noise gets the same share of t (Kingma et al. 2021, §5)."""

    name = "loglinear"

    def alpha_bar(self, t: Tensor) -> Tensor:
        return torch.sigmoid(6 - 14 * t)


SCHEDULES: dict[str, NoiseSchedule] = {s.name: s for s in (SqrtSchedule(), CosineSchedule(), LogLinearSchedule())}


def noise_schedule(name: str) -> NoiseSchedule:
    """The schedule of that name.

    Raises:
        UsageError: no schedule has it.
    """
    if name not in SCHEDULES:
        raise UsageError(f"unknown noise schedule {name!r}{suggestion(name, SCHEDULES)}; there are: {', '.join(SCHEDULES)}")
    return SCHEDULES[name]
