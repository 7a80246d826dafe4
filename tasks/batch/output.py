"""The output of a batch: a line each text, as JSON lines or parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlm_control.support.errors import UsageError
from dlm_control.tasks.batch.table import Row

FORMATS = (".jsonl", ".parquet")


def check_format(file: Path, rows: Sequence[Row] = ()) -> None:
    """
    Args:
        file: the output.
        rows: whose columns it is to hold.

    Raises:
        UsageError: its name ends with no known format, or columns do not fit that.
    """
    if file.suffix not in FORMATS:
        raise UsageError(f"--out {file}: expected a name that ends with {' or '.join(FORMATS)}")
    if file.suffix == ".parquet":
        _variables([row.values for row in rows], file)


def encoded(file: Path, lines: Sequence[dict[str, Any]]) -> bytes:
    """What a file is to hold.

    Args:
        file: whose name says the format.
        lines: `row`, `variables` and what `tasks.run.record` gives, of each text.
    """
    if file.suffix == ".jsonl":
        return "".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in lines).encode()
    import pyarrow as pa
    from pyarrow import parquet

    check = pa.struct({"score": pa.float64(), "why": pa.string(), "passed": pa.bool_(), "firmness": pa.string()})
    kinds = {
        "row": pa.int64(), "text": pa.string(), "words": pa.list_(pa.string()), "checks": pa.map_(pa.string(), check),
        "energies": pa.map_(pa.string(), pa.float64()), "nats_per_word": pa.float64(), "seed": pa.int64(),
        "index": pa.int64(), "calls": pa.int64(), "error": pa.string(),
    }  # fmt: skip
    columns = {name: pa.array([_pairs(line[name]) for line in lines], kind) for name, kind in kinds.items()}
    columns["variables"] = _variables([line["variables"] for line in lines], file)
    sink = io.BytesIO()
    parquet.write_table(pa.table(columns), sink)
    return sink.getvalue()


def _pairs(value: Any) -> Any:
    return list(value.items()) if isinstance(value, dict) else value


def _variables(values: Sequence[dict[str, Any]], file: Path) -> Any:
    import pyarrow as pa

    try:
        return pa.array([given or None for given in values])
    except (pa.ArrowException, OverflowError) as error:
        raise UsageError(f"--out {file}: parquet wants one type a column ({error}); write .jsonl") from None
