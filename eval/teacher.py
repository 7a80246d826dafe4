"""The teacher: a small autoregressive LM whose surprise at a text is its lm-score."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from transformers import GPT2LMHeadModel

from dlm_control.data import padded
from dlm_control.eval.autoregressive import word_nll
from dlm_control.hub import file_digest, model_folder
from dlm_control.progress import hush
from dlm_control.tokenizer import WordTokenizer


class Teacher:
    """Scores texts.

    Args:
        source: a bundled name (`e2e-teacher`), a folder or a hub id.

    Attributes:
        digest: of its weights.
    """

    def __init__(self, source: str = "e2e-teacher") -> None:
        folder = model_folder(source)
        self.source, self.digest = source, file_digest(folder / "model.safetensors")
        hush()
        self.tokenizer = WordTokenizer.from_pretrained(folder)
        self.model = GPT2LMHeadModel.from_pretrained(folder).eval()

    @torch.no_grad()
    def nat_per_word(self, texts: Sequence[str], batch_size: int = 64) -> list[float]:
        """Mean negative log-likelihood of each text's words, its END included, in nats; words it does not know count as UNK.

        A text longer than the teacher's canvas scores NaN.
        """
        most = self.model.config.n_positions - 1
        sentences = [[*self.tokenizer.word_ids(text), self.tokenizer.eos_token_id] for text in texts]
        scores = [math.nan] * len(texts)
        order = sorted((i for i, s in enumerate(sentences) if len(s) <= most), key=lambda i: len(sentences[i]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids = padded([sentences[i] for i in rows], len(sentences[rows[-1]]), self.tokenizer.pad_token_id)
            nll, counted = word_nll(self.model, ids, self.tokenizer)
            for i, score in zip(rows, (nll.sum(1) / counted.sum(1)).tolist(), strict=True):
                scores[i] = score
        return scores
