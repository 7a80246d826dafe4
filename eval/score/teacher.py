"""The teacher: a small autoregressive LM whose surprise at a text is its lm-score."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import GPT2LMHeadModel

from dlm_control.diffusion.loading import device_of
from dlm_control.diffusion.seq_len import padded
from dlm_control.eval.autoregressive import word_nll
from dlm_control.support.errors import UsageError
from dlm_control.support.hub import bundled, file_digest, model_folder
from dlm_control.support.progress import hush
from dlm_control.text.tokenizer import WordTokenizer

_KIND = "gpt2"  # model_type of a teacher's config


class Teacher:
    """Scores texts.

    Args:
        source: a bundled name (`e2e-teacher`), a folder or a hub id.
        device: that the network is moved to.

    Attributes:
        folder: of its files.
        digest: of its weights.

    Raises:
        UsageError: there is no model, it is not a teacher, or there is no such device.
    """

    def __init__(self, source: str, device: str | torch.device = "cpu") -> None:
        place = device_of(device)
        folder = model_folder(source)
        if _config(folder).get("model_type") != _KIND:
            raise UsageError(
                f"teacher {source!r}: not an autoregressive model; `dlm train --kind autoregressive-lm` trains one"
            )
        self.source, self.folder, self.digest = source, folder, file_digest(folder / "model.safetensors")
        hush()
        self.tokenizer = WordTokenizer.from_pretrained(folder)
        self.model = GPT2LMHeadModel.from_pretrained(folder).eval()
        self.model.to(place)

    def nats_per_word(self, texts: Sequence[str], batch_size: int = 64) -> list[float]:
        """Mean negative log-likelihood of each text's words, its END included, in nats; unknown words count as UNK.

        A text longer than the teacher takes scores NaN.
        """
        return [fmean(nats) if nats else math.nan for nats in self.word_nll(texts, batch_size)]

    @torch.no_grad()
    def word_nll(self, texts: Sequence[str], batch_size: int = 64) -> list[list[float]]:
        """Negative log-likelihood of every word of each text.

        Args:
            texts: as people write them.
            batch_size: texts that the network reads at once.

        Returns:
            For each text the nats of its words, of its END last; an empty list where it is longer than the teacher takes.
        """
        most = self.model.config.n_positions - 1
        sentences = [[*self.tokenizer.word_ids(text), self.tokenizer.eos_token_id] for text in texts]
        found: list[list[float]] = [[] for _ in texts]
        order = sorted((i for i, s in enumerate(sentences) if len(s) <= most), key=lambda i: len(sentences[i]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids = padded([sentences[i] for i in rows], len(sentences[rows[-1]]), self.tokenizer.pad_token_id, self.model.device)
            nll, _ = word_nll(self.model, ids, self.tokenizer)
            for i, nats in zip(rows, nll.tolist(), strict=True):
                found[i] = nats[: len(sentences[i])]
        return found


def teacher_of(home: Path | None) -> str | None:
    """The teacher of the domain that a model writes in: a source for `Teacher`, or None where the domain has none.

    The model's own comes first: `teacher` in its config.json (a path from its folder, a bundled name or a hub id), then
    `<folder>/teacher`. Then a bundled teacher of exactly the model's words: a vocabulary is all words of a corpus by first
    occurrence, so equal ones come from one corpus.

    Args:
        home: the model's folder, or None where it is not known.
    """
    if home is None:
        return None
    said = _config(home).get("teacher")
    if said is not None:
        return str(home / str(said)) if (home / str(said)).is_dir() else str(said)
    if (home / "teacher" / "config.json").is_file():
        return str(home / "teacher")
    return teacher_of_words(WordTokenizer.from_pretrained(home)) if (home / "tokenizer.json").is_file() else None


def teacher_of_words(tokenizer: WordTokenizer) -> str | None:
    """The bundled teacher whose words are exactly these, or None."""
    teachers = {name: folder for name, folder in bundled().items() if _config(folder).get("model_type") == _KIND}
    words = tokenizer.get_vocab()
    return next((name for name, of in teachers.items() if WordTokenizer.from_pretrained(of).get_vocab() == words), None)


def train_a_teacher(home: Path | None) -> str:
    """How to get a teacher, for the error of a domain that has none."""
    out = home / "teacher" if home is not None else Path("runs/teacher")
    found = "is then found there" if home is not None else "is then given as --teacher runs/teacher"
    return f"`dlm train --kind autoregressive-lm --data CORPUS --out {out}` trains one, which {found}; --teacher names another"


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / 'config.json'}: cannot be read as JSON: {error}") from None
    return dict(config)
