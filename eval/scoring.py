"""Scoring a run from its log, as often as one likes."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from dlm_control.controllers.e2e import fields_of
from dlm_control.errors import UsageError
from dlm_control.eval.independence import shared_labels
from dlm_control.eval.log import RunLog, write_json
from dlm_control.eval.metrics import METRICS, copied, distinct, length_distance, self_bleu
from dlm_control.eval.overlap import overlap
from dlm_control.eval.statistics import figure
from dlm_control.eval.teacher import Teacher
from dlm_control.tasks.corpora import refs, rows
from dlm_control.tasks.run import write_whole
from dlm_control.tasks.suite import Suite, read_suite
from dlm_control.tasks.targets import Target

_HUMANS = 1000  # sentences of dev that stand for human text
SUBSTANCE = ("substring", "said", "realised")  # metrics whose human ceiling is that of sentences with the same meaning


def score_run(
    out: Path, suite: Suite | None = None, data: Path | None = None, command: str = "", judges: Sequence[str] = ()
) -> dict[str, Any]:
    """All figures of a run, from its log, into its `scores.json`; every text with its own scores into `texts.jsonl`.

    A target that could not be generated scores 0 and has no lm-score.

    Args:
        out: folder of the run.
        suite: of the run; by default the one that its plan names.
        data: folder of the suite's files.
        command: that made the run; the recorded one by default.
        judges: more figures, of packages that may be missing: `smollm2`, `mauve`.

    Raises:
        UsageError: no run, another suite's, or not one whole.
    """
    log = RunLog(out)
    plan = log.plan()
    suite = suite or read_suite(plan["suite"])
    if suite.digest != plan["suite_digest"]:
        raise UsageError(f"{out}: is a run of suite {plan['suite']} {plan['suite_digest']}, not of {suite.name} {suite.digest}")
    targets = suite.read_targets(data)[: plan["targets"]]
    records = {record["target"]: record for record in log.records()}
    lacking = [target.name for target in targets if target.name not in records]
    if lacking:
        raise UsageError(
            f"{out}: lacks {len(lacking)} of {len(targets)} targets, such as {lacking[0]!r}; `dlm eval` goes on with it"
        )
    by_target = [list(records[target.name]["texts"]) for target in targets]
    texts = [text for group in by_target for text in group]
    if not texts:
        raise UsageError(f"{out}: no target could be generated; the first says: {records[targets[0].name]['error']}")
    corpora = None if data is None or not (data / "e2e").is_dir() else _corpora(data)
    teacher = Teacher()
    nll = teacher.nat_per_word(texts)
    failed = {name: record["error"] for name, record in records.items() if "error" in record}
    scores: dict[str, Any] = {
        "targets": len(targets),
        "texts": len(texts),
        "calls_per_text": round(fmean([c for record in records.values() for c in record["calls"]]), 2),
        "failed_targets": failed,
    }
    values = {
        name: [[METRICS[name](text, t) for text in g] for t, g in zip(targets, by_target, strict=True)]
        for name in suite.metrics
    }
    by_metric: dict[str, dict[str, float]] = {}
    for name, grouped in values.items():
        per_target = [fmean(group or [0.0]) for group in grouped]
        scores[name] = figure(per_target)
        by_metric[name] = dict(zip((target.name for target in targets), per_target, strict=True))
        ceiling = _human(name, targets, data)
        if ceiling:
            scores[f"{name}_human"] = figure(ceiling)
    fluency = _by_target(targets, by_target, nll)
    scores["lm_score"] = figure(list(fluency.values()))
    scores["lm_perplexity"] = round(math.exp(scores["lm_score"]["mean"]), 3)
    by_metric["lm_score"] = fluency
    scores["too_long_for_teacher"] = sum(math.isnan(v) for v in nll)
    scores |= _qualities(texts, [t.reference for t in targets if t.reference is not None], corpora, teacher)
    groups = _groups(targets, by_target, iter(nll))
    if groups:
        scores["groups"] = groups
    pairs = [
        (text, t) for t, group in zip(targets, by_target, strict=True) for text in group if "given" in t.wanted and t.reference
    ]
    if pairs:
        scores |= overlap(pairs)
    for judge in judges:
        from dlm_control.eval.judges import JUDGES

        scores |= JUDGES[judge](texts, corpora)
    scores["independence"] = shared_labels(suite.metrics, plan)
    scores["by_target"] = {name: {t: round(v, 4) for t, v in found.items()} for name, found in by_metric.items()}
    clocks = {clock: round(sum(record.get(clock, 0.0) for record in records.values()), 1) for clock in ("wall_s", "cpu_s")}
    earlier = _earlier_command(out)
    manifest = {"command": command or earlier, **plan, **clocks}
    write_json(out / "scores.json", {"suite": suite.name, "manifest": manifest, **scores})
    _write_texts(out / "texts.jsonl", targets, by_target, values, nll)
    return scores


def _human(name: str, targets: Sequence[Target], data: Path | None) -> list[float]:
    """A metric of human texts: of the targets' references, or of dev sentences that mean what a target wants."""
    referenced = [target for target in targets if target.reference is not None]
    if referenced:
        return [METRICS[name](str(target.reference), target) for target in referenced]
    if name not in SUBSTANCE or data is None:
        return []
    found = []
    for target in targets:
        matching = _saying(data, target.wanted["fields"])
        if matching:
            found.append(fmean([METRICS[name](text, target) for text in matching]))
    return found


def _qualities(
    texts: Sequence[str], references: Sequence[str], corpora: tuple[list[str], list[str]] | None, teacher: Teacher
) -> dict[str, Any]:
    """Diversity, memorisation and lengths, beside those of human text where there is a corpus.

    The lm-score of human text is that of the targets' references, if they have any.
    """
    sides = {"": list(texts)}
    found: dict[str, Any] = {}
    if corpora:
        sides["_human"] = corpora[1]
        found["lm_score_human"] = figure(teacher.nat_per_word(references or corpora[1]))
    size = min(map(len, sides.values()))
    for label, side in sides.items():
        for n in (1, 2, 3):
            found[f"distinct_{n}{label}"] = round(distinct(side, n, size), 4)
        found[f"self_bleu{label}"] = round(self_bleu(side, min(size, 100)), 4)
        if corpora:
            found[f"copied_from_train{label}"] = round(copied(side, corpora[0]), 4)
            found[f"length_distance_to_train{label}"] = round(length_distance(side, corpora[0]), 3)
    return found


def _by_target(targets: Sequence[Target], by_target: Sequence[Sequence[str]], nll: Sequence[float]) -> dict[str, float]:
    grouped = iter(nll)
    found = {}
    for target, group in zip(targets, by_target, strict=True):
        known = [score for score in (next(grouped) for _ in group) if not math.isnan(score)]
        if known:
            found[target.name] = fmean(known)
    return found


def _groups(targets: Sequence[Target], by_target: Sequence[Sequence[str]], nll: Iterator[float]) -> dict[str, dict[str, float]]:
    """For each group of targets: the score of each control's check, of the lowest of them, and the lm-score.

    Means over the texts of a target, then over targets; one without texts obeys nothing and has no lm-score.
    """
    found: dict[str, dict[str, list[float]]] = {}
    written: Counter[str] = Counter()
    for target, texts in zip(targets, by_target, strict=True):
        fluency = [score for score in (next(nll) for _ in texts) if not math.isnan(score)]
        if not target.group:
            continue
        written[target.group] += len(texts)
        scores = {control.name: [control.check(text).score for text in texts] or [0.0] for control in target.controls}
        scores["together"] = [min(of_a_text) for of_a_text in zip(*scores.values(), strict=True)] or [1.0]
        for name, values in {**scores, "lm_score": fluency}.items():
            found.setdefault(target.group, {}).setdefault(name, []).extend([fmean(values)] if values else [])
    return {
        group: {**{name: round(fmean(values), 4) for name, values in figures.items() if values}, "texts": written[group]}
        for group, figures in found.items()
    }


def _write_texts(
    file: Path,
    targets: Sequence[Target],
    by_target: Sequence[Sequence[str]],
    values: dict[str, list[list[float]]],
    nll: Sequence[float],
) -> None:
    grouped, lines = iter(nll), []
    for number, (target, group) in enumerate(zip(targets, by_target, strict=True)):
        for place, text in enumerate(group):
            score = next(grouped)
            metrics = {name: round(found[number][place], 4) for name, found in values.items()}
            wrong = [] if all(v == 1 for v in metrics.values()) else [check.why for check in _failures(target, text)]
            line = {"target": target.name, "text": text, **metrics, "lm_score": None if math.isnan(score) else round(score, 4)}
            lines.append(json.dumps(line | {"failed": wrong}, ensure_ascii=False) + "\n")
    write_whole({file: "".join(lines)})


def _saying(data: Path, fields: dict[str, str]) -> list[str]:
    """The dev sentences whose meaning has these values."""
    told = rows(data / "e2e" / "devset.csv", ["ref", "mr"])
    return [row["ref"] for row in told if fields.items() <= fields_of(row["mr"]).items()]


def _failures(target: Target, text: str) -> list[Any]:
    checks = (control.check(text) for control in target.controls)
    return [check for check in checks if check.judged and check.score < 1]


def _corpora(data: Path) -> tuple[list[str], list[str]]:
    """Sentences of train, and a thousand of dev."""
    train, dev = (refs(data / "e2e" / file) for file in ("trainset.csv", "devset.csv"))
    return train, dev[:: max(1, len(dev) // _HUMANS)][:_HUMANS]


def _earlier_command(out: Path) -> str:
    file = out / "scores.json"
    return str(json.loads(file.read_text(encoding="utf-8"))["manifest"]["command"]) if file.is_file() else ""
