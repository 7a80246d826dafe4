"""Tables of rows: JSON lines, CSV, parquet, and folders that `datasets` saved."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dlm_control.support.errors import UsageError, short_repr
from dlm_control.tasks.targets.corpora import lines_of, text_of


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        number: counted from 1; of JSON lines the line's.
        values: by column.
        error: why it is none; it has no values then.
    """

    number: int
    values: dict[str, Any]
    error: str | None = None


def read_rows(path: Path) -> list[Row]:
    """The rows of a table; the name's ending says of which format.

    In CSV, a cell that is JSON (`18`, `true`, `[0, 2, "NP"]`, `"18"`) is what JSON says, an empty one is null, and any other
    is text. In the other formats values have types already.

    Raises:
        UsageError: no such file, another format, no rows, or what is not a fault of single rows.
    """
    if path.is_dir():
        rows = _dataset(path)
    elif path.suffix not in READERS:
        raise UsageError(f"{path}: expected {', '.join(READERS)}, or a folder that `datasets` saved")
    elif not path.is_file():
        raise UsageError(f"{path}: no such file")
    else:
        rows = list(READERS[path.suffix](path))
    if not rows:
        raise UsageError(f"{path}: no rows")
    return rows


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in enumerate(lines_of(path), start=1):
        try:
            given = json.loads(line, object_pairs_hook=_object)
        except (json.JSONDecodeError, RecursionError) as error:
            yield Row(number, {}, f"not JSON: {error}")
        except UsageError as error:
            yield Row(number, {}, str(error))
        else:
            fits = isinstance(given, dict)
            yield Row(number, given if fits else {}, None if fits else f"expected a JSON object, got {short_repr(line)}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise UsageError(f"{next(name for name in names if names.count(name) > 1)} is given twice")
    return found


def _csv(path: Path) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text_of(path), newline=""), strict=True)
    try:
        columns = next(reader, [])
        for name in columns:
            if not name.strip() or columns.count(name) > 1:
                raise UsageError(f"{path}: the first line names the columns; {name!r} is empty or there twice")
        for number, cells in enumerate(reader, start=1):
            fits = len(cells) == len(columns)
            error = None if fits else f"{len(cells)} cells, expected {len(columns)}"
            yield Row(number, dict(zip(columns, map(_value, cells), strict=True)) if fits else {}, error)
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}: not CSV: {error}") from None


def _value(cell: str) -> Any:
    try:
        return json.loads(cell, parse_constant=str) if cell else None  # NaN and Infinity are words
    except (ValueError, RecursionError):
        return cell


def _parquet(path: Path) -> Iterator[Row]:
    from pyarrow import ArrowException, parquet

    try:
        found = parquet.read_table(path).to_pylist(maps_as_pydicts="strict")
    except (OSError, ArrowException) as error:
        raise UsageError(f"{path}: not parquet: {error}") from None
    yield from (Row(number, values) for number, values in enumerate(found, start=1))


def _dataset(path: Path) -> list[Row]:
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a folder that `datasets` saved: {error}") from None
    if isinstance(found, DatasetDict):
        raise UsageError(f"{path}: has the splits {', '.join(found)}; give one, such as {path / next(iter(found))}")
    return [Row(number, values) for number, values in enumerate(found, start=1)]


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet}
