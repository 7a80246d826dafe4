"""The network of the 2022 release: BERT layers between embeddings and embeddings (Li et al. 2022, §4 and App. F)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, BertConfig, PretrainedConfig, PreTrainedModel
from transformers.models.bert.modeling_bert import BertEncoder

from dlm_control.diffusion.model import Denoised
from dlm_control.diffusion.schedule import NoiseSchedule, noise_schedule

ROUNDINGS = ("dot", "distance")
_CLOCK = 1000  # the release counts its steps from 0 to 1000, however many they are
_PERIOD = 10_000.0


class PaperLMConfig(PretrainedConfig):
    """Sizes and choices of a network of the release; the defaults are those of its E2E model.

    Args:
        vocab_size: number of tokens.
        dim: size of a token's embedding.
        width, depth, heads, inner: of the BERT layers; `inner` is the width of their feed-forward part.
        positions: rows of the table of positions.
        time_features: sinusoids of the time.
        canvas: positions of a training sequence, START, END and PADs included.
        diffusion_steps: T of the training.
        rescale_timesteps: the network is told i · 1000 / T of step i, not i.
        schedule: name of the noise schedule.
        rounding: scores of words for clean embeddings: `dot` (x·Eᵀ + b) or `distance` (−‖x − E‖).
        newline_token_id: of the line break that ends each training text before END, or None.
        length_counts: how many training sentences have n words, n = 0, 1, …; lengths are drawn from it.
        **kwargs: of transformers' PretrainedConfig.
    """

    model_type = "diffusion-lm-2022"
    local_likelihood = False

    def __init__(
        self,
        vocab_size: int = 821,
        dim: int = 16,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        inner: int = 3072,
        positions: int = 512,
        time_features: int = 128,
        canvas: int = 64,
        diffusion_steps: int = 2000,
        rescale_timesteps: bool = True,
        schedule: str = "sqrt",
        rounding: str = "dot",
        newline_token_id: int | None = None,
        length_counts: list[int] | None = None,
        **kwargs: object,
    ) -> None:
        self.vocab_size, self.dim, self.width, self.depth, self.heads = vocab_size, dim, width, depth, heads
        self.inner, self.positions, self.time_features, self.canvas = inner, positions, time_features, canvas
        self.diffusion_steps, self.rescale_timesteps, self.schedule = diffusion_steps, rescale_timesteps, schedule
        self.rounding, self.newline_token_id, self.length_counts = rounding, newline_token_id, length_counts or []
        super().__init__(**kwargs)  # type: ignore[arg-type]


class PaperLM(PreTrainedModel):
    """Denoiser of the release: it predicts x0. Its modules bear the release's names, so that weights go by the same keys."""

    config_class = PaperLMConfig
    config: PaperLMConfig
    base_model_prefix = "paper_lm"

    def __init__(self, config: PaperLMConfig) -> None:
        super().__init__(config)
        width, features = config.width, config.time_features
        self.word_embedding = nn.Embedding(config.vocab_size, config.dim)
        self.rounding_bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.time_embed = nn.Sequential(nn.Linear(features, 4 * features), nn.SiLU(), nn.Linear(4 * features, width))
        self.input_up_proj = nn.Sequential(nn.Linear(config.dim, width), nn.Tanh(), nn.Linear(width, width))
        self.position_embeddings = nn.Embedding(config.positions, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)
        self.input_transformers = BertEncoder(_layers(config))
        self.output_down_proj = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, config.dim))
        self.post_init()

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule it was trained with."""
        return noise_schedule(self.config.schedule)

    @property
    def embeddings(self) -> Tensor:
        """(vocab, dim), the table that is diffused."""
        return self.word_embedding.weight

    def diffused(self, table: Tensor) -> Tensor:
        """(vocab, dim), a table of embeddings as it is diffused: itself."""
        return table

    def forward(self, x_t: Tensor, t: Tensor, self_cond: Tensor | None = None) -> Denoised:
        """Predict the clean sentence.

        Args:
            x_t: (batch, canvas, dim), noisy embeddings of START, the text, END and PADs.
            t: (batch,), noise level in [0, 1]; the release's step i of T is the level (i + 1) / T.
            self_cond: the release knows no self-conditioning, and ignores it.
        """
        step = (t * self.config.diffusion_steps - 1).clamp(min=0)
        time = step * (_CLOCK / self.config.diffusion_steps) if self.config.rescale_timesteps else step
        dtype = self.position_embeddings.weight.dtype
        h = self.position_embeddings.weight[: x_t.shape[1]] + self.input_up_proj(x_t.to(dtype))  # (batch, canvas, width)
        h = h + self.time_embed(sinusoids(time, self.config.time_features).to(dtype))[:, None]
        h = self.input_transformers(self.LayerNorm(h)).last_hidden_state
        return Denoised(self.output_down_proj(h).to(x_t.dtype), None)

    def rounding_logits(self, x0: Tensor) -> Tensor:
        """(batch, canvas, vocab), the scores of words for clean embeddings, as the release rounds its last x0."""
        table = self.word_embedding.weight.to(x0.dtype)
        if self.config.rounding == "distance":
            return -torch.cdist(x0, table)
        return x0 @ table.T + self.rounding_bias.to(x0.dtype)


def sinusoids(time: Tensor, features: int) -> Tensor:
    """(batch, features), cosines and then sines of the time (batch,) (Vaswani et al. 2017, §3.5)."""
    half = features // 2
    frequencies = torch.exp(-math.log(_PERIOD) / half * torch.arange(half, device=time.device))
    angles = time[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _layers(config: PaperLMConfig) -> BertConfig:
    layers = BertConfig(
        hidden_size=config.width, num_hidden_layers=config.depth, num_attention_heads=config.heads,
        intermediate_size=config.inner, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, vocab_size=1,
    )  # fmt: skip
    layers._attn_implementation = "sdpa"
    return layers


AutoConfig.register(PaperLMConfig.model_type, PaperLMConfig)
AutoModel.register(PaperLMConfig, PaperLM)
