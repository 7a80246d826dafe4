"""Sequential Monte Carlo: texts that run side by side, weighed by what guidance cannot say, and resampled by their weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dlm_control.control.use import BoundControl
from dlm_control.sampling.firmness import is_exact
from dlm_control.sampling.sample import Sample
from dlm_control.support.errors import UsageError


class Particles:
    """The weights of an item's particles, from step to step.

    The target at noise level t is p(all steps so far) · ψ, with ψ = Π_c p(c | state)^weight · exp((1 − t) · potential of the
    text as it stands), and at the end ψ = Π_c p(c | text)^weight · exp(potential of the text). Steps are drawn under guidance,
    and each multiplies a particle's weight by p(step) / q(step) · ψ_after / ψ_before. Only the last ψ stays in the product: the
    weighed texts stand for the last target whatever the guides said, and the better these guessed, the more equal the
    weights are (twisted SMC; Wu et al. 2023, TDS). p(step) is the model's own from the same state, its memory included.

    Args:
        size: how many.
        resample_below: they are resampled where the effective sample size is below this share of them.
        generator: of random numbers.
        controls: of the item.
    """

    def __init__(self, size: int, resample_below: float, generator: torch.Generator, controls: Sequence[BoundControl]) -> None:
        self.resample_below, self._generator = resample_below, generator
        self._controls = [each for each in controls if each.control.weight > 0 and not is_exact(each)]
        self._log_weights, self._before = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
        self._evidence, self._known = 0.0, dict[str, float]()

    def weigh(self, log_ratio: Tensor, twist: Tensor, texts: Iterable[str], share: float) -> None:
        """Weigh what the last step made.

        Args:
            log_ratio: (particles,), log p(step) − log q(step).
            twist: (particles,), Σ weight · log p(c | state).
            texts: as they stand.
            share: of the potential that counts.
        """
        now = twist.double().cpu() + share * torch.tensor([self._potential(text) for text in texts], dtype=torch.float64)
        self._log_weights += log_ratio.double().cpu() + now - self._before
        self._before = now

    def survivors(self) -> Tensor | None:
        """(particles,), for each place the particle that goes on there; None where weights are even enough."""
        if effective_size(self._log_weights) >= self.resample_below * len(self._log_weights):
            return None
        rows = resampled(self._log_weights, self._generator)
        self._evidence += log_mean(self._log_weights)
        self._log_weights, self._before = torch.zeros_like(self._log_weights), self._before[rows]
        return rows

    @property
    def log_weights(self) -> list[float]:
        """How much each counts; the mean of their exp estimates p(controls) without bias."""
        found: list[float] = (self._log_weights + self._evidence).tolist()
        return found

    def _potential(self, text: str) -> float:
        if text not in self._known:
            self._known[text] = sum(control.log_potential(text) for control in self._controls)
        return self._known[text]


def effective_size(log_weights: Tensor) -> float:
    """1 / Σ w² of normalised weights (Kong et al. 1994)."""
    return float(1 / log_weights.softmax(0).square().sum())


def log_mean(log_weights: Tensor) -> float:
    """log of the mean of exp."""
    return float(log_weights.logsumexp(0)) - math.log(len(log_weights))


def resampled(log_weights: Tensor, generator: torch.Generator) -> Tensor:
    """(particles,), which particle goes on at each place: systematic resampling (Kitagawa 1996).

    Args:
        log_weights: (particles,) float64, up to a constant.
        generator: random numbers.
    """
    cumulated = log_weights.softmax(0).cumsum(0)
    points = (torch.rand((), generator=generator, dtype=torch.float64) + torch.arange(len(log_weights))) / len(log_weights)
    return torch.searchsorted(cumulated, points).clamp(max=len(log_weights) - 1)


def final_twist(energies: Sequence[Mapping[str, float]], controls: Sequence[BoundControl]) -> Tensor:
    """(particles,), Σ weight · log p(control | text) of finished texts.

    Args:
        energies: −log p(control | text) of each, by control.
        controls: of the item.
    """
    weights = {control.control.name: control.control.weight for control in controls}
    return torch.tensor([-sum(weights[name] * energy for name, energy in each.items()) for each in energies])


@dataclass(frozen=True)
class Population:
    """Texts with weights, which together stand for p(text | controls).

    Attributes:
        samples: one a particle.
        weights: of each, summing to 1.
        log_evidence: estimate of log p(controls), given the text's length and its fixed words.
        effective_size: how many independent texts they are worth.
    """

    samples: tuple[Sample, ...]
    weights: tuple[float, ...] = field(init=False)
    log_evidence: float = field(init=False)
    effective_size: float = field(init=False)

    def __post_init__(self) -> None:
        logs = torch.tensor([_log_weight(sample) for sample in self.samples], dtype=torch.float64)
        values = {"weights": tuple(logs.softmax(0).tolist()), "log_evidence": log_mean(logs)}
        vars(self).update(values, effective_size=effective_size(logs))

    def mean(self, function: Callable[[Sample], float]) -> float:
        """The weighed mean of a function of texts: its expectation under p(text | controls)."""
        return sum(weight * function(sample) for weight, sample in zip(self.weights, self.samples, strict=True))


def drawn(particles: Sequence[Sample], generator: torch.Generator) -> Sample:
    """One of them, by weight; of those that did not fail."""
    alive = [particle for particle in particles if particle.error is None]
    if not alive:
        return particles[0]
    weights = torch.tensor([_log_weight(particle) for particle in alive], dtype=torch.float64).softmax(0)
    return alive[int(torch.multinomial(weights, 1, generator=generator))]


def _log_weight(sample: Sample) -> float:
    if sample.log_weight is None:
        raise UsageError(sample.error or "a sample of no particles has no weight")
    return sample.log_weight
