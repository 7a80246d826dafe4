"""Training objectives of the Diffusion-LM."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dlm_control.diffusion.model import DiffusionLM, posterior_mean_weights
from dlm_control.diffusion.schedule import NoiseSchedule

_PAPER_STEPS = 2000


class Draws:
    """The random numbers of one training step, drawn for the whole batch and cut to this process's share of it.

    A step's numbers depend on (seed, step) alone: a resumed run and a run on two processes see the same ones. They are drawn on
    the CPU and then moved: the same on every device.

    Args:
        seed: of the training.
        step: its number.
        rank: of this process.
        world: how many processes share the batch.
        device: that the numbers are moved to.
    """

    def __init__(self, seed: int, step: int, rank: int = 0, world: int = 1, device: str | torch.device = "cpu") -> None:
        self._generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        self._rank, self._world, self._device = rank, world, torch.device(device)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers of the shape (first axis: this process's items)."""
        return self._share(torch.randn(shape[0] * self._world, *shape[1:], generator=self._generator))

    def levels(self, batch: int) -> Tensor:
        """(batch,), noise levels in [0, 1): stratified over the whole batch, one in each of its equal cells."""
        total = batch * self._world
        offset = torch.rand((), generator=self._generator)
        return self._share((offset + torch.randperm(total, generator=self._generator) / total) % 1)

    def coin(self, probability: float) -> bool:
        """True with that probability; the same on every process."""
        return bool(torch.rand((), generator=self._generator) < probability)

    def _share(self, everything: Tensor) -> Tensor:
        return everything.chunk(self._world)[self._rank].to(self._device)


class Objective(ABC):
    """A loss on a batch of sentences."""

    heads: ClassVar[tuple[str, ...]]  # the model heads it can train

    @abstractmethod
    def loss(self, model: torch.nn.Module, ids: Tensor, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its parts.

        Args:
            model: the Diffusion-LM, perhaps wrapped for several processes.
            ids: (batch, seq_len), words, END, PADs.
            draws: the random numbers of this step.

        Returns:
            A scalar to minimise, and named scalars for the log.
        """


class Categorical(Objective):
    """Cross-entropy of the words at a random noise level, with self-conditioning.

    L = E_t E_{x_t} [−log p(w | x_t, t)], x0 = softmax(logits)·E (Dieleman et al. 2022, CDCD §3.2). The embeddings learn
    through x_t alone; their norm is fixed, so they cannot outgrow the noise.
    """

    heads = ("words",)

    def __init__(self, self_cond: float = 0.5) -> None:
        self.self_cond = self_cond

    def loss(self, model: torch.nn.Module, ids: Tensor, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        core = unwrapped(model)
        x0 = core.embeddings[ids]  # (batch, seq_len, dim)
        t = draws.levels(len(ids))
        x_t = noised(core.schedule, x0, t, draws.normal(*x0.shape))
        earlier = None
        if draws.coin(self.self_cond):
            with torch.no_grad():
                earlier = core(x_t, t).x0
        logits = model(x_t, t, earlier).logits
        loss = F.cross_entropy(logits.flatten(0, 1), ids.flatten())
        return loss, {"cross_entropy": loss.detach()}


class Paper(Objective):
    """The end-to-end objective of 2022 (Li et al. 2022, eq. 2 and App. E; terms as in the released code).

    With x̄ = E[w] and x0 = x̄ + σ0·ε, the loss is the sum of
        mse: ‖target − f(x_t, t)‖², target x0 (or ε, or the posterior mean, by the model's head); x̄ at the lowest level,
        prior: ‖α(1)·x0‖², which keeps the embeddings from growing,
        rounding: −log softmax(x0·Eᵀ + b)[w], which keeps them from shrinking,
    each a mean over positions (and dimensions); PADs count.
    """

    heads = ("x0", "eps", "mu")

    def loss(self, model: torch.nn.Module, ids: Tensor, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        core = unwrapped(model)
        schedule, head = core.schedule, core.config.head
        clean = core.embeddings[ids]  # (batch, seq_len, dim)
        sigma_0 = schedule.alpha_sigma(torch.tensor(1 / _PAPER_STEPS, device=ids.device))[1]
        x0 = clean + sigma_0 * draws.normal(*clean.shape)
        index = (draws.levels(len(ids)) * _PAPER_STEPS).floor()
        t = (index + 1) / _PAPER_STEPS
        noise = draws.normal(*clean.shape)
        x_t = noised(schedule, x0, t, noise)
        guess = model(x_t, t).x0
        lowest = (index == 0)[:, None, None]
        if head == "x0":
            error = torch.where(lowest, clean, x0) - guess
        elif head == "eps":
            alpha, sigma = (v[:, None, None] for v in schedule.alpha_sigma(t))
            error = torch.where(lowest, clean - guess, noise - (x_t - alpha * guess) / sigma)
        else:
            weight = posterior_mean_weights(schedule, t)[0][:, None, None]
            error = torch.where(lowest, clean - guess, weight * (x0 - guess))
        alpha_1 = schedule.alpha_sigma(torch.tensor(1.0, device=ids.device))[0]
        parts = {
            "mse": error.square().mean(),
            "prior": (alpha_1 * x0).square().mean(),
            "rounding": F.cross_entropy(core.rounding_logits(x0).flatten(0, 1), ids.flatten()),
        }
        return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()}


OBJECTIVES: dict[str, type[Objective]] = {"categorical": Categorical, "paper": Paper}


def noised(schedule: NoiseSchedule, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """x_t = α(t)·x0 + σ(t)·ε.

    Args:
        schedule: gives α and σ.
        x0: (batch, seq_len, dim), clean embeddings.
        t: (batch,), noise levels in [0, 1].
        noise: (batch, seq_len, dim), ε.
    """
    alpha, sigma = (v[:, None, None] for v in schedule.alpha_sigma(t))
    return alpha * x0 + sigma * noise


def unwrapped(model: torch.nn.Module) -> DiffusionLM:
    """The Diffusion-LM inside a DistributedDataParallel wrapper, or itself."""
    core = getattr(model, "module", model)
    assert isinstance(core, DiffusionLM)
    return core
