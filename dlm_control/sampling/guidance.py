"""How controls steer: a guidance stands between what a model predicts and the step that a process takes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from dlm_control.control.columns import Columns, covariance
from dlm_control.control.controller import State
from dlm_control.control.use import BoundControl
from dlm_control.diffusion.backbone import CLEAN, FLOOR, Backbone, Draws, Latents, Prediction, Process, normalise_
from dlm_control.diffusion.gaussian import EARLIER, GaussianProcess
from dlm_control.sampling.trace import Recorder
from dlm_control.support.errors import UsageError

SATISFIED = 0.05  # nats: p(control | state) above 95 %
MOST_MULTIPLIER = 10.0
LEAST_RATIO = 1e-9  # to which a control may lower a word's probability
NOTHING = -80.0  # the log of a share that no sum in float32 sees; smaller ones are subnormal numbers, and slow to make
LEAST_RMS = 0.05  # of a push: a weaker one is not blown up to unit size


@dataclass(frozen=True)
class Group:
    """Rows of a batch that obey the same controls.

    Attributes:
        controls: bound to the model.
        rows: which rows of the batch.
    """

    controls: Sequence[BoundControl]
    rows: Sequence[int]

    def filled(self, size: int, device: torch.device) -> Tensor:
        """(size,): the rows, the last one repeated. So a text's arithmetic does not depend on how many are of its group."""
        return torch.tensor([*self.rows, *[self.rows[-1]] * (size - len(self.rows))], device=device)


@dataclass(frozen=True)
class Guided(Prediction):
    """A prediction as controls left it, and what particles are weighed by.

    Attributes:
        free: what the model said by itself.
        twist: (batch,), Σ weight · log p(control | state) of the controls that acted.
    """

    free: Prediction
    twist: Tensor

    def rows(self, index: Tensor) -> Guided:
        made = super().rows(index)
        return Guided(made.log_probs, made.x_t, made.embed, free=self.free.rows(index), twist=self.twist[index])


class Tilted(NamedTuple):
    """What controls make of a prediction.

    Attributes:
        log_probs: (batch, seq_len, vocab), of the words with all pushes added, not normalised.
        twist: as in `Guided`.
        latents: with what is to be remembered.
    """

    log_probs: Tensor
    twist: Tensor
    latents: Latents


class Guidance(ABC):
    """A step of a process under controls.

    Args:
        lm: the model.
        process: of the model.
        groups: which rows obey which controls; together all rows.
    """

    def __init__(self, lm: Backbone, process: Process, groups: Sequence[Group]) -> None:
        self.lm, self.process, self.groups = lm, process, groups

    @abstractmethod
    def predict(self, latents: Latents, t: float) -> tuple[Prediction, Latents]:
        """What the model says at noise level t under the controls, and the latents with what is to be remembered of it."""

    def step(self, latents: Latents, guided: Prediction, t: float, s: float, draws: Draws) -> Latents:
        """The texts at noise level s < t.

        Args:
            latents: at noise level t.
            guided: the prediction at t, as `predict` returned it.
            t, s: noise levels in [0, 1].
            draws: random numbers.
        """
        return self.process.step(latents, guided, t, s, draws)


class TiltGuidance(Guidance):
    """Bayes' rule in the space of word distributions: p(w | x_t, c) ∝ p(w | x_t) · Π_c exp(weight · tilt_c(w)).

    No gradient passes through the denoiser, so a guided step costs one network call, and any process works.

    Args:
        lm, process, groups: as Guidance.
        scale: `nats`: a tilt is a log-likelihood ratio, so weight 1 is Bayes' rule for every control; `rms`: it is scaled to
            unit root mean square over the item's words first, so weight 1 pushes equally hard for every control.
        conflict: `sum`; or `project`: of two tilts that point against each other, each loses its part along the other (Yu et
            al. 2020, PCGrad, under the inner product Σ p·a·b).
        lagrangian: rate at which a control's multiplier rises, a nat of energy and a step; a control that is satisfied does not
            push (one whose energy is not calibrated never is). 0 leaves all multipliers at 1.
        recorder: told what every control does at every step.
    """

    def __init__(
        self,
        lm: Backbone,
        process: Process,
        groups: Sequence[Group],
        scale: str = "nats",
        conflict: str = "sum",
        lagrangian: float = 0.0,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(lm, process, groups)
        self.scale, self.conflict, self.lagrangian, self.recorder = scale, conflict, lagrangian, recorder

    @torch.no_grad()
    def predict(self, latents: Latents, t: float) -> tuple[Guided, Latents]:
        said = self.process.predict(latents, t)
        tilted, twist, latents = self.tilted(said, latents, t)
        if tilted is said.log_probs:
            return Guided(tilted, said.x_t, said.embed, free=said, twist=twist), latents
        log_probs = normalise_(tilted, latents.allowed)
        return Guided(log_probs, said.x_t, self.process.embed, free=said, twist=twist), latents

    @torch.no_grad()
    def tilted(self, said: Prediction, latents: Latents, t: float) -> Tilted:
        """What the controls that act make of a prediction; its own log-probabilities come back where none does.

        Args:
            said: what the model says at noise level t.
            latents: at noise level t.
            t: noise level.
        """
        acting_by_group = [
            (group, [control for control in group.controls if control.control.acts_at(t)]) for group in self.groups
        ]
        acting_by_group = [(group, acting) for group, acting in acting_by_group if acting]
        tilted, twist = said.log_probs, torch.zeros(len(said.log_probs), device=said.log_probs.device)
        for group, acting in acting_by_group:
            if len(self.groups) == 1:
                tilted, twist, latents = self._tilted(group, acting, said, latents, t)
                continue
            rows, own = group.filled(len(tilted), tilted.device), torch.tensor(group.rows, device=tilted.device)
            theirs, their_twist, after = self._tilted(group, acting, said.rows(rows), latents.rows(rows), t)
            tilted = tilted.index_copy(0, own, theirs[: len(own)])
            twist = twist.index_copy(0, own, their_twist[: len(own)])
            multipliers = {name: values for name, values in after.memory.items() if name.startswith(_MULTIPLIER)}
            latents = latents.remember_for(own, multipliers, default=1.0)
        return Tilted(tilted, twist, latents)

    def _tilted(self, group: Group, acting: Sequence[BoundControl], said: Prediction, latents: Latents, t: float) -> Tilted:
        """What a group's controls make of a prediction."""
        state, tilted = state_of(self.lm, said, latents, t), said.log_probs.clone()
        pushes, energies = dict[str, Columns](), dict[str, Tensor]()
        twist = torch.zeros(len(tilted), device=tilted.device)
        for control in acting:
            push, energies[control.control.name] = tilt(control, state)
            twist -= control.control.weight_at(t) * energies[control.control.name]
            if self.scale == "rms":
                push = unit_rms(push, state.probs, state.length)
            strength, latents = self._multiplier(control.control.name, energies[control.control.name], latents)
            strength = control.control.weight_at(t) * strength
            if self.conflict != "project":  # one at a time: memory does not grow with the number of controls
                push.added_to(tilted, strength)
            if self.conflict == "project" or self.recorder is not None:
                pushes[control.control.name] = push.times(strength)
            del push
        if self.conflict == "project":
            pushes = dict(zip(pushes, without_conflict(list(pushes.values()), state.probs), strict=True))
            for push in pushes.values():
                push.added_to(tilted)
        if self.recorder is not None:
            self.recorder.note(group.rows, said.log_probs, energies, pushes)
        return Tilted(tilted, twist, latents)

    def _multiplier(self, name: str, energy: Tensor, latents: Latents) -> tuple[Tensor, Latents]:
        """(batch,): 1; or what dual ascent made of it, 0 where the control is satisfied; and the latents that remember it."""
        if not self.lagrangian:
            return torch.ones_like(energy), latents
        multiplier = latents.memory.get(_MULTIPLIER + name, torch.ones_like(energy))
        raised = (multiplier + self.lagrangian * energy.clamp(min=0)).clamp(max=MOST_MULTIPLIER)
        return torch.where(energy > SATISFIED, multiplier, 0.0), latents.remember(**{_MULTIPLIER + name: raised})


_MULTIPLIER = "multiplier of "  # in the memory


def state_of(lm: Backbone, said: Prediction, latents: Latents, t: float) -> State:
    """What a controller may read of a batch at noise level t.

    Args:
        lm: the model.
        said: its prediction at t.
        latents: the batch at t.
        t: noise level in [0, 1].
    """
    levels = torch.full((len(latents.z),), t, device=latents.length.device)
    return State(x_t=said.x_t, t=levels, clean=lambda: said.x0, log_probs=said.log_probs, length=latents.length, lm=lm)


def finished_state(lm: Backbone, ids: Tensor, length: Tensor) -> State:
    """The state of finished texts, (batch, seq_len) word ids: almost no noise, no doubt about any word."""
    embeddings = lm.embeddings[ids]
    logits = embeddings.new_full((*ids.shape, len(lm.embeddings)), FLOOR).scatter(-1, ids[..., None], 0.0)
    levels = torch.full((len(ids),), CLEAN, device=ids.device)
    return State(x_t=embeddings, t=levels, clean=embeddings, log_probs=logits, length=length, lm=lm)


def unit_rms(push: Columns, probs: Tensor, words: Tensor) -> Columns:
    """A push at root mean square 1 an item, over its words and under p."""
    rms = (covariance(push, push, probs).clamp(min=0) / words).sqrt()
    return push.times(1 / rms.clamp(min=LEAST_RMS))


def without_conflict(pushes: Sequence[Columns], probs: Tensor) -> list[Columns]:
    """Each push without its part against any other."""
    projected = []
    for i, push in enumerate(pushes):
        for j, other in enumerate(pushes):
            if i != j:
                along = covariance(push, other, probs) / covariance(other, other, probs).clamp(min=1e-12)
                push = push.plus(other.times(-along.clamp(max=0)))
        projected.append(push)
    return projected


def tilt(control: BoundControl, state: State) -> tuple[Columns, Tensor]:
    """How one control changes the log-probabilities of words.

    `log_probs`: the energy is −log E_p[f(words)] with p a product over positions. Then −∂energy/∂log p(w at i), plus what the
    terms that leave position i free keep of p, is exactly the conditional marginal p(w at i | c); the tilt is its log-ratio
    to p. Words that the energy does not name share one ratio, and normalising takes away what all words share: only the named
    words' columns are changed.

    A control that speaks of every word by itself says so (`word_log_likelihoods`), and needs no gradient: see `word_tilt`.

    `x0`, `x_t`: to first order a word w at position i changes the energy by ⟨∂energy/∂x_i, E_w⟩ (times α for x_t; Vignac et
    al. 2023, DiGress eq. 9). Only the direction is kept: the tilt is scaled so that the divergence KL(p' ‖ p) it causes is, to
    second order, the energy itself, in nats. A satisfied control stops pushing, and no classifier is louder than another.

    Returns:
        Of (batch, seq_len, vocab), added to the log-probabilities at weight 1; (batch,), the energy before.
    """
    space = control.control.controller.reads
    assert space is not None
    if space == "log_probs":
        likelihoods = control.word_log_likelihoods(state)
        if likelihoods is not None:
            return word_tilt(likelihoods, state)
    energy, gradient = control.gradient(state, space)
    if space == "log_probs":
        probs = gradient.of(state.log_probs).exp()
        never = probs == 0
        kept = (1 + gradient.values.sum(-1, keepdim=True)).clamp(min=0)
        change = gradient.values / probs.clamp_(min=1e-30)  # from here in place: these are large
        change.neg_().add_(kept).clamp_(min=LEAST_RATIO).log_()
        if gradient.words is not None:
            change -= kept.clamp(min=LEAST_RATIO).log()
        return replace(gradient, values=change.masked_fill_(never, 0.0)), energy
    push = gradient.values if space == "x0" else state.lm.signal(state.t)[:, None, None] * gradient.values
    change = -push @ state.lm.embeddings.T
    change = change - (state.probs * change).sum(-1, keepdim=True)
    fisher = (state.probs * change.square()).sum((1, 2))  # (batch,): 2·KL to second order
    scale = (2 * energy.clamp(min=0) / fisher.clamp(min=1e-12)).sqrt().clamp(max=1e3)
    return Columns(scale[:, None, None] * change), energy


def word_tilt(likelihoods: Tensor, state: State) -> tuple[Columns, Tensor]:
    """The tilt of a control that speaks of every word by itself, in closed form: log p(c | w at i) − log E_p[p(c | word at i)].

    Args:
        likelihoods: (batch or 1, seq_len, vocab), log p(c | w at i) up to a constant at each position.
        state: of the step.

    Returns:
        As `tilt`.
    """
    joint = state.log_probs + likelihoods  # from here in place: these are large
    highest = joint.amax(-1, keepdim=True)
    joint.sub_(highest).clamp_(min=NOTHING)
    evidence = highest + joint.exp_().sum(-1, keepdim=True).log()  # (batch, seq_len, 1)
    push = torch.sub(likelihoods, evidence, out=joint).clamp_(min=math.log(LEAST_RATIO))
    return Columns(push), -evidence.sum((1, 2))


class PaperGuidance(Guidance):
    """The 2022 update: after each sampling step, three steps of Adagrad on energy + λ·fluency, at x_s itself.

    The released code makes a new Adagrad for every inner step, whose first step is lr·g/|g| in every coordinate: only the
    sign of the gradient counts. fluency = ‖mean − x‖²/σ summed over positions and dimensions, the released formula (not /2σ²).
    Energies of x0 or logits pass their gradient through the denoiser. No guidance at t ≤ 10/200.

    Args:
        lm, process, groups: as Guidance.
        fluency_weight: λ; 0.01 for semantic content and length, 1e-4 for parts of speech, 5e-4 for trees, 0.1 for spans.
        lr: size of a sign step.
        inner_steps: how many after each sampling step.

    Raises:
        UsageError: the model has no noisy embeddings that could be moved.
    """

    def __init__(
        self,
        lm: Backbone,
        process: Process,
        groups: Sequence[Group],
        fluency_weight: float = 0.01,
        lr: float = 0.1,
        inner_steps: int = 3,
    ) -> None:
        super().__init__(lm, process, groups)
        if not isinstance(process, GaussianProcess):
            raise UsageError(f"guidance: the 2022 update moves noisy embeddings, and a {lm.kind} model has none; use tilt")
        self.process: GaussianProcess = process
        self.fluency_weight, self.lr, self.inner_steps = fluency_weight, lr, inner_steps

    @torch.no_grad()
    def predict(self, latents: Latents, t: float) -> tuple[Prediction, Latents]:
        return self.process.predict(latents, t), latents

    def step(self, latents: Latents, guided: Prediction, t: float, s: float, draws: Draws) -> Latents:
        mean, deviation = self.process.moments(latents, guided, t, s)
        latents = latents.remember(**{EARLIER: guided.x0})
        x_s = mean + deviation * draws.normal(*mean.shape[1:])
        acting = [(group, control) for group in self.groups for control in group.controls if control.control.acts_at(t)]
        if t > 10 / 200:
            for _ in range(self.inner_steps if acting else 0):
                x_s = self._moved(latents, x_s, mean, deviation, acting, t, s)
        return replace(latents, z=x_s)

    def _moved(
        self,
        latents: Latents,
        x_s: Tensor,
        mean: Tensor,
        deviation: float,
        acting: Sequence[tuple[Group, BoundControl]],
        t: float,
        s: float,
    ) -> Tensor:
        """x_s after one step of the sign of the gradient."""
        x = x_s.detach().requires_grad_()
        with torch.enable_grad():
            if any(control.control.controller.reads != "x_t" for _, control in acting):
                said = self.process.predict(replace(latents, z=x), s)
                state = state_of(self.lm, said, latents, s)
            else:
                levels = torch.full((len(x),), s, device=x.device)
                state = State(x_t=x, t=levels, clean=x, log_probs=x[..., :0], length=latents.length, lm=self.lm)
            loss = self.fluency_weight * (mean - x).square().sum() / (deviation or 1.0)
            for group, control in acting:
                own = state if len(self.groups) == 1 else state.rows(group.filled(len(x), x.device))
                energy = control.energy(own)
                loss = loss + control.control.weight_at(t) * (energy if own is state else energy[: len(group.rows)]).sum()
            gradient = torch.autograd.grad(loss, x)[0]
        steered = torch.zeros(len(x), 1, 1, device=x.device)  # a row that no control steers rests, whatever its company does
        steered[[row for group, _ in acting for row in group.rows]] = 1.0
        return x_s - self.lr * steered * gradient / (gradient.abs() + 1e-10)
