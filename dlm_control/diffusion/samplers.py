"""Samplers: how to go from noise level t to a lower one, s. They know nothing of control.

Notation: x_t = α·x0 + σ·ε, λ = log(α/σ); `x0` is the denoiser's answer at t, guided or not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

from dlm_control.support.errors import UsageError, suggestion
from dlm_control.support.registry import Registry

if TYPE_CHECKING:  # `dlm ls` lists samplers, and torch takes seconds to import
    from torch import Tensor

    from dlm_control.diffusion.schedule import NoiseSchedule

Noise = Callable[[], "Tensor"]  # fresh standard normal numbers, (batch, seq_len, dim)
Memory = Mapping[str, "Tensor"]
CLAMPS = ("off", "soft", "hard")
ORDERS = ("confidence", "random", "left_to_right", "right_to_left")  # in which a masked model settles its words


S = TypeVar("S", bound="Callable[[], Sampler]")


class Moments(NamedTuple):
    """How a step is distributed: x_s ~ N(mean, deviation²).

    Attributes:
        mean: (batch, seq_len, dim).
        deviation: of every number; 0 where the step is deterministic.
        memory: what the next step has to remember.
    """

    mean: Tensor
    deviation: float
    memory: Memory


class Sampler(ABC):
    """One step of a solver of the reverse process.

    Attributes:
        order: of convergence of the deterministic part.
        stochastic: whether it draws noise; particles need one that does.
    """

    order: ClassVar[int] = 1
    stochastic: bool

    @abstractmethod
    def moments(self, schedule: NoiseSchedule, x_t: Tensor, t: float, s: float, x0: Tensor, memory: Memory) -> Moments:
        """Of x_s given x_t, s < t.

        Args:
            schedule: of the model.
            x_t: (batch, seq_len, dim), at noise level t.
            t, s: noise levels.
            x0: (batch, seq_len, dim), the denoiser's answer.
            memory: of earlier steps, (batch, …) each; empty at first.
        """

    def step(
        self, schedule: NoiseSchedule, x_t: Tensor, t: float, s: float, x0: Tensor, noise: Noise, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """x_s from x_t; and what the next step has to remember.

        Args:
            schedule, x_t, t, s, x0, memory: as in `moments`.
            noise: gives standard normal numbers of the same shape.
        """
        mean, deviation, memory = self.moments(schedule, x_t, t, s, x0, memory)
        return mean + deviation * noise() if deviation > 0 else mean, memory


SAMPLERS: Registry[Callable[[], Sampler]] = Registry(
    "sampler", "dlm_control.samplers", "a subclass of Sampler, or a function that makes one", callable
)


def register_sampler(name: str) -> Callable[[S], S]:
    """Decorator: make a Sampler, or a function without arguments that makes one, known under a name for presets.

    Raises:
        UsageError: the name is none or is taken.
    """
    SAMPLERS.check_name(name)

    def register(made: S) -> S:
        SAMPLERS.register(name, made, made)
        return made

    return register


@register_sampler("ddim")
class DDIM(Sampler):
    """x_s = α_s·x0 + √(σ_s² − v²)·ε̂ + v·z, v = η·(σ_s/σ_t)·√(1 − α_t²/α_s²) (Song et al. 2021, eq. 12 and 16).

    Args:
        eta: 0 is deterministic, 1 has the variance of ancestral sampling.
    """

    def __init__(self, eta: float = 0.0) -> None:
        self.eta, self.stochastic = eta, eta > 0

    def moments(self, schedule: NoiseSchedule, x_t: Tensor, t: float, s: float, x0: Tensor, memory: Memory) -> Moments:
        alpha_t, sigma_t, alpha_s, sigma_s = _coefficients(schedule, t, s)
        deviation = self.eta * sigma_s / sigma_t * math.sqrt(max(0.0, 1 - (alpha_t / alpha_s) ** 2)) if s > 0 else 0.0
        direction = (x_t - alpha_t * x0) / sigma_t
        return Moments(alpha_s * x0 + math.sqrt(max(0.0, sigma_s**2 - deviation**2)) * direction, deviation, memory)


@register_sampler("ancestral")
class Ancestral(Sampler):
    """x_s ~ q(x_s | x_t, x0), the posterior of the forward process (Ho et al. 2020, eq. 6-7)."""

    stochastic = True

    def moments(self, schedule: NoiseSchedule, x_t: Tensor, t: float, s: float, x0: Tensor, memory: Memory) -> Moments:
        alpha_t, sigma_t, alpha_s, sigma_s = _coefficients(schedule, t, s)
        ratio = alpha_t / alpha_s
        mean = (alpha_s * (1 - ratio**2) * x0 + ratio * sigma_s**2 * x_t) / sigma_t**2
        return Moments(mean, sigma_s / sigma_t * math.sqrt(max(0.0, 1 - ratio**2)) if s > 0 else 0.0, memory)


@register_sampler("dpmpp-2m")
class DPMSolverPP2M(Sampler):
    """x_s = (σ_s/σ_t)·x_t − α_s·(e^{−h} − 1)·D, h = λ_s − λ_t; D extrapolates the last two answers (Lu et al. 2022, alg. 2).

    With `sde`, half of the noise is drawn anew: x_s = (σ_s/σ_t)·e^{−h}·x_t + α_s·(1 − e^{−2h})·D + σ_s·√(1 − e^{−2h})·z
    (the same paper's SDE-DPM-Solver++(2M)).
    """

    order = 2

    def __init__(self, sde: bool = False) -> None:
        self.stochastic = sde

    def moments(self, schedule: NoiseSchedule, x_t: Tensor, t: float, s: float, x0: Tensor, memory: Memory) -> Moments:
        import torch

        alpha_t, sigma_t, alpha_s, sigma_s = _coefficients(schedule, t, s)
        lambda_t, lambda_s = math.log(alpha_t / sigma_t), math.log(alpha_s / sigma_s)
        h = lambda_s - lambda_t
        extrapolated = x0
        if _LAST in memory and s > 0:  # the last step lands on x0 itself
            r = (lambda_t - float(memory[_LAST_LAMBDA][0])) / h
            extrapolated = x0 + (x0 - memory[_LAST]) / (2 * r)
        memory = {**memory, _LAST: x0, _LAST_LAMBDA: x0.new_full((len(x0),), lambda_t, dtype=torch.float64)}
        if not self.stochastic:
            return Moments(sigma_s / sigma_t * x_t - alpha_s * math.expm1(-h) * extrapolated, 0.0, memory)
        mean = sigma_s / sigma_t * math.exp(-h) * x_t - alpha_s * math.expm1(-2 * h) * extrapolated
        return Moments(mean, sigma_s * math.sqrt(-math.expm1(-2 * h)) if s > 0 else 0.0, memory)


_LAST, _LAST_LAMBDA = "last x0", "last λ"


@register_sampler("ddim-eta1")
def ddim_eta1() -> Sampler:
    """DDIM with the noise of the forward process."""
    return DDIM(eta=1.0)


@register_sampler("dpmpp-2m-sde")
def dpmpp_2m_sde() -> Sampler:
    """DPM-Solver++(2M) with half of the noise drawn anew."""
    return DPMSolverPP2M(sde=True)


def sampler(name: str) -> Sampler:
    """A new sampler of that name.

    Raises:
        UsageError: there is none.
    """
    return SAMPLERS.find(name, "sampler: unknown")()


SPACINGS = ("uniform", "log-snr", "quadratic")


def noise_levels(steps: int, schedule: NoiseSchedule, spacing: str = "uniform") -> list[float]:
    """steps + 1 noise levels from 1 down to 0.

    Args:
        spacing: `uniform` in t; `log-snr`, equal steps of log-SNR between t = 1 − 1/2000 and 1/2000 (beyond them it runs off to
            its floors); `quadratic`, t = u², dense at low noise.
    """
    import numpy as np
    import torch

    u = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    if spacing == "uniform":
        levels = u
    elif spacing == "quadratic":
        levels = u.square()
    elif spacing == "log-snr":
        grid = torch.linspace(1 - 1 / 2000, 1 / 2000, 20_001, dtype=torch.float64)
        log_snr = schedule.log_snr(grid).numpy()
        expected = np.linspace(log_snr[0], log_snr[-1], steps + 1)
        levels = torch.from_numpy(np.interp(expected, log_snr, grid.numpy()))
    else:
        raise UsageError(f"spacing: unknown {spacing!r}{suggestion(spacing, SPACINGS)}; there are: {', '.join(SPACINGS)}")
    levels[0], levels[-1] = 1.0, 0.0
    return [float(level) for level in levels]


def _coefficients(schedule: NoiseSchedule, t: float, s: float) -> tuple[float, float, float, float]:
    """α_t, σ_t, α_s, σ_s."""
    import torch

    alpha, sigma = schedule.alpha_sigma(torch.tensor([t, s], dtype=torch.float64))
    return float(alpha[0]), float(sigma[0]), float(alpha[1]), float(sigma[1])
