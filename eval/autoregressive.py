"""Autoregressive language models, one token for each word: the teacher and the basis of the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from dlm_control.diffusion.seq_len import padded
from dlm_control.text.tokenizer import WordTokenizer
from dlm_control.training.data import CanvasBatches, encode, read_split
from dlm_control.training.objectives import Draws
from dlm_control.training.recipe import Loss, Recipe


class AutoregressiveRecipe(Recipe):
    """Train a GPT-2 from scratch on a column of sentences, one token a word.

    Args:
        text_column: the column that holds the sentences.
        min_count: a word must be seen this often to enter the vocabulary.
        width, depth, heads: of the transformer.
        tokens: positions in a batch.
        max_words: the longest sentence.
    """

    kind = "autoregressive-lm"
    usual: ClassVar[dict[str, Any]] = {"steps": 1300, "lr": 2e-3, "muon": False}

    def __init__(
        self,
        text_column: str = "ref",
        min_count: int = 11,
        width: int = 256,
        depth: int = 4,
        heads: int = 4,
        tokens: int = 1800,
        max_words: int = 96,
    ) -> None:
        self.text_column, self.min_count, self.tokens, self.max_words = text_column, min_count, tokens, max_words
        self.sizes: dict[str, Any] = {"n_embd": width, "n_layer": depth, "n_head": heads}

    def setup(self, data: str, seed: int, processes: int) -> None:
        texts = [str(text) for text in read_split(data, "train", [self.text_column])[self.text_column]]
        self.tokenizer = WordTokenizer.train(texts, self.min_count)
        remedy = "raise recipe.max_words or remove them"
        self.sentences = encode(self.tokenizer, texts, self.max_words, data, remedy)
        held_out = [str(text) for text in read_split(data, "validation", [self.text_column])[self.text_column]]
        self.held_out = encode(self.tokenizer, held_out, self.max_words, data, remedy)
        torch.manual_seed(seed)
        end = self.tokenizer.eos_token_id
        config = GPT2Config(
            vocab_size=len(self.tokenizer), n_positions=self.max_words + 1, bos_token_id=end, eos_token_id=end,
            activation_function="gelu", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **self.sizes,
        )  # fmt: skip
        self.model = GPT2LMHeadModel(config)
        lengths = [len(sentence) - 1 for sentence in self.sentences]
        self.batches = CanvasBatches(lengths, self.max_words, self.tokens, seed, multiple=8 * processes)

    def batch(self, step: int, rank: int, world: int) -> Tensor:
        rows, seq_len = self.batches[step]
        share = np.array_split(rows, world)[rank]
        return padded([self.sentences[row] for row in share], seq_len, self.tokenizer.pad_token_id, self.device)

    def loss(self, model: nn.Module, batch: Any, draws: Draws) -> Loss:
        nll, counted = word_nll(model, batch, self.tokenizer)
        return Loss(nll.sum() / counted.sum(), {})

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Nats per word on all held-out sentences."""
        total, words = 0.0, 0
        order = sorted(self.held_out, key=len)
        for i in range(0, len(order), 128):
            chunk = order[i : i + 128]
            ids = padded(chunk, len(chunk[-1]), self.tokenizer.pad_token_id, self.device)
            nll, counted = word_nll(model, ids, self.tokenizer)
            total, words = total + float(nll.sum()), words + int(counted.sum())
        return {"nats_per_word": total / words}

    def save(self, model: nn.Module, folder: Path) -> None:
        assert isinstance(model, GPT2LMHeadModel)
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def word_nll(model: nn.Module, ids: Tensor, tokenizer: WordTokenizer) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each word after END as the beginning of text.

    Args:
        ids: (batch, seq_len), words, END, PADs.

    Returns:
        (batch, seq_len) nats, 0 at PADs; (batch, seq_len) bool, the positions that count.
    """
    before = torch.cat([torch.full_like(ids[:, :1], tokenizer.eos_token_id), ids[:, :-1]], dim=1)
    counted = ids != tokenizer.pad_token_id
    logits = model(before).logits
    nll = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none").view_as(ids)
    return nll * counted, counted
