"""Running a template for the rows of a table: a log that survives a kill, then one output file with a manifest beside it."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.batch import RowRequest, write_rows
from dlm_control.sampling.generate import row_steps
from dlm_control.support.files import write_whole
from dlm_control.support.processes import processes
from dlm_control.support.progress import progress
from dlm_control.tasks.batch.faults import RowFaults
from dlm_control.tasks.batch.log import BatchLine, BatchLog, BatchPlan
from dlm_control.tasks.batch.output import check_format, encoded
from dlm_control.tasks.batch.requests import requests_of
from dlm_control.tasks.batch.table import Row, read_rows
from dlm_control.tasks.batch.template import Template
from dlm_control.tasks.run import made_with, manifest_of, record, writable


class BatchReport(NamedTuple):
    """How a batch went.

    Attributes:
        rows, texts: how many.
        obey_all: texts that obey all controls.
        failed: what is wrong with each row that has a text less than asked, by number.
        seconds: of sampling, the sum over processes.
    """

    rows: int
    texts: int
    obey_all: int
    failed: dict[int, str]
    seconds: float


def run_batch(
    template: Template,
    table: str | Path,
    lm: LanguageModel,
    out: str | Path,
    bad_rows: str = "stop",
    keep: Sequence[str] = (),
    force: bool = False,
) -> BatchReport | None:
    """Write texts for every row of a table.

    Under `accelerate launch` the processes share the rows; a text does not depend on which of them writes it.

    Args:
        template: that each row fills.
        table: JSON lines, CSV, parquet, or a folder that `datasets` saved.
        lm: the model.
        out: `.jsonl` or `.parquet`, a line each text, in the order of the rows. Until all are done `<out>.parts` holds them,
            and the same call goes on there.
        bad_rows: `stop` refuses all rows if some cannot be asked, in one report, and ends when a control fails; with `skip`
            these have a line with an `error` and no text.
        keep: columns that no variable uses; like the variables, they are copied to the output.
        force: replace `out` if it exists.

    Returns:
        How it went; None in all processes but the first.

    Raises:
        UsageError: the template, the table or its rows are faulty, `out` cannot be written, or `<out>.parts` is of another run.
    """
    file, rows = writable(out, force), read_rows(Path(table))
    check_format(file, rows)
    preset = template.spec.preset.for_model(lm.backbone)
    faults = RowFaults(str(table))
    asked = requests_of(template, rows, keep, lm.backbone, faults)
    faults.raise_if_any(rows=bad_rows == "stop" or all(row.request is None for row in asked))
    rank, world, wait = processes()
    log = BatchLog(file.with_name(f"{file.name}.parts"), rank)
    made = made_with(lm)
    if rank == 0:
        said = json.dumps([row.values for row in rows], sort_keys=True, default=str).encode()
        log.start(
            BatchPlan(template=template.digest, rows=len(rows), rows_digest=hashlib.sha256(said).hexdigest(),
                      preset=asdict(preset), bad_rows=bad_rows, **made)
        )  # fmt: skip
    wait()
    done = {line.row for line in log.records()}
    wait()
    own = asked[rank::world]
    left = [row for row in own if row.number not in done]
    total, start = (_steps(each, preset) for each in (own, [row for row in own if row.number in done]))
    started = time.perf_counter()
    with progress("generate", total=total, start=start, show=rank == 0) as bar:
        for written in write_rows(lm.backbone, left, preset, bad_rows == "skip", bar.advance):
            now = time.perf_counter()
            share = round((now - started) / len(written), 3)
            log.append(*(BatchLine(row.number, [record(sample) for sample in row.samples], share) for row in written))
            started = now
    wait()
    return _finish(template, table, log, rows, file, made) if rank == 0 else None


def _steps(rows: Sequence[RowRequest], preset: Any) -> int:
    return row_steps([row.request for row in rows if row.request is not None], preset)


def _finish(
    template: Template, table: str | Path, log: BatchLog, rows: Sequence[Row], file: Path, made: dict[str, Any]
) -> BatchReport:
    """Put the log's lines in order, write them to the output, and remove the log."""
    found = {line.row: line for line in log.records()}
    lines = [
        {"row": row.number, "variables": row.values, **text} for row in rows for text in found[row.number].texts
    ]  # fmt: skip
    failed = {line["row"]: line["error"] for line in reversed(lines) if line["error"] is not None}
    obey = sum(line["error"] is None and all(check["passed"] for check in line["checks"].values()) for line in lines)
    seconds = sum(line.seconds for line in found.values())
    report = BatchReport(len(rows), sum(line["error"] is None for line in lines), obey, dict(sorted(failed.items())), seconds)
    content = encoded(file, lines)
    manifest = {
        "command": shlex.join(sys.argv), "template": template.varying, "spec": json.loads(template.spec.canonical),
        "spec_source": template.spec.source, "table": str(table), "plan": log.plan().to_json(), "rows": report.rows,
        "texts": report.texts, "obey_all": report.obey_all, "failed_rows": len(report.failed),
        "seconds": round(report.seconds, 2), **made, "output_sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    write_whole({manifest_of(file): json.dumps(manifest, ensure_ascii=False, indent=2) + "\n", file: content})
    log.remove()
    return report
