"""A noise-aware classifier of E2E fields: p(value | field, x_t) for all eight fields at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from dlm_control.controllers.e2e import ABSENT as NOT_SAID
from dlm_control.controllers.e2e import FIELDS, PHRASES
from dlm_control.data import CanvasBatches, canvas_of, encode, padded, read_split
from dlm_control.errors import UsageError
from dlm_control.hub import model_folder
from dlm_control.language_model import LanguageModel, load
from dlm_control.model import encoder_layer, sinusoids
from dlm_control.objectives import Draws, noised
from dlm_control.recipe import Loss, Recipe

ABSENT = 0  # class 0 of every field: the text does not speak of it


class SemanticGuideConfig(PretrainedConfig):
    """Sizes of a semantic guide.

    Args:
        dim: of the word embeddings it reads.
        width, depth, heads: of its transformer.
        max_canvas: positions at most.
        schedule_name: the language model's noise schedule.
        fields: the fields, one head each.
        values: the values of each field in turn, `ABSENT` not counted.
        fingerprint: of the language model it was trained for.
    """

    model_type = "dlm-semantic-guide"

    def __init__(
        self,
        dim: int = 16,
        width: int = 128,
        depth: int = 3,
        heads: int = 4,
        max_canvas: int = 96,
        fields: list[str] | None = None,
        values: list[list[str]] | None = None,
        fingerprint: str = "",
        **kwargs: object,
    ) -> None:
        self.dim, self.width, self.depth, self.heads, self.max_canvas = dim, width, depth, heads, max_canvas
        self.fields = fields or list(FIELDS)
        self.values = values or [list(PHRASES[field]) for field in self.fields]
        self.fingerprint = fingerprint
        super().__init__(**kwargs)  # type: ignore[arg-type]


class SemanticGuide(PreTrainedModel):
    """Reads noisy embeddings, answers with log-probabilities of every field's values."""

    config_class = SemanticGuideConfig
    config: SemanticGuideConfig

    def __init__(self, config: SemanticGuideConfig) -> None:
        super().__init__(config)
        width = config.width
        self.input = nn.Linear(config.dim, width)
        self.position = nn.Embedding(config.max_canvas, width)
        self.noise_level = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(encoder_layer(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleList(nn.Linear(width, 1 + len(values)) for values in config.values)
        self.post_init()

    def forward(self, x_t: Tensor, log_snr: Tensor) -> dict[str, Tensor]:
        """Log-probabilities of values.

        Args:
            x_t: (batch, canvas, dim), noisy embeddings.
            log_snr: (batch,), of the noise level.

        Returns:
            For each field (batch, 1 + values); column 0 is "not said".
        """
        h = self.input(x_t) + self.position.weight[: x_t.shape[1]] + self.noise_level(sinusoids(log_snr))[:, None]
        for layer in self.layers:
            h = layer(h)
        pooled = self.norm(h).mean(1)
        return {field: head(pooled).log_softmax(-1) for field, head in zip(self.config.fields, self.heads, strict=True)}


class LoadedGuide:
    """A guide beside the language model it fits."""

    def __init__(self, lm: LanguageModel, network: SemanticGuide) -> None:
        self._schedule, self._network = lm.model.schedule, network.eval().requires_grad_(False)

    def energy(self, x_t: Tensor, t: Tensor, field: str, value: str) -> Tensor:
        """−log p(value | field, x_t), (batch,), for x_t (batch, canvas, dim) and t (batch,); the value may be `absent`."""
        log_probs = self._network(x_t, self._schedule.log_snr(t))[field]
        values = self._network.config.values[self._network.config.fields.index(field)]
        energy: Tensor = -log_probs[:, ABSENT if value == NOT_SAID else 1 + values.index(value)]
        return energy


def semantic_guide(lm: LanguageModel, source: str = "e2e-semantic") -> LoadedGuide:
    """The guide that fits a language model, loaded once.

    Raises:
        UsageError: it was trained on other embeddings.
    """

    def loaded() -> LoadedGuide:
        network = SemanticGuide.from_pretrained(model_folder(source))
        if network.config.fingerprint != lm.fingerprint:
            raise UsageError(
                f"semantic: the guide {source!r} was trained on other embeddings than {lm.source!r} has; "
                "train one with `dlm train configs/e2e-semantic.yaml`, or use guide: words"
            )
        return LoadedGuide(lm, network)

    return lm.once(source, loaded)


class SemanticGuideRecipe(Recipe):
    """Train a semantic guide on noised sentences with their meaning representations.

    Args:
        lm: the language model whose embeddings it reads (a bundled name or a folder).
        text_column, mr_column: of the sentences and their meanings.
        model: arguments of SemanticGuideConfig.
        tokens: positions in a batch.
    """

    kind = "semantic-guide"
    model: SemanticGuide

    def __init__(
        self,
        lm: str = "e2e",
        text_column: str = "ref",
        mr_column: str = "mr",
        model: dict[str, Any] | None = None,
        tokens: int = 1800,
    ) -> None:
        self.lm_source, self.columns, self.sizes, self.tokens = lm, (text_column, mr_column), model or {}, tokens

    def setup(self, data: str, seed: int, processes: int) -> None:
        self.lm = load(self.lm_source)
        config = SemanticGuideConfig(
            dim=self.lm.model.config.dim,
            max_canvas=self.lm.model.config.max_canvas,
            fingerprint=self.lm.fingerprint,
            **self.sizes,
        )
        torch.manual_seed(seed)
        self.model = SemanticGuide(config)
        self.sentences, self.labels = self._read(data, "train")
        self.held_out, self.held_out_labels = self._read(data, "validation")
        lengths = [len(sentence) - 1 for sentence in self.sentences]
        self.batches = CanvasBatches(lengths, config.max_canvas, self.tokens, seed, multiple=8 * processes)

    def _read(self, data: str, split: str) -> tuple[list[list[int]], np.ndarray]:
        rows = read_split(data, split, self.columns)
        sentences, unfit = encode(self.lm.tokenizer, [str(t) for t in rows[self.columns[0]]], self.model.config.max_canvas)
        if unfit:
            raise UsageError(
                f"--data {data}: {len(unfit)} texts are empty or longer than the canvas, the first in row {unfit[0]}"
            )
        values = dict(zip(self.model.config.fields, self.model.config.values, strict=True))
        return sentences, np.array([labels(str(mr), values) for mr in rows[self.columns[1]]])

    def batch(self, step: int, rank: int, world: int) -> tuple[Tensor, Tensor]:
        rows, canvas = self.batches[step]
        share = np.array_split(rows, world)[rank]
        ids = padded([self.sentences[row] for row in share], canvas, self.lm.tokenizer.pad_token_id)
        return ids, torch.from_numpy(self.labels[share])

    def loss(self, model: nn.Module, batch: Any, draws: Draws) -> Loss:
        """Sum over fields of −log p(value | x_t) at noise levels drawn per sentence."""
        ids, wanted = batch
        x0 = self.lm.embeddings[ids]
        t = draws.levels(len(ids))
        x_t = noised(self.lm.model.schedule, x0, t, draws.normal(*x0.shape))
        fields = model(x_t, self.lm.model.schedule.log_snr(t))
        losses = {field: F.nll_loss(log_probs, wanted[:, i]) for i, (field, log_probs) in enumerate(fields.items())}
        return Loss(torch.stack(list(losses.values())).sum(), {})

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Share of held-out field values named rightly, at noise levels 0.05, 0.5 and 0.8."""
        order = sorted(range(len(self.held_out)), key=lambda row: len(self.held_out[row]))[::4]
        figures: dict[str, float] = {}
        for level in (0.05, 0.5, 0.8):
            right = total = 0
            for number, start in enumerate(range(0, len(order), 64)):
                rows = order[start : start + 64]
                canvas = canvas_of(len(self.held_out[rows[-1]]) - 1, self.model.config.max_canvas)
                ids = padded([self.held_out[row] for row in rows], canvas, self.lm.tokenizer.pad_token_id)
                x0, t = self.lm.embeddings[ids], torch.full((len(rows),), level)
                x_t = noised(self.lm.model.schedule, x0, t, Draws(0, number).normal(*x0.shape))
                guesses = torch.stack([p.argmax(-1) for p in model(x_t, self.lm.model.schedule.log_snr(t)).values()], 1)
                right += int((guesses == torch.from_numpy(self.held_out_labels[rows])).sum())
                total += guesses.numel()
            figures[f"accuracy_at_{level}"] = right / total
        return figures

    def save(self, model: nn.Module, folder: Path) -> None:
        assert isinstance(model, SemanticGuide)
        model.save_pretrained(folder)


def labels(mr: str, values: dict[str, list[str]]) -> list[int]:
    """Class of each field in a meaning representation such as "name[The Mill], food[English]".

    Raises:
        UsageError: the representation names a value the field does not have.
    """
    said = dict(re.findall(r"(\w[\w ]*)\[([^\]]*)\]", mr))
    unknown = [f"{field}[{said[field]}]" for field in values if field in said and said[field] not in values[field]]
    if unknown:
        raise UsageError(f"meaning representation {mr!r}: unknown {', '.join(unknown)}")
    return [1 + values[field].index(said[field]) if field in said else ABSENT for field in values]
