"""Noise schedules: how much signal is left at noise level t.

Everything is written for the variance-preserving process x_t = α(t)·x0 + σ(t)·ε with α² + σ² = 1 and t in [0, 1].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from dlm_control.support.registry import Registry, subclass_of

C = TypeVar("C", bound="type[NoiseSchedule]")
_FLOOR = 1e-6  # keeps log-SNR finite at both ends: |log-SNR| <= 13.8


class NoiseSchedule(ABC):
    """Signal level as a function of t; subclasses give ᾱ(t) alone."""

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


SCHEDULES: Registry[type[NoiseSchedule]] = Registry(
    "schedule", "dlm_control.schedules", "a subclass of NoiseSchedule", subclass_of(NoiseSchedule)
)


def register_schedule(name: str) -> Callable[[C], C]:
    """Class decorator: make a NoiseSchedule known under a name for models' configs.

    Raises:
        UsageError: the name is none or is taken, or the decorated thing is no NoiseSchedule.
    """
    SCHEDULES.check_name(name)

    def register(cls: C) -> C:
        SCHEDULES.register(name, cls, cls)
        return cls

    return register


@register_schedule("sqrt")
class SqrtSchedule(NoiseSchedule):
    """ᾱ(t) = (1 − √(t + s)) / (1 − √s), s = 1e−4 (Li et al. 2022, App. A).

    The released code builds β_i from ratios of ᾱ, which divides by ᾱ(0); this is its continuous form: with T steps its
    ᾱ_i is ours at t = (i + 1) / T.
    """

    def alpha_bar(self, t: Tensor) -> Tensor:
        return (1 - (t + 1e-4).sqrt()) / (1 - math.sqrt(1e-4))


@register_schedule("cosine")
class CosineSchedule(NoiseSchedule):
    """ᾱ(t) = cos²(π/2 · (t + s)/(1 + s)) / cos²(π/2 · s/(1 + s)), s = 0.008 (Nichol & Dhariwal 2021, eq. 17)."""

    def alpha_bar(self, t: Tensor) -> Tensor:
        s = 0.008
        return (torch.cos((t + s) / (1 + s) * math.pi / 2) / math.cos(s / (1 + s) * math.pi / 2)).square()


@register_schedule("loglinear")
class LogLinearSchedule(NoiseSchedule):
    """log-SNR falls linearly from 6 to −8: every factor of noise gets the same share of t (Kingma et al. 2021, §5)."""

    def alpha_bar(self, t: Tensor) -> Tensor:
        return torch.sigmoid(6 - 14 * t)


def noise_schedule(name: str) -> NoiseSchedule:
    """The schedule of that name.

    Raises:
        UsageError: no schedule has it.
    """
    return SCHEDULES.find(name, "unknown noise schedule")()
