"""Running a suite: texts first, into a log that survives anything; scores from the log."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dlm_control.errors import UsageError
from dlm_control.eval.metrics import METRICS, copied, distinct, interval, length_distance, mean
from dlm_control.eval.teacher import Teacher
from dlm_control.language_model import LanguageModel
from dlm_control.presets import Preset
from dlm_control.progress import progress
from dlm_control.tasks.suite import Suite
from dlm_control.tasks.targets import Target

_HUMANS = 1000  # sentences of dev that stand for human text


def run_suite(
    suite: Suite,
    lm: LanguageModel,
    preset: Preset,
    data: Path,
    out: Path,
    samples: int | None,
    limit: int | None,
    seed: int,
    free: bool = False,
) -> dict[str, Any]:
    """Generate what the log lacks, then score the whole log.

    Args:
        data: folder of the suite's files; its `e2e/` holds the corpus that human text and copies are looked up in.
        out: folder of the run: `samples.jsonl`, `plan.json`, `scores.json`.
        samples: texts per target, the suite's number by default.
        limit: first targets only.
        seed: of the run.
        free: leave out all controls, for comparison.

    Raises:
        UsageError: the folder holds another run, or a file is missing.
    """
    targets = suite.read_targets(data)[:limit]
    samples = samples or suite.samples
    manifest = _manifest(suite, lm, preset, samples, len(targets), seed) | {"controls": "none" if free else "all"}
    done = _open(out, manifest)
    with (
        progress(f"eval {suite.name}", total=len(targets), start=len(done)) as bar,
        open(out / "samples.jsonl", "a", encoding="utf-8") as log,
    ):
        for number, target in enumerate(targets):
            if target.name in done:
                continue
            indices = range(number * samples, (number + 1) * samples)
            record: dict[str, Any] = {"target": target.name}
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                made = lm.generate([] if free else target.controls, samples, seed=seed, preset=preset, indices=indices)
                record |= {"texts": [s.text for s in made], "calls": [s.calls for s in made]}
            except UsageError as error:  # such as controls that no text can obey
                record |= {"texts": [], "calls": [], "error": str(error)}
            record |= {"wall_s": round(time.perf_counter() - wall, 2), "cpu_s": round(time.process_time() - cpu, 2)}
            log.write(json.dumps(record, ensure_ascii=False) + "\n")
            log.flush()
            os.fsync(log.fileno())
            bar.advance()
    manifest |= {clock: round(sum(record.get(clock, 0.0) for record in _log(out)), 1) for clock in ("wall_s", "cpu_s")}
    scores = score(suite, targets, out, data)
    _write(out / "scores.json", {"suite": suite.name, "manifest": manifest, **scores})
    return scores


def score(suite: Suite, targets: list[Target], out: Path, data: Path) -> dict[str, Any]:
    """All figures of a run, from its log. A target that could not be generated scores 0 and has no lm-score."""
    log = {r["target"]: r for r in _log(out)}
    teacher = Teacher()
    by_target = [log[target.name]["texts"] for target in targets]
    texts = [text for group in by_target for text in group]
    if not texts:
        raise UsageError(f"{out}: no target could be generated; the first says: {log[targets[0].name]['error']}")
    train, dev = (_corpus(data / "e2e" / file) for file in ("trainset.csv", "devset.csv"))
    human = dev[:: max(1, len(dev) // _HUMANS)][:_HUMANS]
    scores: dict[str, Any] = {
        "targets": len(targets),
        "texts": len(texts),
        "calls_per_text": mean([c for r in log.values() for c in r["calls"]]),
        "failed_targets": {name: record["error"] for name, record in log.items() if "error" in record},
    }
    by_metric: dict[str, dict[str, float]] = {}
    for name in suite.metrics:
        per_target = [
            mean([METRICS[name](text, target) for text in group] or [0.0])
            for target, group in zip(targets, by_target, strict=True)
        ]
        scores[name] = _figure(per_target)
        by_metric[name] = dict(zip((target.name for target in targets), per_target, strict=True))
        referenced = [target for target in targets if target.reference is not None]
        if referenced:
            scores[f"{name}_human"] = _figure([METRICS[name](str(target.reference), target) for target in referenced])
        elif name == "substring":
            scores[f"{name}_human"] = _human_ceiling(targets, data, METRICS[name])
    nll = teacher.nat_per_word(texts)
    groups = _groups(targets, by_target, iter(nll))
    if groups:
        scores["groups"] = groups
    failed = sum(math.isnan(v) for v in nll)
    if failed:
        raise UsageError(f"{out}: {failed} texts are longer than the teacher reads")
    grouped = iter(nll)
    fluency = {t.name: mean([next(grouped) for _ in group]) for t, group in zip(targets, by_target, strict=True) if group}
    scores["lm_score"] = _figure(list(fluency.values()))
    by_metric["lm_score"] = fluency
    scores["lm_score_human"] = _figure(teacher.nat_per_word(human))
    size = min(len(texts), len(human))
    for label, side in (("", texts), ("_human", human)):
        scores[f"distinct_3{label}"] = round(distinct(side, 3, size), 4)
        scores[f"copied_from_train{label}"] = round(copied(side, train), 4)
        scores[f"length_distance_to_train{label}"] = round(length_distance(side, train), 3)
    scores["by_target"] = {name: {t: round(value, 4) for t, value in values.items()} for name, values in by_metric.items()}
    return scores


def _groups(targets: list[Target], by_target: list[list[str]], nll: Iterator[float]) -> dict[str, dict[str, float]]:
    """For each group of targets: the mean score of each control's check, of the lowest of them, and the lm-score."""
    found: dict[str, dict[str, list[float]]] = {}
    for target, texts in zip(targets, by_target, strict=True):
        for text in texts:
            score, figures = next(nll), found.setdefault(target.group, {})
            checks = {control.name: control.check(text).score for control in target.controls}
            for name, value in {**checks, "together": min(checks.values(), default=1.0), "lm_score": score}.items():
                figures.setdefault(name, []).append(value)
    return {
        group: {**{name: round(mean(values), 4) for name, values in figures.items()}, "texts": len(figures["lm_score"])}
        for group, figures in found.items()
        if group
    }


def _figure(values: list[float]) -> dict[str, float]:
    low, high = interval(values)
    return {"mean": round(mean(values), 4), "low": round(low, 4), "high": round(high, 4), "n": len(values)}


def _human_ceiling(targets: list[Target], data: Path, metric: Any) -> dict[str, float]:
    """The metric on the human sentences whose meaning has the target's value, averaged over the targets that occur in dev."""
    with open(data / "e2e" / "devset.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    per_target = []
    for target in targets:
        semantic: Any = target.controls[0]
        matching = [row["ref"] for row in rows if all(f"{f}[{v}]" in row["mr"] for f, v in semantic.fields.items())]
        if matching:
            per_target.append(mean([metric(text, target) for text in matching]))
    return _figure(per_target)


def _manifest(suite: Suite, lm: LanguageModel, preset: Preset, samples: int, targets: int, seed: int) -> dict[str, Any]:
    import torch
    import transformers

    from dlm_control.version import __version__

    return {
        "command": " ".join(["dlm", *sys.argv[1:]]),
        "suite": suite.name, "suite_version": suite.version, "suite_digest": suite.digest,
        "targets": targets, "samples_per_target": samples, "seed": seed,
        "model": lm.source, "model_fingerprint": lm.fingerprint, "weights": lm.weights_digest,
        "preset": asdict(preset),
        "versions": {"dlm_control": __version__, "python": platform.python_version(), "torch": torch.__version__,
                     "transformers": transformers.__version__},
    }  # fmt: skip


def _open(out: Path, manifest: dict[str, Any]) -> set[str]:
    """Names of the targets that the log holds already; a torn last line is cut off."""
    out.mkdir(parents=True, exist_ok=True)
    log = out / "samples.jsonl"
    plan = out / "plan.json"
    settled = {key: value for key, value in manifest.items() if key != "command"}
    if plan.is_file():
        earlier = _read(plan)
        differing = [key for key in settled if earlier.get(key) != json.loads(json.dumps(settled[key]))]
        if differing:
            raise UsageError(f"{out}: holds a run with another {', '.join(differing)}; give another --out")
    else:
        _write(plan, settled)
    if not log.is_file():
        return set()
    lines = log.read_text(encoding="utf-8").split("\n")
    if lines[-1]:
        _write_text(log, "\n".join(lines[:-1]) + ("\n" if lines[:-1] else ""))
    return {record["target"] for record in _log(out)}


def _log(out: Path) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate((out / "samples.jsonl").read_text(encoding="utf-8").splitlines(), start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UsageError(f"{out / 'samples.jsonl'}:{number}: not JSON: {error}; remove the line and run again") from None
    return records


def _corpus(path: Path) -> list[str]:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; --data names the folder that holds e2e/")
    with open(path, encoding="utf-8", newline="") as file:
        return [row["ref"] for row in csv.DictReader(file)]


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
