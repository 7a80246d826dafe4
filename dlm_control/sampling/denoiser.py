"""The frozen network as samplers and controls see it: masked, tempered, clamped, self-conditioned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dlm_control.control.controller import State
from dlm_control.support.errors import UsageError, suggestion

if TYPE_CHECKING:
    from dlm_control.pipeline import LanguageModel
    from dlm_control.sampling.layout import Layout

NEVER = -1e4  # log-probability of a word that may not stand at a position
FLOOR = -50.0  # lowest log-probability of one that may: a control can still raise it
CLEAN = 0.01  # noise level of a finished text
CLAMPS = ("off", "soft", "hard")


class Denoiser:
    """Answers (x_t, t) with a State, for one batch of items.

    Args:
        lm: the language model.
        layouts: one an item, all of one canvas.
        temperature: divides the logits of the words.
        clamp: what x0 is made of word distributions p. `off`: p·E; `soft`: p²·E normalised, nearer to a word; `hard`: the
            likeliest word's embedding at every step (2022's clamping trick).
        evidence: power to which each position's own likelihood p(x_t | word) is raised, where the model adds it to its logits.
            1 is Bayes' rule for a text that was noised; below 1, words that the sampler's own noise put there weigh less, and
            the other positions more.

    Attributes:
        calls: network calls so far.
    """

    def __init__(
        self, lm: LanguageModel, layouts: list[Layout], temperature: float = 1.0, clamp: str = "off", evidence: float = 1.0
    ) -> None:
        if clamp not in CLAMPS:
            raise UsageError(f"clamp: unknown {clamp!r}{suggestion(clamp, CLAMPS)}; there are: {', '.join(CLAMPS)}")
        self.lm, self.temperature, self.clamp, self.evidence = lm, temperature, clamp, evidence
        self.allowed = torch.stack([layout.allowed for layout in layouts])  # (batch, canvas, vocab)
        self.words = torch.tensor([layout.words for layout in layouts])
        self.calls = 0
        self.earlier: Tensor | None = None

    def keep(self, survivors: Tensor) -> None:
        """Follow a resampling of the batch: row i goes on from row survivors[i]."""
        self.allowed, self.words = self.allowed[survivors], self.words[survivors]
        if self.earlier is not None:
            self.earlier = self.earlier[survivors]

    def __call__(self, x_t: Tensor, t: float) -> State:
        """What the network says at x_t, (batch, canvas, dim); differentiable in x_t where gradients are on."""
        levels = torch.full((len(x_t),), t)
        prediction = self.lm.model(x_t, levels, self.earlier)
        self.calls += 1
        logits = prediction.logits
        if logits is None:  # a regression head: the words near its x0 (squared distance, as 2022 rounds)
            logits = -0.5 * torch.cdist(prediction.x0, self.lm.embeddings).square() * self.lm.model.config.dim
        elif self.evidence != 1.0 and self.lm.model.config.local_evidence:
            logits = logits + (self.evidence - 1) * self.lm.model.local_evidence(x_t, levels)
        log_probs = self.masked(logits / self.temperature)
        x0 = prediction.x0 if prediction.logits is None and self.clamp == "off" else self.embed(log_probs)
        return State(x_t=x_t, t=levels, x0=x0, logits=log_probs, words=self.words, lm=self.lm)

    def finished(self, ids: Tensor) -> State:
        """The state of finished texts, (batch, canvas) word ids: almost no noise, no doubt about any word."""
        embeddings = self.lm.embeddings[ids]
        logits = torch.full((*ids.shape, self.allowed.shape[-1]), FLOOR).scatter(-1, ids[..., None], 0.0)
        levels = torch.full((len(ids),), CLEAN)
        return State(x_t=embeddings, t=levels, x0=embeddings, logits=logits, words=self.words, lm=self.lm)

    def masked(self, logits: Tensor) -> Tensor:
        """Log-probabilities (batch, canvas, vocab) over the allowed words."""
        log_probs = logits.masked_fill(~self.allowed, NEVER).log_softmax(-1)
        return torch.where(self.allowed, log_probs.clamp(min=FLOOR), NEVER)

    def embed(self, log_probs: Tensor) -> Tensor:
        """Clean embeddings (batch, canvas, dim) of word distributions."""
        if self.clamp == "hard":
            return self.lm.embeddings[log_probs.argmax(-1)]
        sharpness = 2.0 if self.clamp == "soft" else 1.0
        return (sharpness * log_probs).softmax(-1) @ self.lm.embeddings
