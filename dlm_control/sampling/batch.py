"""Texts for the rows of a table: their seeds, their faults, and many of them in shared network calls."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlm_control.control.controller import Controller
from dlm_control.control.use import Control, with_unique_names
from dlm_control.diffusion.backbone import Backbone
from dlm_control.sampling.feasible import check_feasible
from dlm_control.sampling.generate import Request, generate, rows_of_call
from dlm_control.sampling.presets import Preset
from dlm_control.sampling.sample import Sample
from dlm_control.sampling.stream import Stream
from dlm_control.support.errors import ErrorCollector, UsageError

CALLS = 48  # network batches of rows that are written at once: enough that few are not full, and little is lost by a kill


@dataclass(frozen=True)
class RowRequest:
    """What a row asks for.

    Attributes:
        number: of the row, counted from 1.
        request: its controls, the numbers of its texts and its seed; None where it cannot be asked.
        error: why it cannot.
    """

    number: int
    request: Request | None
    error: str | None = None


@dataclass(frozen=True)
class BatchRow:
    """The texts of a row.

    Attributes:
        number: of the row, counted from 1.
        samples: its texts; of a row that could not be asked a single one, without text, whose `error` says why.
    """

    number: int
    samples: tuple[Sample, ...]

    @property
    def error(self) -> str | None:
        """What went wrong with the row, or with the first of its texts that failed."""
        return next((sample.error for sample in self.samples if sample.error is not None), None)


class RowSeeds:
    """Seeds of rows: a text depends on what its row says, and on which of the rows that say the same it is of.

    So rows may be added, removed and sorted, and the texts of the others stay as they are. Rows that say the same go on
    counting: two of them have the two texts that one with twice as many samples would have.
    """

    def __init__(self) -> None:
        self._used: dict[int, int] = {}

    def request(
        self, controls: Sequence[Controller | Control], values: Mapping[str, Any], num_samples: int = 1, seed: int = 0
    ) -> Request:
        """What a row asks for, under a seed of its own.

        Args:
            controls: of the row.
            values: that the row gives, plain ones.
            num_samples: texts of the row.
            seed: of the whole batch.

        Raises:
            UsageError: a value is none that JSON holds.
        """
        try:
            said = json.dumps([seed, values], sort_keys=True)
        except (TypeError, ValueError) as error:
            raise UsageError(f"expected plain values (numbers, texts, lists, keys and values): {error}") from None
        own = int.from_bytes(hashlib.sha256(said.encode()).digest()[:8], "big") >> 1
        first = self._used.get(own, 0)
        self._used[own] = first + num_samples
        return Request(controls, range(first, first + num_samples), own)


def requests_of(
    lm: Backbone,
    rows: Iterable[Mapping[str, Any]],
    controls: Callable[[Mapping[str, Any]], Sequence[Controller | Control]],
    num_samples: int,
    seed: int,
) -> tuple[list[RowRequest], ErrorCollector]:
    """What rows ask for, and the faults of those that cannot be asked.

    Args:
        lm: the model.
        rows: names and plain values.
        controls: those of a row; it raises UsageError where the row is at fault.
        num_samples: texts of each row.
        seed: of the whole batch.
    """
    seeds, asked, problems = RowSeeds(), list[RowRequest](), ErrorCollector("generate_batch")
    for number, row in enumerate(rows, start=1):
        faults = ErrorCollector(f"row {number}")
        try:
            request = seeds.request(controls(row), row, num_samples, seed)
            named = with_unique_names(request.controls)
            check_feasible(lm, [(f"controls[{i}]", control) for i, control in enumerate(named)], faults)
            faults.raise_if_any()
            asked.append(RowRequest(number, request))
        except UsageError as error:
            problems.extend(f"row {number}", error)
            asked.append(RowRequest(number, None, "; ".join(map(str, error.issues))))
    return asked, problems


def write_rows(
    lm: Backbone,
    rows: Sequence[RowRequest],
    preset: Preset,
    skip_errors: bool,
    on_step: Callable[[int], None] = lambda done: None,
) -> Iterator[list[BatchRow]]:
    """The texts of rows, so many rows at a time that network calls are full, in the order of the rows.

    Args:
        lm: the model.
        rows: that were found feasible, or have an error.
        preset: how.
        skip_errors: a text for which a control fails has an `error`, and the others live.
        on_step: told how many row-steps are done, for a progress bar.

    Raises:
        UsageError: a control fails; the row is named.
    """
    for some in _portions(rows, CALLS * rows_of_call(lm, preset), preset.candidates * preset.particles):
        requests = [row.request for row in some if row.request is not None]
        stream = Stream(generate(lm, requests, preset, skip_errors=True))
        for step in stream:
            on_step(step.done)
        made = iter(stream.samples)
        written = [BatchRow(row.number, _failed(row) if row.request is None else tuple(next(made))) for row in some]
        for asked, row in zip(some, written, strict=True):
            if asked.request is not None and row.error is not None and not skip_errors:
                raise UsageError(f"row {row.number}: {row.error}")
        yield written


def _portions(rows: Sequence[RowRequest], jobs: int, copies: int) -> Iterator[list[RowRequest]]:
    """Rows of so many jobs or a few more."""
    some: list[RowRequest] = []
    left = jobs
    for row in rows:
        some.append(row)
        left -= copies * (len(row.request.indices) if row.request else 0)
        if left <= 0:
            yield some
            some, left = [], jobs
    if some:
        yield some


def _failed(row: RowRequest) -> tuple[Sample]:
    return (Sample("", (), {}, {}, None, 0, 0, 0, error=row.error),)
