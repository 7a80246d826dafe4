"""The Diffusion-LM: a bidirectional transformer that denoises word embeddings (Li et al. 2022, §4)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from dlm_control.diffusion.schedule import NoiseSchedule, noise_schedule

HEADS = ("words", "x0", "eps", "mu")
_PAPER_STEP = 1 / 2000  # the step over which the μ head's posterior mean is taken: the paper's T


class Denoised(NamedTuple):
    """What the network says of the clean sentence.

    Attributes:
        x0: (batch, seq_len, dim), its embeddings.
        logits: (batch, seq_len, vocab), log-scores of the words, or None for a head that predicts embeddings alone.
    """

    x0: Tensor
    logits: Tensor | None


class DiffusionLMConfig(PretrainedConfig):
    """Sizes and choices of a Diffusion-LM.

    Args:
        vocab_size: number of words.
        dim: size of a word embedding.
        width, depth, heads: of the transformer.
        max_seq_len: the longest sentence it knows, END and PADs included.
        schedule: name of the noise schedule.
        head: `words` (categorical, x0 = softmax(logits)·E), `x0`, `eps` or `mu` (regression, as in 2022).
        unit_norm: embeddings live on the sphere of radius sqrt(dim); otherwise they are free, as in 2022.
        local_likelihood: add log p(x_t | word) of each position to its logits, so that the network has to learn only what
            the other positions say (Gulrajani & Hashimoto 2023, §3 "output prior").
        length_counts: how many training sentences have n words, n = 0, 1, …; lengths are drawn from it.
        **kwargs: of transformers' PretrainedConfig.
    """

    model_type = "diffusion-lm"

    def __init__(
        self,
        vocab_size: int = 3,
        dim: int = 16,
        width: int = 192,
        depth: int = 6,
        heads: int = 6,
        max_seq_len: int = 96,
        schedule: str = "sqrt",
        head: str = "words",
        unit_norm: bool = True,
        local_likelihood: bool = True,
        length_counts: list[int] | None = None,
        **kwargs: object,
    ) -> None:
        self.vocab_size, self.dim, self.width, self.depth, self.heads = vocab_size, dim, width, depth, heads
        self.max_seq_len, self.schedule, self.head = max_seq_len, schedule, head
        self.unit_norm, self.local_likelihood = unit_norm, local_likelihood
        self.length_counts = length_counts or []
        super().__init__(**kwargs)  # type: ignore[arg-type]


class DiffusionLM(PreTrainedModel):
    """Denoiser over word embeddings. Call it with noisy embeddings; it answers with a Denoised."""

    config_class = DiffusionLMConfig
    config: DiffusionLMConfig
    base_model_prefix = "diffusion_lm"

    def __init__(self, config: DiffusionLMConfig) -> None:
        super().__init__(config)
        width = config.width
        self.word_embedding = nn.Embedding(config.vocab_size, config.dim)
        self.rounding_bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.input = nn.Linear(2 * config.dim, width)
        self.position = nn.Embedding(config.max_seq_len, width)
        self.noise_level = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(encoder_layer(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, config.vocab_size if config.head == "words" else config.dim)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if module is self.word_embedding:
            nn.init.normal_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule it was trained with."""
        return noise_schedule(self.config.schedule)

    @property
    def embeddings(self) -> Tensor:
        """(vocab, dim), the table that is diffused: rows of norm sqrt(dim) with `unit_norm`."""
        return self.diffused(self.word_embedding.weight)

    def diffused(self, table: Tensor) -> Tensor:
        """(vocab, dim), a table of word embeddings as it is diffused, wherever it lies and whatever its dtype."""
        return F.normalize(table, dim=-1) * math.sqrt(self.config.dim) if self.config.unit_norm else table

    def forward(self, x_t: Tensor, t: Tensor, self_cond: Tensor | None = None) -> Denoised:
        """Predict the clean sentence.

        Args:
            x_t: (batch, seq_len, dim), noisy embeddings.
            t: (batch,), noise level in [0, 1].
            self_cond: (batch, seq_len, dim), an earlier x0 of the same sentence, or None (Chen et al. 2022, Analog Bits).
        """
        earlier = torch.zeros_like(x_t) if self_cond is None else self_cond
        dtype = self.input.weight.dtype  # of the layers; what goes in and comes out is float32 all the same
        h = self.input(torch.cat([x_t, earlier], dim=-1).to(dtype))  # (batch, seq_len, width)
        level = self.noise_level(sinusoids(self.schedule.log_snr(t)).to(dtype))
        h = h + self.position.weight[: x_t.shape[1]] + level[:, None]
        for layer in self.layers:
            h = layer(h)
        out = self.output(self.norm(h)).to(x_t.dtype)
        if self.config.head != "words":
            return Denoised(self._to_x0(out, x_t, t), None)
        if self.config.local_likelihood:
            out = out + self.local_likelihood(x_t, t)
        return Denoised(out.softmax(-1) @ self._table(out.dtype), out)

    def local_likelihood(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log p(x_t at i | word at i) up to a constant: (batch, seq_len, vocab), of x_t (batch, seq_len, dim), t (batch,)."""
        alpha, sigma = (v[:, None, None] for v in self.schedule.alpha_sigma(t))
        return alpha / sigma.square() * (x_t @ self._table(x_t.dtype).T)

    def _table(self, dtype: torch.dtype) -> Tensor:
        """(vocab, dim), the table that is diffused, normalised in a dtype that may be finer than that of the weights."""
        return self.diffused(self.word_embedding.weight.to(dtype))

    def _to_x0(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The x0 that follows from the output of a regression head."""
        if self.config.head == "x0":
            return out
        alpha, sigma = (v[:, None, None] for v in self.schedule.alpha_sigma(t))
        if self.config.head == "eps":
            return (x_t - sigma * out) / alpha
        of_x0, of_x_t = posterior_mean_weights(self.schedule, t)
        return (out - of_x_t[:, None, None] * x_t) / of_x0[:, None, None]

    def rounding_logits(self, x0: Tensor) -> Tensor:
        """(batch, seq_len, vocab), the scores of words for clean embeddings: x0·Eᵀ + b (Li et al. 2022, §4.2)."""
        return x0 @ self.embeddings.T + self.rounding_bias


def posterior_mean_weights(schedule: NoiseSchedule, t: Tensor, step: float = _PAPER_STEP) -> tuple[Tensor, Tensor]:
    """Weights (of x0, of x_t) in the mean of q(x_s | x_t, x0), s = t − step ≥ 0: of the shape of t (Ho et al. 2020, eq. 7)."""
    t = t.clamp(min=step)
    alpha_t, sigma_t = schedule.alpha_sigma(t)
    alpha_s, sigma_s = schedule.alpha_sigma(t - step)
    ratio = alpha_t / alpha_s
    return alpha_s * (1 - ratio.square()) / sigma_t.square(), ratio * sigma_s.square() / sigma_t.square()


def encoder_layer(width: int, heads: int) -> nn.TransformerEncoderLayer:
    """One pre-norm layer, without dropout."""
    return nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )


def sinusoids(log_snr: Tensor, features: int = 64) -> Tensor:
    """(batch, features), sines and cosines of the log-SNR (batch,) with periods from 0.8 to 60 nats."""
    frequencies = torch.exp(torch.linspace(math.log(0.1), math.log(8.0), features // 2, device=log_snr.device))
    angles = log_snr[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


AutoConfig.register(DiffusionLMConfig.model_type, DiffusionLMConfig)
AutoModel.register(DiffusionLMConfig, DiffusionLM)
