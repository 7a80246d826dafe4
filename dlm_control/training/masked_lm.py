"""The recipe of a masked diffusion model: transformers' own BertForMaskedLM, trained to fill any share of a sentence."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel

from dlm_control.diffusion.masked import MaskedBackbone
from dlm_control.diffusion.seq_len import padded, seq_len_of
from dlm_control.support.errors import ErrorCollector, suggestion
from dlm_control.support.values import AtLeast
from dlm_control.text.tokenizer import WordTokenizer
from dlm_control.training.data import CanvasBatches, encode, read_split
from dlm_control.training.objectives import Draws
from dlm_control.training.recipe import Loss, Recipe
from dlm_control.training.start import check_start, started_from

_SIZES: dict[str, Any] = {
    "hidden_size": 192,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "intermediate_size": 768,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 96,
    "type_vocab_size": 1,
    "tie_word_embeddings": False,
}
_COUNTS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings")
_OURS = {"vocab_size", "pad_token_id", "length_counts", "is_decoder", "add_cross_attention"}  # the last two: it reads both ways
_HELD_OUT, _PASSES = 512, 2  # sentences of an evaluation, and masks of each


class MaskedLMRecipe(Recipe):
    """Train a BertForMaskedLM on a column of sentences as an absorbing diffusion (Sahoo et al. 2024; Nie et al. 2025).

    The model reads a padded sentence whole, without attention mask or token types: END and PADs are never masked, so the
    length is known.

    Args:
        model: arguments of transformers' BertConfig; 192 wide, 6 deep, no dropout, untied output by default.
        text_column: the column that holds the sentences.
        min_count: a word must be seen this often to enter the vocabulary.
        tokens: positions in a batch.
        freeze_embeddings_after: step at which word embeddings stop moving, so that guides can be trained while the model
            trains on: 0 keeps those of `start_from`. By default they learn to the end.
        start_from: a model whose sizes, words and weights the training starts with, in place of fresh ones; `model` and
            `min_count` then have no say.
    """

    kind = "masked-lm"
    backbone = MaskedBackbone
    model: BertForMaskedLM

    def __init__(
        self,
        model: dict[str, Any] | None = None,
        text_column: str = "ref",
        min_count: int = 11,
        tokens: int = 1800,
        freeze_embeddings_after: Annotated[int, AtLeast(0)] | None = None,
        start_from: str | None = None,
    ) -> None:
        check_start(start_from, model)
        self.start_from = start_from
        self.sizes = {**_SIZES, **(model or {})}
        _check(self.sizes)
        self.text_column, self.min_count, self.tokens = text_column, min_count, tokens
        self.frozen_from = freeze_embeddings_after

    def setup(self, data: str, seed: int, processes: int) -> None:
        texts = [str(text) for text in read_split(data, "train", [self.text_column])[self.text_column]]
        remedy = "raise recipe.model.max_position_embeddings or remove them"
        if self.start_from is None:
            self.tokenizer, earlier = WordTokenizer.train(texts, self.min_count, mask=True), None
        else:
            earlier, self.tokenizer = started_from(self.start_from, BertForMaskedLM)
        self.seq_len = earlier.config.max_position_embeddings if earlier else self.sizes["max_position_embeddings"]
        self.sentences = encode(self.tokenizer, texts, self.seq_len, data, remedy)
        lengths = [len(sentence) - 1 for sentence in self.sentences]
        counts = np.bincount(lengths, minlength=self.seq_len).tolist()
        torch.manual_seed(seed)
        self.model = earlier or BertForMaskedLM(self._config(len(self.tokenizer)))
        self.model.config.length_counts = counts
        self.batches = CanvasBatches(lengths, self.seq_len, self.tokens, seed, multiple=math.lcm(8, processes))
        held_out = [str(text) for text in read_split(data, "validation", [self.text_column])[self.text_column]]
        self.held_out = encode(self.tokenizer, held_out, self.seq_len, data, remedy)[:_HELD_OUT]

    def _config(self, words: int) -> BertConfig:
        # BertConfig's pad_token_id would freeze that embedding at zero; here PADs say where a sentence ends, and are learnt.
        return BertConfig(vocab_size=words, pad_token_id=None, **self.sizes)

    def batch(self, step: int, rank: int, world: int) -> Tensor:
        rows, seq_len = self.batches[step]
        share = np.array_split(rows, world)[rank]
        return padded([self.sentences[row] for row in share], seq_len, self.tokenizer.pad_token_id, self.device)

    def loss(self, model: nn.Module, batch: Any, draws: Draws) -> Loss:
        """The bound in nats a position (the same divisor in every process); in nats per word for the log."""
        costs, words = self.costs(model, batch, draws)
        return Loss(costs.sum() / batch.numel(), {"bound": costs.detach().sum() / words.sum()})

    def costs(self, model: nn.Module, ids: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """An unbiased estimate of the bound on each sentence's −log p, from one mask of it.

        Args:
            model: answers word ids with `logits`.
            ids: (batch, seq_len), words, END, PADs.
            draws: random numbers.

        Returns:
            (batch,) nats a sentence, and (batch,) its words.
        """
        words = ~torch.isin(ids, torch.tensor([self.tokenizer.eos_token_id, self.tokenizer.pad_token_id], device=ids.device))
        masked, weight = masks(words, draws)
        logits = model(input_ids=ids.masked_fill(masked, self.tokenizer.mask_token_id)).logits
        costs = F.cross_entropy(logits[masked], ids[masked], reduction="none")
        rows = masked.nonzero()[:, 0]
        return torch.zeros_like(weight).index_add(0, rows, costs * weight[rows]), words.sum(1)

    def after_backward(self, step: int) -> None:
        if self.frozen_from is not None and step >= self.frozen_from:
            self.model.get_input_embeddings().weight.grad = None

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The bound in nats per word on 512 held-out sentences, masking rates stratified; the same draws every time."""
        order = sorted(range(len(self.held_out)), key=lambda row: len(self.held_out[row]))
        cost = count = 0.0
        for number, start in enumerate(range(0, len(order), 64)):
            sentences = [self.held_out[row] for row in order[start : start + 64]]
            seq_len = seq_len_of(len(sentences[-1]) - 1, self.seq_len)
            ids = padded(sentences * _PASSES, seq_len, self.tokenizer.pad_token_id, self.device)
            costs, words = self.costs(model, ids, Draws(0, number, device=self.device))
            cost, count = cost + costs.sum().item(), count + words.sum().item()
        return {"bound": cost / count}

    def save(self, model: nn.Module, folder: Path) -> None:
        assert isinstance(model, PreTrainedModel)
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _check(sizes: dict[str, Any]) -> None:
    """Refuse arguments of BertConfig that make no model of ours.

    Raises:
        UsageError: with all that is wrong.
    """
    known, problems = {f.name for f in fields(BertConfig)} - _OURS, ErrorCollector("recipe.model")
    for key in sorted(sizes.keys() - known):
        ours = "the recipe sets it" if key in _OURS else f"unknown key{suggestion(key, known)}"
        problems.add(key, f"{ours}; it takes arguments of transformers' BertConfig")
    for key in _COUNTS:
        if type(sizes[key]) is not int or sizes[key] < 1:
            problems.add(key, f"expected a whole number above 0, got {sizes[key]!r}")
    problems.raise_if_any()
    try:
        with torch.device("meta"):
            BertForMaskedLM(BertConfig(vocab_size=8, pad_token_id=None, **sizes))
    except Exception as error:  # of any class: transformers checks some values when it reads them, some when it builds layers
        problems.add("", f"transformers makes no model of it: {' '.join(str(error).split())}")
    problems.raise_if_any()


def masks(words: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Which words of each sentence are masked: a number uniform in 1 … n, any words of that number alike.

    A rate r uniform in (0, 1) with a coin for each word and the weight 1/r has the same mean, and more noise: it masks nothing
    at times, and weighs without limit (Nie et al. 2025, eq. 6 and App. A.1).

    Args:
        words: (batch, seq_len) bool, True where a word may be masked; at least one in each row.
        draws: random numbers; the numbers of masked words are stratified over the batch.

    Returns:
        (batch, seq_len) bool, True at masked words; and (batch,), n / number masked: the weight of a masked word's cost in the
        bound on the sentence's −log p.
    """
    n = words.sum(1)
    rates = draws.levels(len(words)).to(words.device)
    number = (rates * n).floor().clamp(max=n - 1) + 1
    noise = draws.normal(*words.shape).to(words.device).masked_fill(~words, math.inf)
    ranks = noise.argsort(1).argsort(1)  # words come before the rest
    return ranks < number[:, None], n / number
