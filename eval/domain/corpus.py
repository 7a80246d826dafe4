"""The first stage: texts of any source, checked, parted into training and held-out texts, in the form that all others read."""

from __future__ import annotations

import csv
import hashlib
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dlm_control.controllers.fields.domain import Domain
from dlm_control.controllers.fields.lookup import domain_at
from dlm_control.controllers.fields.meaning import COLUMN, cell_text, labels, meaning_columns, meaning_of
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


class Row(NamedTuple):
    """A text that fits, and what it means."""

    text: str
    meaning: str = ""


class _Given(NamedTuple):
    """A row of a file."""

    place: str
    value: object
    meaning: str


@dataclass(frozen=True)
class Corpus:
    """The texts of a domain.

    Attributes:
        train, held_out: texts, each with its meaning representation, which is "" where the corpus has no fields; a text that
            occurs again stays on its side.
        repeated: rows of a text that an earlier row has.
        skipped: rows left out, by why.
    """

    train: Sequence[Row]
    held_out: Sequence[Row]
    repeated: int
    skipped: dict[str, int]

    def write(self, folder: Path) -> None:
        """Both sides as CSV with the columns `ref` and `mr`."""
        write_texts(folder / TRAIN, self.train)
        write_texts(folder / HELD_OUT, self.held_out)


def read_corpus(config: DomainConfig) -> Corpus:
    """The texts of a config's files.

    Raises:
        UsageError: files are missing, unreadable or without the column; rows do not fit and none may be skipped; too few
            texts; or texts in a script that the models of English cannot tag: all that can be told at once, in one report.
    """
    problems, rows = ErrorCollector("domain: corpus"), list[_Given]()
    domain = _domain(config)
    for file in config.files:
        try:
            rows += _rows(file, config.column, domain)
        except UsageError as error:
            problems.add("", str(error))
    problems.raise_if_any()
    texts, unfit = list[Row](), dict[str, list[str]]()
    for place, value, meaning in rows:
        why = _unfit(value, config.longest)
        if why is None:
            texts.append(Row(" ".join(str(value).split()), meaning))
        else:
            unfit.setdefault(why, []).append(f"{place}: {short_repr(value)}")
    if config.unfit == "stop":
        for why, places in unfit.items():
            shown = "; ".join(places[:_SHOWN])
            problems.add("", f"{len(places)} of {len(rows)} rows {why} ({shown}); correct them, or set unfit: skip")
    if domain is not None:
        try:
            labels([row.meaning for row in texts], domain, "domain: corpus")
        except UsageError as error:
            problems.extend("", error)
    distinct = list({row.text: row for row in reversed(texts)}.values())[::-1]
    if len(distinct) < LEAST:
        problems.add("", f"has {len(distinct)} distinct texts that fit; a model needs {LEAST} or more, better thousands")
    foreign = sum(not _is_latin(row.text) for row in distinct)
    if config.syntax and distinct and 2 * foreign > len(distinct):
        problems.add(
            "",
            f"{foreign} of {len(distinct)} texts are not in Latin letters, and tags and trees are by models of English; "
            "set syntax: false",
        )
    problems.raise_if_any()
    held_out = {row.text for row in distinct if _share(row.text, config.seed) < config.held_out}
    if not held_out or len(held_out) == len(distinct):
        raise UsageError(f"domain: corpus: held_out: {config.held_out:g} of {len(distinct)} texts is none; raise it")
    return Corpus(
        train=[row for row in texts if row.text not in held_out],
        held_out=[row for row in distinct if row.text in held_out],
        repeated=len(texts) - len(distinct),
        skipped={why: len(places) for why, places in unfit.items()},
    )


def write_texts(file: Path, rows: Sequence[Row]) -> None:
    """A CSV file with the columns `ref` and `mr`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["ref", COLUMN])
    writer.writerows(rows)
    write_whole({file: buffer.getvalue()})


def _domain(config: DomainConfig) -> Domain | None:
    try:
        return domain_at(config.fields) if config.fields is not None else None
    except UsageError as error:
        raise UsageError(f"domain: fields: {error}") from None


def _rows(file: Path, column: str, domain: Domain | None) -> list[_Given]:
    """The values of a file's column, each with its place and what it means."""
    data = _read(file)
    found = "text" if file.suffix == ".txt" else column
    if found not in data.column_names:
        near = suggestion(column, data.column_names)
        raise UsageError(f"{file}: no column {column!r}{near}; it has {', '.join(data.column_names)}; name it with column:")
    first = 2 if file.suffix in (".csv", ".tsv") else 1
    others = [name for name in data.column_names if name != found]
    columns = meaning_columns(others, domain) if domain is not None else {}
    if domain is not None and not columns:
        raise UsageError(
            f"{file}: no column of the fields {', '.join(domain.fields)}, and no {COLUMN!r}; beside the text it has "
            f"{', '.join(others) or 'none'}"
        )
    meanings = [""] * len(data)
    if columns:
        cells = zip(*(map(cell_text, data[name]) for name in columns), strict=True)
        meanings = [meaning_of(dict(zip(columns, each, strict=True)), columns) for each in cells]
    values = enumerate(zip(data[found], meanings, strict=True))
    return [_Given(f"{file}:{first + i}", value, meaning) for i, (value, meaning) in values]


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
        if "corresponds to no data" in str(error):
            raise UsageError(f"{file}: has no rows") from None
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
