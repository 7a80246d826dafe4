"""Runs as logs that the viewer of inspect_ai opens: version 2 of its JSON format (inspect.aisi.org.uk/eval-logs.html)."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dlm_control.eval.records import Figure, Scores, TextRecord
from dlm_control.eval.report.data import run_file, text_records
from dlm_control.support.files import write_whole
from dlm_control.support.records import read_record

VERSION = 2


def write_inspect_log(run: Path, out: Path) -> None:
    """Write a run's figures and texts as an inspect_ai log.

    A target is a sample, and each of its texts an epoch of it. What was asked for is the input, and each metric is a score.

    Args:
        run: folder, as `dlm eval` leaves it.
        out: the JSON file.

    Raises:
        UsageError: no scored run, or the file cannot be written.
    """
    scores, texts = read_record(Scores, run_file(run, "scores.json")), list(text_records(run))
    write_whole({out: json.dumps(inspect_log(scores, texts, _time(run / "scores.json")), ensure_ascii=False, indent=1)})


def inspect_log(scores: Scores, texts: list[TextRecord], created: str) -> dict[str, Any]:
    """The log as a JSON object.

    Args:
        scores: of a run.
        texts: of the run.
        created: when it was scored, in ISO 8601 with an offset.
    """
    manifest = scores.manifest
    model = f"dlm-control/{manifest.model or manifest.generator}"
    names = list(dict.fromkeys([*(text.target for text in texts), *scores.failed_targets]))
    figures: dict[str, Figure | float] = {**scores.figures, **scores.numbers}
    config = {"epochs": manifest.samples_per_target}
    samples = [*_samples(texts, model), *(_failed(name, error) for name, error in scores.failed_targets.items())]
    return {
        "version": VERSION, "status": "success",
        "eval": {
            "eval_id": manifest.suite_digest, "run_id": manifest.suite_digest, "task_id": manifest.suite_digest,
            "created": created, "task": scores.suite, "task_version": manifest.suite_version, "model": model, "config": config,
            "dataset": {"name": scores.suite, "samples": scores.targets, "sample_ids": names, "shuffled": False},
            "task_args": {"generator": manifest.generator, "seed": manifest.seed}, "packages": manifest.versions,
            "metadata": {"command": manifest.command, "preset": manifest.preset, "weights": manifest.weights},
        },
        "plan": {"name": "plan", "steps": [{"solver": manifest.generator, "params": {}}], "config": {}},
        "results": {
            "total_samples": scores.targets * manifest.samples_per_target, "completed_samples": scores.texts,
            "scores": [_figure(name, value, scores.scorer_overlap) for name, value in figures.items()],
        },
        "stats": {"started_at": created, "completed_at": created, "model_usage": {}},
        "samples": samples,
    }  # fmt: skip


def _samples(texts: list[TextRecord], model: str) -> list[dict[str, Any]]:
    seen, found = Counter[str](), []
    for text in texts:
        seen[text.target] += 1
        why = "; ".join(text.failed)
        scores: dict[str, Any] = {
            name: {"value": score, "answer": text.text, "explanation": why if score < 1 else ""}
            for name, score in text.metrics.items()
        }
        if text.lm_score is not None:
            scores["lm_score"] = {"value": text.lm_score}
            scores["flaws"] = {"value": len(text.flaws), "explanation": ", ".join(text.flaws)}
        asked = "\n".join(text.controls) or text.target
        message = {"role": "assistant", "content": text.text, "source": "generate", "model": model}
        found.append({
            "id": text.target, "epoch": seen[text.target], "input": asked, "target": "", "scores": scores, "metadata": {},
            "messages": [{"role": "user", "content": asked, "source": "input"}, message],
            "output": {"model": model, "choices": [{"message": message, "stop_reason": "stop"}]},
        })  # fmt: skip
    return found


def _failed(target: str, error: str) -> dict[str, Any]:
    told = {"message": error, "traceback": "", "traceback_ansi": ""}
    return {"id": target, "epoch": 1, "input": target, "target": "", "messages": [], "scores": {}, "error": told}


def _figure(name: str, value: Figure | float, judges: dict[str, str]) -> dict[str, Any]:
    parts = {"mean": value.mean, "low": value.low, "high": value.high} if isinstance(value, Figure) else {"value": value}
    metrics = {key: {"name": key, "value": number} for key, number in parts.items()}
    return {"name": name, "scorer": name, "params": {"judge": judges[name]} if name in judges else {}, "metrics": metrics}


def _time(file: Path) -> str:
    return datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="seconds")
