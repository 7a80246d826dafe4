"""Sentences for training: read with `datasets`, encoded, and cut into batches of like length."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dlm_control.diffusion.seq_len import seq_len_of
from dlm_control.support.errors import UsageError, suggestion
from dlm_control.support.progress import hush
from dlm_control.text.tokenizer import WordTokenizer

if TYPE_CHECKING:
    from datasets import Dataset

DOWNLOADS = {"e2e": "https://raw.githubusercontent.com/tuetschek/e2e-dataset/master"}  # corpora by name
FILES = {"train": "trainset.csv", "validation": "devset.csv"}


def read_split(source: str, split: str, columns: Sequence[str]) -> Dataset:
    """One split of a corpus as a `datasets.Dataset`.

    Args:
        source: `e2e` (the official CSV files, over the network), a folder that holds them, a CSV file, or a text file of one
            sentence a line (column `text`).
        split: `train` or `validation`. A single file is cut: every 20th row is for validation.
        columns: the columns the caller will read.

    Raises:
        UsageError: nothing is there, or a column is missing.
    """
    import datasets

    hush()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    path = Path(source).expanduser()
    if source in DOWNLOADS and not path.exists():
        data = datasets.load_dataset("csv", data_files=f"{DOWNLOADS[source]}/{FILES[split]}", split="train")
    elif path.is_dir():
        file = path / FILES[split]
        if not file.is_file():
            raise UsageError(f"--data {source}: the folder lacks {file.name}; expected {' and '.join(FILES.values())} in it")
        data = datasets.load_dataset("csv", data_files=str(file), split="train")
    elif path.is_file():
        kind = "csv" if path.suffix == ".csv" else "text"
        data = datasets.load_dataset(kind, data_files=str(path), split="train")
        held_out = np.arange(len(data)) % 20 == 19
        data = data.select(np.flatnonzero(held_out if split == "validation" else ~held_out))
    else:
        known, files = " or ".join(DOWNLOADS), " and ".join(FILES.values())
        raise UsageError(f"--data {source}: no such file or folder; give {known}, a folder with {files}, a .csv or a .txt file")
    for column in columns:
        if column not in data.column_names:
            raise UsageError(
                f"--data {source}: no column {column!r}{suggestion(column, data.column_names)}; it has "
                f"{', '.join(data.column_names)}; name the right one with --text-column"
            )
    return data


def encode(tokenizer: WordTokenizer, texts: Sequence[str], max_seq_len: int, source: str, remedy: str) -> list[list[int]]:
    """Word ids of each text with END behind them.

    Args:
        tokenizer: of the words.
        texts: of a corpus.
        max_seq_len: positions at most.
        source: where the texts come from, for the error message.
        remedy: what to do about texts that do not fit, for the error message.

    Raises:
        UsageError: texts are empty or are longer than the model takes.
    """
    ids = [[*tokenizer.word_ids(text), tokenizer.eos_token_id] for text in texts]
    unfit = [i for i, sentence in enumerate(ids) if not 1 < len(sentence) <= max_seq_len]
    if unfit:
        raise UsageError(
            f"--data {source}: {len(unfit)} of {len(texts)} texts are empty or longer than {max_seq_len - 1} words "
            f"(row {unfit[0]}: {texts[unfit[0]][:60]!r}); {remedy}"
        )
    return ids


class Batch(NamedTuple):
    """Rows of the corpus of one padded length."""

    rows: np.ndarray  # (batch,), indices into the corpus
    seq_len: int


class CanvasBatches:
    """Endless batches of sentences of like length: batch number `step` depends on (seed, step) alone.

    A quarter of the sentences get 1 to 8 spare PADs, so that the model learns to end before the sequence does. Rows left over
    in a bucket join the next larger one; only the rest of the largest waits for the next epoch's shuffle.

    Args:
        lengths: words of each sentence, END not counted.
        max_seq_len: positions at most.
        tokens: positions in a batch, about.
        seed: of the shuffles.
        multiple: batch sizes are multiples of it (the number of processes).
    """

    def __init__(self, lengths: Sequence[int], max_seq_len: int, tokens: int, seed: int, multiple: int = 8) -> None:
        self.lengths = np.asarray(lengths)
        self.max_seq_len, self.tokens, self.seed, self.multiple = max_seq_len, tokens, seed, multiple
        self._first, self._epoch, self._batches = 0, -1, list[Batch]()

    def __getitem__(self, step: int) -> Batch:
        if step < self._first:
            self._first, self._epoch, self._batches = 0, -1, []
        while step >= self._first + len(self._batches):
            self._first += len(self._batches)
            self._epoch += 1
            self._batches = list(self._shuffled(self._epoch))
            if not self._batches:
                raise UsageError(f"{len(self.lengths)} sentences do not fill one batch of {self.multiple}; give more text")
        return self._batches[step - self._first]

    def _shuffled(self, epoch: int) -> Iterator[Batch]:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.lengths))
        spare = np.where(rng.random(len(order)) < 0.25, rng.integers(1, 9, len(order)), 0)
        seq_lens = np.array([seq_len_of(self.lengths[row], self.max_seq_len, s) for row, s in zip(order, spare, strict=True)])
        batches, left = list[Batch](), np.empty(0, dtype=int)
        for seq_len in np.unique(seq_lens):
            rows = np.concatenate([left, order[seq_lens == seq_len]])
            size = max(self.multiple, round(self.tokens / seq_len / self.multiple) * self.multiple)
            full = len(rows) // size * size
            batches += [Batch(part, int(seq_len)) for part in rows[:full].reshape(-1, size)]
            left = rows[full:]
        full = len(left) // self.multiple * self.multiple
        if full:
            batches.append(Batch(left[:full], int(seq_lens.max())))
        for i in rng.permutation(len(batches)):
            yield batches[i]
