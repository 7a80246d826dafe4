"""The first stage: texts of any source, checked, parted into training and held-out texts, in the form that all others read."""

from __future__ import annotations

import csv
import hashlib
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlm_control.eval.domain.config import DomainConfig
from dlm_control.support.errors import ErrorCollector, UsageError, short_repr, suggestion
from dlm_control.support.files import write_whole
from dlm_control.support.progress import hush
from dlm_control.text.words import split_words

if TYPE_CHECKING:
    from datasets import Dataset

TRAIN, HELD_OUT = "trainset.csv", "devset.csv"  # as `read_split` expects them
LEAST = 100  # distinct texts that a model can be trained on
_KINDS = {".csv": "csv", ".tsv": "csv", ".txt": "text", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
_SHOWN = 3  # rows of each fault that a report names


@dataclass(frozen=True)
class Corpus:
    """The texts of a domain.

    Attributes:
        train, held_out: texts; a text that occurs again stays on its side.
        repeated: rows of a text that an earlier row has.
        skipped: rows left out, by why.
    """

    train: Sequence[str]
    held_out: Sequence[str]
    repeated: int
    skipped: dict[str, int]

    def write(self, folder: Path) -> None:
        """Both sides as CSV with a column `ref`."""
        write_texts(folder / TRAIN, self.train)
        write_texts(folder / HELD_OUT, self.held_out)


def read_corpus(config: DomainConfig) -> Corpus:
    """The texts of a config's files.

    Raises:
        UsageError: files are missing, unreadable or without the column; rows do not fit and none may be skipped; too few
            texts; or texts in a script that the models of English cannot tag: all that can be told at once, in one report.
    """
    problems, rows = ErrorCollector("domain: corpus"), list[tuple[str, object]]()
    for file in config.files:
        try:
            rows += _rows(file, config.column)
        except UsageError as error:
            problems.add("", str(error))
    problems.raise_if_any()
    texts, unfit = list[str](), dict[str, list[str]]()
    for place, value in rows:
        why = _unfit(value, config.longest)
        if why is None:
            texts.append(" ".join(str(value).split()))
        else:
            unfit.setdefault(why, []).append(f"{place}: {short_repr(value)}")
    if config.unfit == "stop":
        for why, places in unfit.items():
            shown = "; ".join(places[:_SHOWN])
            problems.add("", f"{len(places)} of {len(rows)} rows {why} ({shown}); correct them, or set unfit: skip")
    distinct = list(dict.fromkeys(texts))
    if len(distinct) < LEAST:
        problems.add("", f"has {len(distinct)} distinct texts that fit; a model needs {LEAST} or more, better thousands")
    foreign = sum(not _is_latin(text) for text in distinct)
    if config.syntax and distinct and 2 * foreign > len(distinct):
        problems.add(
            "",
            f"{foreign} of {len(distinct)} texts are not in Latin letters, and tags and trees are by models of English; "
            "set syntax: false",
        )
    problems.raise_if_any()
    held_out = {text for text in distinct if _share(text, config.seed) < config.held_out}
    if not held_out or len(held_out) == len(distinct):
        raise UsageError(f"domain: corpus: held_out: {config.held_out:g} of {len(distinct)} texts is none; raise it")
    return Corpus(
        train=[text for text in texts if text not in held_out],
        held_out=[text for text in distinct if text in held_out],
        repeated=len(texts) - len(distinct),
        skipped={why: len(places) for why, places in unfit.items()},
    )


def write_texts(file: Path, texts: Sequence[str]) -> None:
    """A CSV file with a column `ref`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["ref"])
    writer.writerows([text] for text in texts)
    write_whole({file: buffer.getvalue()})


def _rows(file: Path, column: str) -> list[tuple[str, object]]:
    """The values of a file's column, each with its place."""
    data = _read(file)
    found = "text" if file.suffix == ".txt" else column
    if found not in data.column_names:
        near = suggestion(column, data.column_names)
        raise UsageError(f"{file}: no column {column!r}{near}; it has {', '.join(data.column_names)}; name it with column:")
    first = 2 if file.suffix in (".csv", ".tsv") else 1
    return [(f"{file}:{first + i}", value) for i, value in enumerate(data[found])]


def _read(file: Path) -> Dataset:
    import datasets

    hush()
    datasets.disable_progress_bars()
    if file.is_dir():
        try:
            saved = datasets.load_from_disk(str(file))
        except Exception as error:
            raise UsageError(f"{file}: is no folder that `datasets` saved: {_first_line(error)}") from None
        return datasets.concatenate_datasets(list(saved.values())) if isinstance(saved, datasets.DatasetDict) else saved
    if not file.is_file():
        raise UsageError(f"{file}: no such file")
    if file.suffix not in _KINDS:
        raise UsageError(f"{file}: unknown kind of file {file.suffix!r}; there are: {', '.join(_KINDS)}")
    if file.suffix != ".parquet":
        _check_encoding(file)
    options = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if file.suffix == ".tsv" else {}
    if file.suffix == ".txt":
        return datasets.Dataset.from_dict({"text": file.read_text(encoding="utf-8").splitlines()})
    try:
        return datasets.load_dataset(_KINDS[file.suffix], data_files=str(file), split="train", **options)
    except Exception as error:  # of any class: each format has its own
        raise UsageError(f"{file}: cannot be read as {_KINDS[file.suffix]}: {_first_line(error.__cause__ or error)}") from None


def _check_encoding(file: Path) -> None:
    """Refuse a file that is not UTF-8, or that is empty."""
    raw = file.read_bytes()
    if not raw.strip():
        raise UsageError(f"{file}: is empty")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UsageError(f"{file}:{line}: is not UTF-8 (byte {raw[error.start]:#04x}); convert it, as by iconv") from None


def _unfit(value: object, longest: int) -> str | None:
    """Why a row cannot be learnt from."""
    if value is None:
        return "hold nothing"
    if not isinstance(value, str):
        return f"hold a {type(value).__name__}, not a text"
    words = len(split_words(value))
    if words == 0:
        return "hold no words"
    return f"have more than {longest} words" if words > longest else None


def _is_latin(text: str) -> bool:
    """Are most letters Latin?"""
    letters = [char for char in text if char.isalpha()]
    return 2 * sum("LATIN" in unicodedata.name(char, "") for char in letters) >= len(letters)


def _share(text: str, seed: int) -> float:
    """A number in [0, 1) that a text and a seed decide."""
    return int.from_bytes(hashlib.sha256(f"{seed} {text}".encode()).digest()[:8], "big") / 2**64


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
