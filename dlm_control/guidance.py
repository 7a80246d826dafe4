"""How controls steer: a guidance stands between the denoiser and the sampler."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from dlm_control.controller import Controller, State
from dlm_control.denoiser import Denoiser
from dlm_control.errors import Fault, Problems, UsageError, shown


@dataclass(frozen=True)
class Control:
    """A controller as one task uses it.

    Attributes:
        name: unique within the task; heads its checks and energies.
        controller: the constraint.
        weight: 1 is the controller's own posterior; w raises its likelihood to the power w; 0 only checks the text.
        interval: noise levels (from, to) within [0, 1] at which it acts.
    """

    name: str
    controller: Controller
    weight: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        problems = Problems(f"control {self.name}")
        problems.found += faults_of_use(self.weight, self.interval)
        problems.raise_if_any()

    def acts_at(self, t: float) -> bool:
        """Does its energy steer at noise level t?"""
        return self.controller.reads is not None and self.weight > 0 and self.interval[0] <= t <= self.interval[1]

    def energy(self, state: State) -> Tensor:
        """The controller's energy, (batch,), checked.

        Raises:
            UsageError: it raised, or returned a wrong shape or a number that is not finite.
        """
        return self._asked("energy", state)

    def final_energy(self, state: State) -> Tensor:
        """The controller's energy of a finished text, (batch,), checked.

        Raises:
            UsageError: as `energy`.
        """
        return self._asked("final_energy", state)

    def _asked(self, method: str, state: State) -> Tensor:
        try:
            energy: Any = getattr(self.controller, method)(state)
        except UsageError:
            raise
        except Exception as error:  # a plugin's: whatever it is, say whose
            where = f"t = {float(state.t[0]):.3f}, x_t {tuple(state.x_t.shape)}"
            raise UsageError(f"{self._place}.{method} raised {type(error).__name__}: {error} (at {where})") from error
        if not isinstance(energy, Tensor) or energy.shape != (len(state.x_t),):
            got = tuple(energy.shape) if isinstance(energy, Tensor) else type(energy).__name__
            raise UsageError(f"{self._place}.{method} returned {got}, expected a tensor ({len(state.x_t)},)")
        if not torch.isfinite(energy).all():
            row = int((~torch.isfinite(energy)).nonzero()[0])
            value = float(energy[row].detach())
            raise UsageError(f"{self._place}.{method} is {value} at t = {float(state.t[row]):.3f}, item {row}")
        return energy

    def gradient(self, state: State, space: str) -> tuple[Tensor, Tensor]:
        """Energy (batch,) and its gradient with respect to a field of the state, of that field's shape.

        Raises:
            UsageError: the energy does not depend on the field, or its gradient is not finite.
        """
        leaf = getattr(state, space).detach().requires_grad_()
        with torch.enable_grad():
            energy = self.energy(replace(state, **{space: leaf}))
            gradient = torch.autograd.grad(energy.sum(), leaf, allow_unused=True)[0] if energy.requires_grad else None
        if gradient is None:
            raise UsageError(f"{self._place}.energy does not depend on state.{space}, which it says it reads")
        if not torch.isfinite(gradient).all():
            row = int((~torch.isfinite(gradient)).nonzero()[0][0])
            raise UsageError(
                f"{self._place}.energy has a gradient that is not finite at t = {float(state.t[row]):.3f}, item {row}"
            )
        return energy.detach(), gradient

    @property
    def _place(self) -> str:
        return f"control {self.name}: {self.controller!r}"


def faults_of_use(weight: object, interval: object) -> list[Fault]:
    """What is wrong with a control's weight and interval."""
    faults = []
    if not _finite(weight) or cast(float, weight) < 0:
        hint = " (a text; YAML reads 2e-1 as one and 2.0e-1 as a number)" if isinstance(weight, str) else ""
        faults.append(Fault("weight", f"expected a number of 0 (check only) or more, got {shown(weight)}{hint}"))
    ends: Sequence[Any] = interval if isinstance(interval, (list, tuple)) else ()
    if not (len(ends) == 2 and all(_finite(end) for end in ends) and 0 <= ends[0] < ends[1] <= 1):
        wanted = "two noise levels, 0 <= from < to <= 1, such as [0.1, 1.0]"
        faults.append(Fault("interval", f"expected {wanted}, got {shown(interval)}"))
    return faults


def _finite(given: object) -> bool:
    return isinstance(given, (int, float)) and not isinstance(given, bool) and abs(given) <= 1e308  # a larger int is no float


class Guidance(ABC):
    """A denoiser that obeys controls."""

    def __init__(self, denoiser: Denoiser, controls: Sequence[Control]) -> None:
        self.denoiser, self.controls = denoiser, controls
        self.energies: dict[str, Tensor] = {}  # the last energy of each control, (batch,)

    @abstractmethod
    def denoise(self, x_t: Tensor, t: float) -> State:
        """The guided answer at noise level t; its x0 is what the sampler steps with."""

    def after_step(self, x_s: Tensor, mean: Tensor, deviation: float, t: float, s: float) -> Tensor:
        """Change the sample at level s that the sampler drew from N(mean, deviation²); nothing by default."""
        return x_s

    needs_moments = False

    def keep(self, survivors: Tensor) -> None:
        """Follow a resampling of the batch."""
        self.denoiser.keep(survivors)
        self.energies = {name: energy[survivors] for name, energy in self.energies.items()}


class TiltGuidance(Guidance):
    """Bayes' rule in the space of word distributions: p(w | x_t, c) ∝ p(w | x_t) · Π_c exp(weight · tilt_c(w)).

    No gradient passes through the denoiser, so a guided step costs one network call, and any sampler works.
    """

    @torch.no_grad()
    def denoise(self, x_t: Tensor, t: float) -> State:
        state = self.denoiser(x_t, t)
        assert state.logits is not None
        tilted = state.logits
        for control in self.controls:
            if control.acts_at(t):
                change, self.energies[control.name] = tilt(control, state)
                tilted = tilted + control.weight * change
        tilted = self.denoiser.masked(tilted)
        self.denoiser.earlier = self.denoiser.embed(tilted)
        return replace(state, logits=tilted, x0=self.denoiser.earlier)


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


GUIDANCES: dict[str, type[Guidance]] = {"tilt": TiltGuidance, "paper": PaperGuidance}
