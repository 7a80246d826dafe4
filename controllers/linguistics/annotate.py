"""`dlm annotate`: adds part-of-speech tags and a tree to each text of a corpus."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from dlm_control.support.errors import UsageError
from dlm_control.support.progress import progress
from dlm_control.text.words import split_words

COLUMNS = ("words", "penn", "pos", "tree")  # words and tags parted by spaces; one bracketed tree
_CHUNK = 128  # texts a worker takes at a time


class Outcome(NamedTuple):
    """What became of a corpus.

    Attributes:
        file: the annotated copy.
        texts: distinct texts in it.
        new: how many of them were annotated now, the others in an earlier sitting.
        rejected: texts without annotation, and why.
    """

    file: Path
    texts: int
    new: int
    rejected: dict[str, str]


def annotate_file(source: Path, column: str, out: Path, workers: int = 1) -> Outcome:
    """Write a copy of a corpus, as CSV, with the columns `words`, `penn`, `pos` and `tree`.

    Annotations are appended to `annotations.jsonl` in the same folder as they come, so a killed run continues where it stopped,
    and a text is never annotated twice. Rows that the parser rejects are left out of the copy.

    Args:
        source: a CSV file, or a .txt file of one text a line.
        column: of the texts, in the copy of a .txt file, too.
        out: folder of the copy.
        workers: processes.

    Raises:
        UsageError: the file or its column is missing, or spaCy or benepar is.
    """
    rows = _rows(source, column)
    out.mkdir(parents=True, exist_ok=True)
    known = _known(out / "annotations.jsonl")
    texts = list(dict.fromkeys(row[column] for row in rows))
    new = sorted((text for text in texts if text not in known), key=len)
    chunks = [new[i : i + _CHUNK] for i in range(0, len(new), _CHUNK)]
    with (
        open(out / "annotations.jsonl", "a", encoding="utf-8") as store,
        progress(f"annotate {source.name}", total=len(texts), start=len(texts) - len(new)) as bar,
    ):
        for chunk in _annotated(chunks, workers):
            for record in chunk:
                known[record["text"]] = record
                store.write(json.dumps(record, ensure_ascii=False) + "\n")
            store.flush()
            bar.advance(len(chunk))
    rejected = {text: str(known[text]["error"]) for text in texts if "error" in known[text]}
    copy = out / (f"{source.stem}.csv" if source.suffix == ".txt" else source.name)
    _write(copy, [{**row, **known[row[column]]} for row in rows if row[column] not in rejected], [*rows[0], *COLUMNS])
    return Outcome(copy, len(texts), len(new), rejected)


def annotation(texts: list[str]) -> list[dict[str, Any]]:
    """Words, tags and tree of each text, or the error that it caused."""
    from dlm_control.controllers.linguistics.taggers import parse, tag

    words = [split_words(text) for text in texts]
    try:
        tags, trees = tag(words), parse(words)
    except Exception as error:
        if len(texts) > 1:  # find the one
            return [record for text in texts for record in annotation([text])]
        return [{"text": texts[0], "error": f"{type(error).__name__}: {error}"}]
    return [
        {
            "text": text, "words": " ".join(w), "penn": " ".join(t.penn), "pos": " ".join(t.universal),
            "tree": " ".join(str(tree).split()),
        }
        for text, w, t, tree in zip(texts, words, tags, trees, strict=True)
    ]  # fmt: skip


def _annotated(chunks: list[list[str]], workers: int) -> Iterator[list[dict[str, Any]]]:
    if workers == 1 or len(chunks) < 2:
        yield from map(annotation, chunks)
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # workers with threads of their own get in each other's way
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(annotation, chunks)


def _rows(source: Path, column: str) -> list[dict[str, str]]:
    if not source.is_file():
        raise UsageError(f"{source}: no such file; expected a .csv file, or a .txt file of one text a line")
    with open(source, encoding="utf-8", newline="") as file:
        lines = source.suffix == ".txt"
        rows = [{column: line.strip()} for line in file] if lines else list(csv.DictReader(file))
    if not rows or column not in rows[0]:
        raise UsageError(f"{source}: no column {column!r}; it has {', '.join(rows[0]) if rows else 'no rows'}")
    empty = next((i for i, row in enumerate(rows, start=1 if lines else 2) if not split_words(row[column] or "")), None)
    if empty is not None:
        raise UsageError(f"{source}:{empty}: {column!r} holds no words")
    return rows


def _known(store: Path) -> dict[str, dict[str, Any]]:
    """Annotations of earlier sittings; a torn last line is cut off."""
    if not store.is_file():
        return {}
    whole, _, torn = store.read_text(encoding="utf-8").rpartition("\n")
    if torn:
        store.write_text(f"{whole}\n" if whole else "", encoding="utf-8")
    return {record["text"]: record for record in map(json.loads, whole.splitlines())}


def _write(file: Path, rows: list[dict[str, Any]], columns: list[str]) -> None:
    new = file.with_name(f".{file.name}.new")
    with open(new, "w", encoding="utf-8", newline="") as target:
        writer = csv.DictWriter(target, list(dict.fromkeys(columns)), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(new, file)


def annotate(
    corpus: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Such as trainset.csv devset.csv, or a .txt of one text a line.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the annotated copies; `data:` of a guide's config.")],
    column: Annotated[str, typer.Option(help="Of the texts.")] = "ref",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Tag and parse a corpus with spaCy and benepar; a killed run continues where it stopped."""
    from dlm_control.controllers.linguistics.taggers import require

    require("tags", "trees")
    for source in corpus:
        outcome = annotate_file(source, column, out, workers)
        typer.echo(f"{outcome.file}: {outcome.texts} distinct texts, {outcome.new} new, {len(outcome.rejected)} rejected")
        for text, why in list(outcome.rejected.items())[:20]:
            typer.echo(f"  rejected: {text[:60]!r}: {why}", err=True)
