"""How controls steer: a guidance stands between the denoiser and the sampler."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dlm_control.control.controller import State
from dlm_control.control.use import Control
from dlm_control.sampling.denoiser import Denoiser
from dlm_control.sampling.trace import Trace

SCALES = ("nats", "rms")
CONFLICTS = ("sum", "project")
SATISFIED = 0.05  # nats: p(control | state) above 95 %
MOST_MULTIPLIER = 10.0
LEAST_RMS = 0.05  # of a push: a weaker one is not blown up to unit size


class Guidance(ABC):
    """A denoiser that obeys controls.

    Attributes:
        energies: the last energy of each control, (batch,).
        trace: told of every step, or None.
    """

    needs_moments = False

    def __init__(self, denoiser: Denoiser, controls: Sequence[Control]) -> None:
        self.denoiser, self.controls = denoiser, controls
        self.energies: dict[str, Tensor] = {}
        self.trace: Trace | None = None

    @abstractmethod
    def denoise(self, x_t: Tensor, t: float) -> State:
        """The guided answer at noise level t; its x0 is what the sampler steps with."""

    def after_step(self, x_s: Tensor, mean: Tensor, deviation: float, t: float, s: float) -> Tensor:
        """Change the sample at level s that the sampler drew from N(mean, deviation²); nothing by default."""
        return x_s

    def keep(self, survivors: Tensor) -> None:
        """Follow a resampling of the batch."""
        self.denoiser.keep(survivors)
        self.energies = {name: energy[survivors] for name, energy in self.energies.items()}


class TiltGuidance(Guidance):
    """Bayes' rule in the space of word distributions: p(w | x_t, c) ∝ p(w | x_t) · Π_c exp(weight · tilt_c(w)).

    No gradient passes through the denoiser, so a guided step costs one network call, and any sampler works.

    Args:
        scale: `nats`: a tilt is a log-likelihood ratio, so weight 1 is Bayes' rule for every control; `rms`: it is scaled to
            unit root mean square over the item's words first, so weight 1 pushes equally hard for every control.
        conflict: `sum`; or `project`: of two tilts that point against each other, each loses its part along the other (Yu et
            al. 2020, PCGrad, under the inner product Σ p·a·b).
        lagrangian: rate at which a control's multiplier rises, a nat of energy and a step; a control that is satisfied does not
            push (one whose energy is not calibrated never is). 0 leaves all multipliers at 1.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        controls: Sequence[Control],
        scale: str = "nats",
        conflict: str = "sum",
        lagrangian: float = 0.0,
    ) -> None:
        super().__init__(denoiser, controls)
        self.scale, self.conflict, self.lagrangian = scale, conflict, lagrangian
        self.multipliers: dict[str, Tensor] = {}

    @torch.no_grad()
    def denoise(self, x_t: Tensor, t: float) -> State:
        state = self.denoiser(x_t, t)
        assert state.logits is not None
        probs, pushes = state.logits.exp(), dict[str, Tensor]()
        for control in self.controls:
            if control.acts_at(t):
                change, energy = tilt(control, state)
                if self.scale == "rms":
                    change = unit_rms(change, probs, state.words)
                strength = control.weight_at(t) * self._multiplier(control.name, energy)
                self.energies[control.name], pushes[control.name] = energy, strength[:, None, None] * change
        if self.conflict == "project":
            pushes = dict(zip(pushes, without_conflict(list(pushes.values()), probs), strict=True))
        if self.trace is not None:
            self.trace.record(t, state.logits, self.energies, pushes)
        tilted = state.logits
        for push in pushes.values():
            tilted = tilted + push
        tilted = self.denoiser.masked(tilted)
        self.denoiser.earlier = self.denoiser.embed(tilted)
        return replace(state, logits=tilted, x0=self.denoiser.earlier)

    def _multiplier(self, name: str, energy: Tensor) -> Tensor:
        """(batch,): 1; or what dual ascent made of it, and 0 where the control is satisfied."""
        if not self.lagrangian:
            return torch.ones_like(energy)
        multiplier = self.multipliers.get(name, torch.ones_like(energy))
        self.multipliers[name] = (multiplier + self.lagrangian * energy.clamp(min=0)).clamp(max=MOST_MULTIPLIER)
        return torch.where(energy > SATISFIED, multiplier, 0.0)

    def keep(self, survivors: Tensor) -> None:
        super().keep(survivors)
        self.multipliers = {name: each[survivors] for name, each in self.multipliers.items()}


def inner(a: Tensor, b: Tensor, probs: Tensor) -> Tensor:
    """(batch,), Σ p·a·b over positions and words."""
    return (probs * a * b).sum((1, 2))


def unit_rms(change: Tensor, probs: Tensor, words: Tensor) -> Tensor:
    """A change (batch, canvas, vocab) of log-probabilities at root mean square 1 an item, over its words and under p."""
    centred = change - (probs * change).sum(-1, keepdim=True)
    rms = (inner(centred, centred, probs) / words).sqrt()
    return centred / rms.clamp(min=LEAST_RMS)[:, None, None]


def without_conflict(pushes: Sequence[Tensor], probs: Tensor) -> list[Tensor]:
    """Each push without its part against any other, (batch, canvas, vocab) each."""
    centred = [push - (probs * push).sum(-1, keepdim=True) for push in pushes]
    projected = []
    for i, push in enumerate(centred):
        for j, other in enumerate(centred):
            if i != j:
                along = inner(push, other, probs) / inner(other, other, probs).clamp(min=1e-12)
                push = push - along.clamp(max=0)[:, None, None] * other
        projected.append(push)
    return projected


def tilt(control: Control, state: State) -> tuple[Tensor, Tensor]:
    """How one control changes the log-probabilities of words.

    `logits`: the energy is −log E_p[f(words)] with p a product over positions. Then −∂energy/∂log p(w at i), plus what the
    terms that leave position i free keep of p, is exactly the conditional marginal p(w at i | c); the tilt is its log-ratio
    to p.

    `x0`, `x_t`: to first order a word w at position i changes the energy by ⟨∂energy/∂x_i, E_w⟩ (times α for x_t; Vignac et
    al. 2023, DiGress eq. 9). Only the direction is kept: the tilt is scaled so that the divergence KL(p' ‖ p) it causes is, to
    second order, the energy itself, in nats. A satisfied control stops pushing, and no classifier is louder than another.

    Returns:
        (batch, canvas, vocab), added to the log-probabilities at weight 1; (batch,), the energy before.
    """
    assert state.logits is not None and control.controller.reads is not None
    probs = state.logits.exp()
    if control.controller.reads == "logits":
        energy, gradient = control.gradient(state, "logits")
        kept = (1 + gradient.sum(-1, keepdim=True)).clamp(min=0)
        ratio = -gradient / probs.clamp(min=1e-30) + kept
        return torch.where(probs > 0, ratio.clamp(min=1e-9).log(), 0.0), energy
    energy, gradient = control.gradient(state, control.controller.reads)
    if control.controller.reads == "x_t":
        alpha = state.lm.model.schedule.alpha_sigma(state.t)[0]
        gradient = alpha[:, None, None] * gradient
    change = -gradient @ state.lm.embeddings.T
    change = change - (probs * change).sum(-1, keepdim=True)
    fisher = (probs * change.square()).sum((1, 2))  # (batch,): 2·KL to second order
    scale = (2 * energy.clamp(min=0) / fisher.clamp(min=1e-12)).sqrt().clamp(max=1e3)
    return scale[:, None, None] * change, energy


class PaperGuidance(Guidance):
    """The 2022 update: after each sampling step, three steps of Adagrad on energy + λ·fluency, at x_s itself.

    The released code makes a new Adagrad for every inner step, whose first step is lr·g/|g| in every coordinate: only the
    sign of the gradient counts. fluency = ‖mean − x‖²/σ summed over positions and dimensions, the released formula (not /2σ²).
    Energies of x0 or logits pass their gradient through the denoiser. No guidance at t ≤ 10/200.

    Args:
        strength: λ; 0.01 for semantic content and length, 1e-4 for parts of speech, 5e-4 for trees, 0.1 for spans.
        lr: size of a sign step.
        inner_steps: how many after each sampling step.
    """

    needs_moments = True

    def __init__(
        self, denoiser: Denoiser, controls: Sequence[Control], strength: float = 0.01, lr: float = 0.1, inner_steps: int = 3
    ) -> None:
        super().__init__(denoiser, controls)
        self.strength, self.lr, self.inner_steps = strength, lr, inner_steps

    @torch.no_grad()
    def denoise(self, x_t: Tensor, t: float) -> State:
        state = self.denoiser(x_t, t)
        self.denoiser.earlier = state.x0
        return state

    def after_step(self, x_s: Tensor, mean: Tensor, deviation: float, t: float, s: float) -> Tensor:
        acting = [control for control in self.controls if control.acts_at(t)]
        if t <= 10 / 200 or not acting:
            return x_s
        through = any(control.controller.reads != "x_t" for control in acting)
        for _ in range(self.inner_steps):
            x = x_s.detach().requires_grad_()
            with torch.enable_grad():
                state = self.denoiser(x, s) if through else self._state(x, s)
                loss = self.strength * (mean - x).square().sum() / (deviation or 1.0)
                for control in acting:
                    energy = control.energy(state)
                    self.energies[control.name] = energy.detach()
                    loss = loss + control.weight * energy.sum()
                gradient = torch.autograd.grad(loss, x)[0]
            x_s = x_s - self.lr * gradient / (gradient.abs() + 1e-10)
        return x_s

    def _state(self, x: Tensor, s: float) -> State:
        levels = torch.full((len(x),), s)
        return State(x_t=x, t=levels, x0=x, logits=None, words=self.denoiser.words, lm=self.denoiser.lm)


GUIDANCES = ("tilt", "paper")
