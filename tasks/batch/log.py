"""What the folder of a batch that is going on holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dlm_control.support.record_log import RecordLog
from dlm_control.support.records import Record


@dataclass(frozen=True, kw_only=True)
class BatchPlan(Record):
    """`plan.json`: what the texts of a batch depend on.

    Attributes:
        template: sha256 of all that it says.
        rows: how many.
        rows_digest: sha256 of what they say.
        preset: all its values.
        bad_rows: stop or skip.
        model: its source, fingerprint and weights, where it lies and in which dtype.
        versions: of packages, by name.
    """

    template: str
    rows: int
    rows_digest: str
    preset: dict[str, Any]
    bad_rows: str
    model: dict[str, Any]
    versions: dict[str, Any]


@dataclass(frozen=True)
class BatchLine(Record):
    """A line of the log: what became of a row.

    Attributes:
        row: its number.
        texts: as in the output.
        seconds: its share of the time of the rows that were written with it.
    """

    row: int
    texts: list[dict[str, Any]]
    seconds: float


class BatchLog(RecordLog[BatchPlan, BatchLine]):
    """The rows of a batch that are done; see `RecordLog`."""

    plan_kind, line_kind = BatchPlan, BatchLine
    hint = "finish that one with its own command, or remove the folder"
