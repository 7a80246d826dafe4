"""The recipe of the Diffusion-LM itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from dlm_control.diffusion.gaussian import GaussianBackbone
from dlm_control.diffusion.model import DiffusionLM, DiffusionLMConfig
from dlm_control.diffusion.seq_len import padded, seq_len_of
from dlm_control.support.errors import UsageError, suggestion
from dlm_control.support.values import AtLeast
from dlm_control.text.tokenizer import WordTokenizer
from dlm_control.training.data import CanvasBatches, encode, read_split
from dlm_control.training.objectives import OBJECTIVES, Draws, Objective
from dlm_control.training.recipe import Loss, Recipe
from dlm_control.training.start import check_start, started_from


class DiffusionLMRecipe(Recipe):
    """Train a Diffusion-LM on a column of sentences.

    Args:
        objective: `categorical` or `paper`.
        model: arguments of DiffusionLMConfig.
        text_column: the column that holds the sentences.
        min_count: a word must be seen this often to enter the vocabulary.
        tokens: positions in a batch.
        embeddings: `learned`, or `random` (frozen as they are at the start).
        freeze_embeddings_after: step at which learned embeddings stop moving, so that guides can be trained on them while the
            model trains on: 0 keeps those of `start_from`. By default they learn to the end.
        self_cond: share of steps with self-conditioning (`categorical` only).
        start_from: a model whose sizes, words and weights the training starts with, in place of fresh ones; `model` and
            `min_count` then have no say.
    """

    kind = "diffusion-lm"
    backbone = GaussianBackbone
    usual: ClassVar[dict[str, Any]] = {"steps": 8400, "lr": 4e-3}  # as configs/e2e.yaml
    model: DiffusionLM

    def __init__(
        self,
        objective: str = "categorical",
        model: dict[str, Any] | None = None,
        text_column: str = "ref",
        min_count: int = 11,
        tokens: int = 1800,
        embeddings: str = "learned",
        freeze_embeddings_after: Annotated[int, AtLeast(0)] | None = None,
        self_cond: float = 0.5,
        start_from: str | None = None,
    ) -> None:
        if objective not in OBJECTIVES:
            raise UsageError(
                f"recipe.objective: unknown {objective!r}{suggestion(objective, OBJECTIVES)}; "
                f"there are: {', '.join(OBJECTIVES)}"
            )
        if embeddings not in ("learned", "random"):
            raise UsageError(f"recipe.embeddings: {embeddings!r} is neither 'learned' nor 'random'")
        check_start(start_from, model)
        self.start_from = start_from
        self.objective: Objective = OBJECTIVES[objective](**({"self_cond": self_cond} if objective == "categorical" else {}))
        self.sizes = model or {}
        self.text_column, self.min_count, self.tokens = text_column, min_count, tokens
        self.frozen_from = 0 if embeddings == "random" else freeze_embeddings_after

    def setup(self, data: str, seed: int, processes: int) -> None:
        texts = [str(text) for text in read_split(data, "train", [self.text_column])[self.text_column]]
        if self.start_from is None:
            self.tokenizer, earlier = WordTokenizer.train(texts, self.min_count), None
        else:
            earlier, self.tokenizer = started_from(self.start_from, DiffusionLM)
        config = earlier.config if earlier else DiffusionLMConfig(vocab_size=len(self.tokenizer), **self.sizes)
        if config.head not in self.objective.heads:
            raise UsageError(
                f"recipe.model.head: {config.head!r} cannot be trained by this objective; "
                f"it takes {', '.join(self.objective.heads)}"
            )
        remedy = "raise recipe.model.max_seq_len or remove them"
        self.sentences = encode(self.tokenizer, texts, config.max_seq_len, data, remedy)
        lengths = [len(sentence) - 1 for sentence in self.sentences]
        config.length_counts = np.bincount(lengths, minlength=config.max_seq_len).tolist()
        torch.manual_seed(seed)
        self.model = earlier or DiffusionLM(config)
        self.batches = CanvasBatches(lengths, config.max_seq_len, self.tokens, seed, multiple=math.lcm(8, processes))
        held_out = [str(text) for text in read_split(data, "validation", [self.text_column])[self.text_column]]
        self.held_out = encode(self.tokenizer, held_out, config.max_seq_len, data, remedy)[:512]

    def batch(self, step: int, rank: int, world: int) -> Tensor:
        rows, seq_len = self.batches[step]
        share = np.array_split(rows, world)[rank]
        return padded([self.sentences[row] for row in share], seq_len, self.tokenizer.pad_token_id, self.device)

    def loss(self, model: nn.Module, batch: Any, draws: Draws) -> Loss:
        return Loss(*self.objective.loss(model, batch, draws))

    def after_backward(self, step: int) -> None:
        if self.frozen_from is not None and step >= self.frozen_from:
            self.model.word_embedding.weight.grad = None

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The objective on 512 held-out sentences, noise levels stratified; the same draws every time."""
        totals: dict[str, float] = {}
        order = sorted(range(len(self.held_out)), key=lambda row: len(self.held_out[row]))
        chunks = [order[i : i + 64] for i in range(0, len(order), 64)]
        for number, chunk in enumerate(chunks):
            sentences = [self.held_out[row] for row in chunk]
            seq_len = seq_len_of(len(sentences[-1]) - 1, self.model.config.max_seq_len)
            ids = padded(sentences, seq_len, self.tokenizer.pad_token_id, self.device)
            for name, part in self.objective.loss(model, ids, Draws(0, number, device=self.device))[1].items():
                totals[name] = totals.get(name, 0.0) + part.item() * len(chunk) / len(order)
        return totals

    def save(self, model: nn.Module, folder: Path) -> None:
        assert isinstance(model, DiffusionLM)
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
