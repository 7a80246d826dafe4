"""Reading corpora and files of targets; errors name the file and line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dlm_control.support.errors import UsageError, short_repr


def refs(path: Path) -> list[str]:
    """The sentences of a CSV file."""
    return [row["ref"] for row in rows(path, ["ref"])]


def rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file, with all its columns, of which some must be there."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file; --data names the folder that holds it")
    reader = csv.DictReader(io.StringIO(text_of(path), newline=""))
    lacking = [column for column in columns if column not in (reader.fieldnames or ())]
    if lacking:
        has = ", ".join(reader.fieldnames or ()) or "no columns"
        raise UsageError(f"{path}: no column {' and no column '.join(map(repr, lacking))}; it has {has}")
    found = []
    for row in _whole(reader, path):
        empty = [column for column in columns if row[column] is None]
        if empty:
            raise UsageError(
                f"{path}:{reader.line_num}: the row has no {' and no '.join(empty)}; it has fewer cells than columns"
            )
        found.append(row)
    return found


def _whole(reader: csv.DictReader[str], path: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from reader
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}: not CSV: {error}") from None


def text_of(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte-order mark.

    Raises:
        UsageError: it is in another encoding.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def lines_of(path: Path) -> list[str]:
    """Its lines; only a newline ends one, as in JSON lines."""
    return text_of(path).removesuffix("\n").split("\n")


def records(path: Path, kind: type, expected: str, fits: Callable[[Any], bool]) -> Iterator[Any]:
    """The JSON lines of a file, each of one kind.

    Args:
        path: the file.
        kind: type of each line's value: list or dict.
        expected: what a line should hold, in words, for the error message.
        fits: is a value of that type what it should be?

    Raises:
        UsageError: the file is missing, or a line is of another format; it is named.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; --data names the folder that holds it")
    for number, line in enumerate(lines_of(path), start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if not isinstance(record, kind) or not fits(record):
            raise UsageError(
                f"{path}:{number}: expected {expected}, got {short_repr(line)}; is it a target file of another suite?"
            )
        yield record


def of_2022(path: Path, *keys: str) -> Iterator[dict[str, list[Any]]]:
    """JSON objects, one on each line, of the target files of 2022: lists of words, and in `spans` of [first, last, label]."""
    expected = f"a JSON object with {', '.join(keys)}, lists of {'spans and ' if 'spans' in keys else ''}words"
    return records(path, dict, expected, lambda record: all(_listed(key, record.get(key)) for key in keys))


def _listed(key: str, given: object) -> bool:
    if key != "spans":
        return isinstance(given, list) and all(isinstance(word, str) for word in given)
    kinds = [int, int, str]
    return isinstance(given, list) and all(isinstance(span, list) and list(map(type, span)) == kinds for span in given)


def json_object(path: Path) -> dict[str, Any]:
    """The one JSON object of a file."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file; --data names the folder that holds it")
    try:
        content = json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected one JSON object of items, got {type(content).__name__}")
    return content
