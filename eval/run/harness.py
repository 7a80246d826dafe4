"""Running a suite: every text into a log that survives anything; scores from the log."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from dlm_control.eval.records import Plan, Scores, TargetRecord
from dlm_control.eval.run.generator import Generator
from dlm_control.eval.run.log import RunLog
from dlm_control.eval.score.metrics import check_metrics
from dlm_control.eval.score.scoring import score_run
from dlm_control.support.errors import UsageError
from dlm_control.support.processes import processes
from dlm_control.support.progress import progress
from dlm_control.support.records import fit_record
from dlm_control.tasks.suite import Suite
from dlm_control.tasks.targets.target import Target, digest_of


def run_suite(
    suite: Suite,
    generator: Generator,
    data: Path | None,
    out: Path,
    samples: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    name: str = "diffusion",
    judges: Sequence[str] = (),
    teacher: str | None = None,
) -> Scores | None:
    """Generate what the log lacks, then score the whole log.

    Under `accelerate launch` the processes share the targets; a text does not depend on which of them writes it.

    Args:
        suite: what is asked for.
        generator: who writes.
        data: folder of the suite's files; in it lies the suite's corpus, where human text and copies are looked up.
        out: folder of the run.
        samples: texts per target, the suite's number by default.
        limit: first targets only.
        seed: of the run.
        name: of the generator.
        judges, teacher: as for `score_run`.

    Returns:
        The scores; None in all processes but the first.

    Raises:
        UsageError: the folder holds another run, a file is missing, or the disk is full.
    """
    targets = suite.read_targets(data, generator.guides)[:limit]
    check_metrics(suite.name, suite.metrics, targets)
    samples = samples or suite.samples
    rank, world, wait = processes()
    log = RunLog(out, rank)
    if rank == 0:
        log.start(_plan(suite, generator, name, samples, targets, seed))
    wait()
    done = {name for name, record in log.items(samples).items() if not record.again}
    wait()
    with progress(f"eval {suite.name}", total=len(targets), start=len(done), show=rank == 0) as bar:
        own = [each for each in enumerate(targets) if each[0] % world == rank and each[1].name not in done]
        for start in range(0, len(own), generator.together):
            for record in _records(generator, own[start : start + generator.together], samples, seed):
                log.append(record)
                bar.advance(world)
    wait()
    return score_run(out, suite, data, _command(), judges, teacher, generator.home) if rank == 0 else None


def _records(generator: Generator, numbered: Sequence[tuple[int, Target]], samples: int, seed: int) -> list[TargetRecord]:
    """The log's lines of some targets; where they fail together, each is tried alone, so that only its own failure counts."""
    wall, cpu = time.perf_counter(), time.process_time()
    indices = [range(number * samples, (number + 1) * samples) for number, _ in numbered]
    error, trace = None, None
    try:
        made = generator.texts_of_many([target for _, target in numbered], indices, seed)
    except Exception as failure:
        if len(numbered) > 1:
            return [record for each in numbered for record in _records(generator, [each], samples, seed)]
        made, error = [[]], str(failure)
        if not isinstance(failure, UsageError):  # unlike controls that no text can obey, it is worth another try
            error, trace = f"{type(failure).__name__}: {failure}", traceback.format_exc()
    wall, cpu = ((now - before) / len(numbered) for now, before in ((time.perf_counter(), wall), (time.process_time(), cpu)))
    return [
        TargetRecord(target.name, [output.text for output in each], [output.calls for output in each], error,
                     trace is not None, trace, round(wall, 2), round(cpu, 2))
        for (_, target), each in zip(numbered, made, strict=True)
    ]  # fmt: skip


def _plan(suite: Suite, generator: Generator, name: str, samples: int, targets: Sequence[Target], seed: int) -> Plan:
    """What the texts depend on; a run is taken up again only under the same plan."""
    import torch
    import transformers

    from dlm_control.version import __version__

    given = {
        "suite": suite.name, "suite_version": suite.version, "suite_digest": suite.digest,
        "targets": len(targets), "targets_digest": digest_of(targets), "samples_per_target": samples, "seed": seed,
        "generator": name, "included": list(suite.included) or None, **generator.provenance(), "commit": _commit(),
        "versions": {"dlm_control": __version__, "python": platform.python_version(), "torch": torch.__version__,
                     "transformers": transformers.__version__},
    }  # fmt: skip
    return fit_record(Plan, given, f"generator {name}")


def _command() -> str:
    return shlex.join(["dlm", *sys.argv[1:]])


def _commit() -> str | None:
    """The commit of the source tree that holds this package; None if the package is installed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        asked = subprocess.run(["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    except OSError:
        return None
    return asked.stdout.strip() or None
