"""Word embeddings under Gaussian noise: the Diffusion-LM (Li et al. 2022), and how its texts come into being."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from dlm_control.diffusion.backbone import Backbone, Draws, Latents, Prediction, Process, normalise, read_pretrained
from dlm_control.diffusion.model import Denoised, DiffusionLM
from dlm_control.diffusion.paper_model import PaperLM
from dlm_control.diffusion.samplers import DDIM, noise_levels, sampler
from dlm_control.support.errors import UsageError
from dlm_control.support.seeds import seeded

EARLIER = "earlier x0"  # in the memory: the answer of the step before, for self-conditioning
_LEVELS = (0.7, 0.55, 0.4, 0.25, 0.1)  # at which a text's likelihood is judged


class GaussianBackbone(Backbone):
    """A Diffusion-LM. It alone has noisy embeddings that move little by little, and so the update of 2022."""

    kind = "gaussian"
    settings: ClassVar[tuple[str, ...]] = ("sampler", "spacing", "temperature", "clamp", "local_likelihood_weight")
    likelihood_calls = len(_LEVELS)
    model: DiffusionLM | PaperLM

    @classmethod
    def reads(cls, config: Mapping[str, Any]) -> bool:
        return config.get("model_type") == "diffusion-lm"

    @classmethod
    def load(cls, folder: Path, source: str) -> Self:
        model, tokenizer = read_pretrained(DiffusionLM, folder, source)
        return cls(model, tokenizer, source)

    @property
    def table(self) -> Tensor:
        return self.model.diffused(self.model.word_embedding.weight.detach().float())

    @property
    def max_seq_len(self) -> int:
        most: int = self.model.config.max_seq_len
        return most

    @property
    def length_counts(self) -> Sequence[int]:
        return self.model.config.length_counts

    def process(self, steps: int, **settings: Any) -> GaussianProcess:
        return GaussianProcess(self, steps, **settings)

    def corrupt(self, ids: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        alpha, sigma = (v[:, None, None] for v in self.model.schedule.alpha_sigma(t))
        return alpha * self.embeddings[ids] + sigma * noise

    def signal(self, t: Tensor) -> Tensor:
        return self.model.schedule.alpha_sigma(t)[0]

    def log_snr(self, t: Tensor) -> Tensor:
        return self.model.schedule.log_snr(t)

    def local_likelihood(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (v[:, None, None] for v in self.model.schedule.alpha_sigma(t))
        return alpha / sigma.square() * (x_t @ self.embeddings.T)

    def denoise(self, x_t: Tensor, t: Tensor, length: Tensor, memory: Mapping[str, Tensor]) -> Denoised:
        """What the network says of clean texts: one call.

        Args:
            x_t: (batch, seq_len, dim), noisy texts.
            t: (batch,), noise levels.
            length: (batch,), how many words each text will have.
            memory: as in `Latents`.
        """
        denoised: Denoised = self.model(x_t, t, memory.get(EARLIER))
        return denoised

    def rounding_logits(self, x0: Tensor) -> Tensor:
        """(batch, seq_len, vocab), scores of words for embeddings (batch, seq_len, dim) that the network regressed."""
        return -0.5 * torch.cdist(x0, self.embeddings).square() * self.model.config.dim

    @torch.no_grad()
    def nats_per_word(self, ids: Tensor, length: Tensor) -> Tensor:
        """As the base says: at five noise levels, each with the answer at the level above in mind. What a position itself says
        of its word (`local_likelihood`) does not count."""
        seq_len, total = ids.shape[1], torch.zeros(len(ids), device=ids.device)
        live = torch.arange(seq_len, device=ids.device) < length[:, None]
        memory = dict[str, Tensor]()
        for level in _LEVELS:
            t = torch.full((len(ids),), level, device=ids.device)
            noise = torch.randn(seq_len, self.model.config.dim, generator=seeded("likelihood", str(level)))
            x_t = self.corrupt(ids, t, noise.to(ids.device))
            memory[EARLIER], logits = self.denoise(x_t, t, length, memory)
            if logits is None:
                logits = self.rounding_logits(memory[EARLIER])
            elif self.model.config.local_likelihood:
                logits = logits - self.local_likelihood(x_t, t)
            costs = F.cross_entropy(logits.transpose(1, 2), ids, reduction="none")
            total = total + (costs * live).sum(1) / length
        return total / self.likelihood_calls


class GaussianProcess(Process):
    """Denoising of word embeddings: masked, tempered, clamped, self-conditioned.

    Args:
        backbone: the model.
        steps: from noise to text.
        sampler, spacing: see `dlm_control.diffusion.samplers`.
        temperature: divides the logits of the words.
        clamp: what x0 is made of word distributions p. `off`: p·E; `soft`: p²·E normalised, nearer to a word; `hard`: the
            likeliest word's embedding at every step (2022's clamping trick).
        local_likelihood_weight: power to which each position's own likelihood p(x_t | word) is raised, where the model
            adds it to its logits. 1 is Bayes' rule for a text that was noised; below 1, words that the
            sampler's own noise put there weigh less, and the other positions more.
    """

    def __init__(
        self,
        backbone: GaussianBackbone,
        steps: int,
        sampler: str = "ancestral",
        spacing: str = "uniform",
        temperature: float = 1.0,
        clamp: str = "off",
        local_likelihood_weight: float = 1.0,
    ) -> None:
        self.backbone, self.temperature, self.clamp, self.local_likelihood_weight = (
            backbone,
            temperature,
            clamp,
            local_likelihood_weight,
        )
        self.solver, self.schedule = _sampler(sampler), backbone.model.schedule
        self.levels, self.stochastic = noise_levels(steps, self.schedule, spacing), self.solver.stochastic

    def start(self, allowed: Tensor, length: Tensor, draws: Draws) -> Latents:
        return Latents(draws.normal(allowed.shape[1], self.backbone.model.config.dim), allowed, length)

    def diffuse(self, ids: Tensor, allowed: Tensor, length: Tensor, t: float, draws: Draws) -> Latents:
        noise = draws.normal(ids.shape[1], self.backbone.model.config.dim)
        levels = torch.full((len(ids),), t, device=ids.device)
        return Latents(self.backbone.corrupt(ids, levels, noise), allowed, length)

    def predict(self, latents: Latents, t: float) -> Prediction:
        """Differentiable in z where gradients are on."""
        x_t = latents.z
        levels = torch.full((len(x_t),), t, device=x_t.device)
        x0, logits = self.backbone.denoise(x_t, levels, latents.length, latents.memory)
        self.calls += 1
        regressed = logits is None
        if logits is None:
            logits = self.backbone.rounding_logits(x0)
        elif self.local_likelihood_weight != 1.0 and self.backbone.model.config.local_likelihood:
            logits = logits + (self.local_likelihood_weight - 1) * self.backbone.local_likelihood(x_t, levels)
        log_probs = normalise(logits / self.temperature, latents.allowed)
        if not regressed or self.clamp == "soft":
            return Prediction(log_probs, x_t, self.embed)
        clean = self._nearest(x0, latents.allowed) if self.clamp == "hard" else x0
        return Prediction(log_probs, x_t, lambda _: clean)

    def embed(self, log_probs: Tensor) -> Tensor:
        embeddings = self.backbone.embeddings
        if self.clamp == "hard":
            return embeddings[log_probs.argmax(-1)]
        sharpness = 2.0 if self.clamp == "soft" else 1.0
        return (sharpness * log_probs).softmax(-1) @ embeddings

    def _nearest(self, x0: Tensor, allowed: Tensor) -> Tensor:
        """(batch, seq_len, dim), the nearest embeddings of words that are allowed: the clamping trick as released."""
        distances = torch.cdist(x0, self.backbone.embeddings).masked_fill(~allowed, torch.inf)
        return self.backbone.embeddings[distances.argmin(-1)]

    def step(self, latents: Latents, guided: Prediction, t: float, s: float, draws: Draws) -> Latents:
        latents = latents.remember(**{EARLIER: guided.x0})
        x_s, memory = self.solver.step(self.schedule, latents.z, t, s, guided.x0, _like(latents.z, draws), latents.memory)
        return replace(latents, z=x_s, memory=memory)

    def log_ratio(self, before: Latents, after: Latents, free: Prediction, guided: Prediction, t: float, s: float) -> Tensor:
        """As the base says: both steps are Gaussian, and differ in their means alone. At the last one, which has no noise,
        words are read off the prediction: there the ratio is that of their probabilities."""
        model, ours = (self.solver.moments(self.schedule, before.z, t, s, said.x0, before.memory) for said in (free, guided))
        if ours.deviation == 0:
            words = self.words(after, guided)[..., None]
            return (free.log_probs.gather(-1, words) - guided.log_probs.gather(-1, words)).sum((1, 2))
        nearer = (after.z - ours.mean).square() - (after.z - model.mean).square()
        return nearer.sum((1, 2)) / (2 * ours.deviation**2)

    def moments(self, latents: Latents, guided: Prediction, t: float, s: float) -> tuple[Tensor, float]:
        """Mean (batch, seq_len, dim) and standard deviation of x_s, which the update of 2022 needs.

        Args:
            latents: at noise level t.
            guided: the prediction at t, as controls left it.
            t, s: noise levels, s < t.

        Raises:
            UsageError: the sampler is none of its kind.
        """
        if not isinstance(self.solver, DDIM):
            raise UsageError(f"guidance: the 2022 update needs sampler ddim or ddim-eta1, not {type(self.solver).__name__}")
        return self.solver.moments(self.schedule, latents.z, t, s, guided.x0, latents.memory)[:2]


_sampler = sampler  # the argument of that name hides it


def _like(z: Tensor, draws: Draws) -> Any:
    return lambda: draws.normal(*z.shape[1:])
