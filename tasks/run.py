"""Running a spec: texts into a file of JSON lines, whole or not at all, with a manifest beside it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.sample import Sample
from dlm_control.sampling.trace import Step
from dlm_control.support.errors import UsageError
from dlm_control.support.files import temporary_of, write_whole
from dlm_control.tasks.preflight import preflight
from dlm_control.tasks.spec import Spec


def run_spec(
    spec: Spec,
    lm: LanguageModel,
    out: str | Path | None = None,
    force: bool = False,
    callback_on_step: Callable[[Step], bool | None] | None = None,
) -> list[Sample]:
    """Generate what a spec asks for.

    Args:
        spec: what.
        lm: with which model.
        out: JSON lines, one a text, are written here when all texts are done, and `<out>.manifest.json` beside it; None writes
            nothing.
        force: replace `out` if it exists.
        callback_on_step: as of `LanguageModel.generate`.

    Raises:
        UsageError: preflight finds faults, or `out` cannot be written; nothing half-written stays behind.
    """
    file = None if out is None else writable(out, force)
    preflight(spec, lm)
    started = time.perf_counter()
    chosen = spec.preset.for_model(lm.backbone)
    samples = lm.generate(
        spec.controls, spec.num_samples, spec.seed, chosen, on_error=spec.on_error, callback_on_step=callback_on_step
    )
    if file is not None:
        write_whole(files_of(file, spec, lm, samples, time.perf_counter() - started))
    return samples


def files_of(file: Path, spec: Spec, lm: LanguageModel, samples: Sequence[Sample], seconds: float) -> dict[Path, str]:
    """What is written of a run: its texts as JSON lines, and their manifest.

    Args:
        file: of the texts.
        spec, lm: what was asked, of which model.
        samples: the texts.
        seconds: that they took.
    """
    lines = "".join(json.dumps(record(sample), ensure_ascii=False) + "\n" for sample in samples)
    manifest = _manifest(spec, lm, samples, lines, seconds)
    return {manifest_of(file): json.dumps(manifest, ensure_ascii=False, indent=2) + "\n", file: lines}


def record(sample: Sample) -> dict[str, Any]:
    """A text as its line in the file."""
    checks = {
        name: {
            "score": float(check.score) if check.judged else None,
            "why": check.why,
            "passed": check.passed,
            "firmness": sample.firmness.get(name),
        }
        for name, check in sample.checks.items()
    }
    return {
        "text": sample.text, "words": list(sample.words), "checks": checks, "energies": sample.energies,
        "nats_per_word": sample.nats_per_word,
        "seed": sample.seed, "index": sample.index, "calls": sample.calls, "error": sample.error,
    }  # fmt: skip


def writable(out: str | Path, force: bool, option: str = "--out") -> Path:
    """The file of an output path, after a test that it can be written, which leaves nothing behind.

    Raises:
        UsageError: its folder is missing or closed to writing, it is no plain file, or it exists and `force` is not given.
    """
    try:
        file = Path(os.path.realpath(out))
        if not file.parent.is_dir():
            raise UsageError(f"{option} {out}: no folder {file.parent}; make it first")
        for each in (file, manifest_of(file)):
            if each.exists() and not each.is_file():
                kind = "a folder" if each.is_dir() else "no plain file"
                raise UsageError(f"{option} {out}: {each} is {kind}; give the name of a file")
        if file.exists() and not force:
            raise UsageError(f"{option} {out}: exists; --force replaces it")
        trial = temporary_of(manifest_of(file))  # the longest name
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise UsageError(f"{option} {out}: cannot be written: {error.strerror}") from None
    return file


def manifest_of(file: Path) -> Path:
    """Where the manifest of an output lies."""
    return file.with_name(f"{file.name}.manifest.json")


def _manifest(spec: Spec, lm: LanguageModel, samples: Sequence[Sample], lines: str, seconds: float) -> dict[str, Any]:
    return {
        "command": shlex.join(sys.argv),
        "spec": json.loads(spec.canonical),
        "spec_source": spec.source,
        "spec_digest": spec.digest,
        "seed": spec.seed,
        "samples": len(samples),
        "obey_all": sum(sample.passed for sample in samples),
        "failed": sum(sample.error is not None for sample in samples),
        "seconds": round(seconds, 2),
        **made_with(lm),
        "output_sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }  # fmt: skip


def made_with(lm: LanguageModel) -> dict[str, Any]:
    """The model and the packages that texts depend on, for a manifest."""
    return {
        "model": {
            "source": lm.backbone.source, "fingerprint": lm.backbone.fingerprint, "weights": lm.backbone.weights_digest,
            "device": str(lm.backbone.device), "dtype": str(lm.backbone.dtype).removeprefix("torch."),
        },
        "versions": {
            "dlm-control": version("dlm-control"), "torch": version("torch"), "transformers": version("transformers"),
            "python": platform.python_version(),
        },
    }  # fmt: skip
