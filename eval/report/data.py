"""Runs as tables: a row for each figure, or for each text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dlm_control.eval.records import Figure, Scores, TextRecord
from dlm_control.support.errors import UsageError
from dlm_control.support.records import parse_record, read_record
from dlm_control.tasks.targets.corpora import lines_of

if TYPE_CHECKING:
    from datasets import Dataset
    from pandas import DataFrame


def read_run(run: str | Path) -> DataFrame:
    """The figures of a run.

    Args:
        run: folder, as `dlm eval` leaves it.

    Returns:
        A row for each figure, so that tables of several runs can be stacked: `suite`, `generator`, `model`, `seed`, `figure`
        (its name), `value`, `low` and `high` (the ends of its 95 % interval; NaN where it has none) and `n`.

    Raises:
        UsageError: no scored run, or pandas is missing.
    """
    scores = read_record(Scores, run_file(run, "scores.json"))
    whose = {key: getattr(scores.manifest, key) for key in ("suite", "generator", "model", "seed")}
    rows = []
    for name, found in scores.findings.items():
        if isinstance(found, Figure):
            rows.append({**whose, "figure": name, "value": found.mean, "low": found.low, "high": found.high, "n": found.n})
        elif isinstance(found, (int, float)):
            rows.append({**whose, "figure": name, "value": found})
    return _frame(
        rows, ["suite", "generator", "model", "seed", "figure", "value", "low", "high", "n"], ["value", "low", "high"]
    )


def read_samples(run: str | Path) -> DataFrame:
    """The texts of a run.

    Args:
        run: folder, as `dlm eval` leaves it.

    Returns:
        A row for each text: `target` (its name), `number` (of the text among those of its target), `text`, `controls` (a list),
        a column for each metric, `lm_score` (nats per word; NaN where a text has none), `flaws` and `failed` (lists).

    Raises:
        UsageError: no scored run, a faulty line, or pandas is missing.
    """
    seen = Counter[str]()
    rows, metrics = [], dict[str, None]()
    for found in text_records(run):
        metrics |= dict.fromkeys(found.metrics)
        head = {"target": found.target, "number": seen[found.target], "text": found.text, "controls": found.controls}
        rows.append(head | found.metrics | {"lm_score": found.lm_score, "flaws": found.flaws, "failed": found.failed})
        seen[found.target] += 1
    columns = ["target", "number", "text", "controls", *metrics, "lm_score", "flaws", "failed"]
    return _frame(rows, columns, [*metrics, "lm_score"])


def text_records(run: str | Path) -> Iterator[TextRecord]:
    """The texts of a run as records.

    Raises:
        UsageError: no scored run, or a faulty line.
    """
    file = run_file(run, "texts.jsonl")
    for place, line in enumerate(lines_of(file), start=1):
        yield parse_record(TextRecord, line, f"{file}:{place}")


def to_dataset(table: DataFrame) -> Dataset:
    """A table of `read_run` or `read_samples` as a dataset of the package `datasets`."""
    from datasets import Dataset

    return Dataset.from_pandas(table, preserve_index=False)


def run_file(run: str | Path, name: str) -> Path:
    """A file of a run's folder.

    Raises:
        UsageError: it is not there.
    """
    file = Path(run) / name
    if not file.is_file():
        raise UsageError(f"{file}: no such file; expected the folder of a run, as `dlm eval` leaves it, or `dlm score` again")
    return file


def _frame(rows: list[dict[str, object]], columns: list[str], numbers: list[str]) -> DataFrame:
    try:
        import pandas
    except ImportError:
        raise UsageError("tables of runs need pandas: pip install pandas") from None
    frame = pandas.DataFrame(rows, columns=columns)
    return frame.astype(dict.fromkeys(numbers, "float64"))
