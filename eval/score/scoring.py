"""Scoring a run from its log, as often as one likes."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from dlm_control.control.use import with_unique_names
from dlm_control.controllers.e2e.fields import fields_of
from dlm_control.eval.run.log import RunLog, write_json
from dlm_control.eval.score.flaws import PARTS, Flaws
from dlm_control.eval.score.judges import JUDGES, check_judges
from dlm_control.eval.score.metrics import METRICS, all_satisfied, check_metrics
from dlm_control.eval.score.overlap import overlap
from dlm_control.eval.score.quality import Reader, flaw_figures, qualities
from dlm_control.eval.score.scorer_overlap import find_scorer_overlap, scorers
from dlm_control.eval.score.statistics import figure
from dlm_control.eval.score.teacher import Teacher, teacher_of, train_a_teacher
from dlm_control.support.errors import UsageError
from dlm_control.support.hub import model_folder
from dlm_control.tasks.run import write_whole
from dlm_control.tasks.suite import Suite, read_suite
from dlm_control.tasks.targets.corpora import refs, rows
from dlm_control.tasks.targets.target import Target, digest_of

SCORING = 2  # raised when a figure of a log changes its meaning
_HUMANS = 1000  # sentences of dev that stand for human text
_TRAIN, _DEV = "e2e/trainset.csv", "e2e/devset.csv"
SUBSTANCE = {
    "substring",
    "phrase_match",
    "slot_accuracy",
}  # metrics whose human ceiling is that of sentences with the same meaning


def score_run(
    out: Path,
    suite: Suite | None = None,
    data: Path | None = None,
    command: str = "",
    judges: Sequence[str] = (),
    teacher: str | None = None,
    home: Path | None = None,
) -> dict[str, Any]:
    """All figures of a run, from its log, into its `scores.json`; every text with its own scores into `texts.jsonl`.

    A target that could not be generated scores 0 and has no lm-score.

    Args:
        out: folder of the run.
        suite: of the run; by default the bundled one that its plan names.
        data: folder of the suite's files; its `e2e/` holds the corpus that human text and copies are looked up in.
        command: that made the run; the recorded one by default.
        judges: more figures, of packages that may be missing: `smollm2`; those of earlier scores are asked again.
        teacher: whose surprise is the lm-score: a bundled name, a folder or a hub id; by default that of earlier scores, then
            the model's (`teacher_of`). Without one there are no lm-score and no flaws, and `no_teacher` says so.
        home: folder of the model that wrote; by default the plan says it.

    Raises:
        UsageError: no run, another suite's, or not one whole; or figures of earlier scores would be lost.
    """
    log = RunLog(out)
    plan = log.plan()
    suite = suite or _suite_of(plan, out)
    corpora = _corpora(data)
    earlier = _earlier(out)
    judges = list(dict.fromkeys([*judges, *(name for name in earlier.get("judges", ()) if name in JUDGES)]))
    if corpora is None and earlier.get("corpus"):
        raise UsageError(f"{out}: was scored beside human text; give --data again, or those figures would be lost")
    check_judges(judges)
    if suite.digest != plan["suite_digest"]:
        raise UsageError(f"{out}: is a run of suite {plan['suite']} {plan['suite_digest']}, not of {suite.name} {suite.digest}")
    targets = suite.read_targets(data)[: plan["targets"]]
    digest = digest_of(targets)
    if plan.get("targets_digest", digest) != digest:
        raise UsageError(f"{out}: is a run of other targets than {suite.name} has now; their files have changed")
    check_metrics(suite.name, suite.metrics, targets)
    records = log.items(plan["samples_per_target"])
    foreign = records.keys() - {target.name for target in targets}
    if foreign:
        raise UsageError(
            f"{out}: has lines of {len(foreign)} targets that are none of {suite.name}'s, such as {min(foreign)!r}"
        )
    lacking = [target.name for target in targets if target.name not in records]
    if lacking:
        raise UsageError(
            f"{out}: lacks {len(lacking)} of {len(targets)} targets, such as {lacking[0]!r}; `dlm eval` goes on with it"
        )
    by_target = [list(records[target.name]["texts"]) for target in targets]
    texts = [text for group in by_target for text in group]
    failed = {name: record["error"] for name, record in records.items() if "error" in record}
    if not texts:
        raise UsageError(f"{out}: no target could be generated; the first says: {next(iter(failed.values()))}")
    home = home or _home_of(plan)
    reader = Reader(_teacher(teacher, earlier, home, out))
    nll, flaws = reader.read(texts)
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
        ceiling = _human(METRICS[name], name in SUBSTANCE, targets, data)
        if ceiling:
            scores[f"{name}_human"] = figure(ceiling)
    of_texts = [[all_satisfied(text, target) for text in group] for target, group in zip(targets, by_target, strict=True)]
    if any(target.controls for target in targets) and not any(math.isnan(each) for group in of_texts for each in group):
        values["all_satisfied"] = of_texts
        satisfied = {t.name: fmean(group or [0.0]) for t, group in zip(targets, of_texts, strict=True) if t.controls}
        scores["all_satisfied"] = figure(list(satisfied.values()))
        by_metric["all_satisfied"] = satisfied
        ceiling = _human(all_satisfied, {*suite.metrics} <= SUBSTANCE, [t for t in targets if t.controls], data)
        if ceiling and not any(map(math.isnan, ceiling)):
            scores["all_satisfied_human"] = figure(ceiling)
    fluency = _by_target(targets, by_target, nll)
    if fluency:
        scores["lm_score"] = figure(list(fluency.values()))
        scores["lm_perplexity"] = round(math.exp(scores["lm_score"]["mean"]), 3)
    grouped_flaws = _regrouped(flaws, by_target)
    if reader.teacher:
        scores |= flaw_figures(grouped_flaws)
        by_metric["lm_score"] = fluency
        by_metric["flaw_rate"] = {
            target.name: fmean(any(each) for each in found)
            for target, found in zip(targets, grouped_flaws, strict=True)
            if found
        }
        scores["too_long_for_teacher"] = sum(math.isnan(v) for v in nll)
    else:
        scores["no_teacher"] = (
            f"no lm-score and no flaws: the domain of {plan.get('model', 'this generator')} has no teacher; "
            f"{train_a_teacher(home)}"
        )
    scores |= qualities(texts, [t.reference for t in targets if t.reference is not None], corpora, reader)
    groups = _groups(targets, by_target, iter(nll), grouped_flaws)
    if groups:
        scores["groups"] = groups
    pairs = [
        (text, t)
        for t, group in zip(targets, by_target, strict=True)
        for text in group
        if "given" in t.expected and t.reference
    ]
    if pairs:
        scores |= overlap(pairs)
    for judge in judges:
        scores |= JUDGES[judge](texts, corpora)
    scores["scorer_overlap"] = find_scorer_overlap(
        [*suite.metrics, *(["all_satisfied"] if "all_satisfied" in values else [])], plan
    )
    scores["by_target"] = {name: {t: round(v, 4) for t, v in found.items()} for name, found in by_metric.items()}
    clocks = {clock: round(sum(record.get(clock, 0.0) for record in records.values()), 1) for clock in ("wall_s", "cpu_s")}
    scored = {
        "targets_digest": digest,
        "scoring": SCORING,
        "scorers": scorers(reader.teacher, suite.metrics),
        "judges": judges,
        "corpus": corpora is not None,
    }
    manifest = {"command": command or earlier.get("command", ""), **plan, **clocks, **scored}
    write_json(out / "scores.json", {"suite": suite.name, "manifest": manifest, **scores})
    _write_texts(out / "texts.jsonl", targets, by_target, values, nll, grouped_flaws)
    return scores


def _teacher(given: str | None, earlier: dict[str, Any], home: Path | None, out: Path) -> Teacher | None:
    """The teacher that is given, that of earlier scores, or the model's; None where there is none."""
    if given:
        return Teacher(given)
    before = str(earlier.get("scorers", {}).get("teacher", "")).rpartition(" ")[0]
    source = before or teacher_of(home)
    try:
        return Teacher(source) if source else None
    except UsageError as error:
        whose = f"{out}: was scored by the teacher {before}" if before else f"{out}: the model names the teacher {source}"
        raise UsageError(f"{whose}: {error}; --teacher names another") from None


def _home_of(plan: dict[str, Any]) -> Path | None:
    """The folder of the model that a plan names, where it is still there."""
    try:
        return model_folder(plan["model"]) if plan.get("model") else None
    except UsageError:
        return None


def _human(
    metric: Callable[[str, Target], float], substance: bool, targets: Sequence[Target], data: Path | None
) -> list[float]:
    """A metric of human texts: of the targets' references, or, if it judges substance, of dev sentences that mean the same."""
    referenced = [target for target in targets if target.reference is not None]
    if referenced:
        return [metric(str(target.reference), target) for target in referenced]
    if not substance or data is None:
        return []
    found = []
    for target in targets:
        matching = _saying(data, target.expected["fields"]) if (data / _DEV).is_file() else []
        if matching:
            found.append(fmean([metric(text, target) for text in matching]))
    return found


def _by_target(targets: Sequence[Target], by_target: Sequence[Sequence[str]], nll: Sequence[float]) -> dict[str, float]:
    grouped = iter(nll)
    found = {}
    for target, group in zip(targets, by_target, strict=True):
        known = [score for score in (next(grouped) for _ in group) if not math.isnan(score)]
        if known:
            found[target.name] = fmean(known)
    return found


def _regrouped(flaws: Sequence[Flaws], by_target: Sequence[Sequence[str]]) -> list[list[Flaws]]:
    each = iter(flaws)
    return [[next(each) for _ in group] for group in by_target]


def _groups(
    targets: Sequence[Target], by_target: Sequence[Sequence[str]], nll: Iterator[float], flaws: Sequence[Sequence[Flaws]]
) -> dict[str, dict[str, float]]:
    """For each group of targets: the score of each control's check, of the lowest of them, the share of texts that obey all,
    the lm-score and the flaw rate.

    Means over the texts of a target, then over targets; one without texts obeys nothing and has no lm-score.
    """
    found: dict[str, dict[str, list[float]]] = {}
    written: Counter[str] = Counter()
    for target, texts, broken in zip(targets, by_target, flaws, strict=True):
        fluency = [score for score in (next(nll) for _ in texts) if not math.isnan(score)]
        if not target.group:
            continue
        written[target.group] += len(texts)
        scores = {c.name: [c.check(text).score for text in texts] or [0.0] for c in with_unique_names(target.controls)}
        scores["min_score"] = [min(of_a_text) for of_a_text in zip(*scores.values(), strict=True)] or [1.0]
        satisfied = [all_satisfied(text, target) for text in texts] or [0.0]
        scores["all_satisfied"] = [] if any(map(math.isnan, satisfied)) else satisfied
        for name, values in {
            **scores,
            "lm_score": fluency,
            "flaw_rate": [float(any(each)) for each in broken if fluency],
        }.items():
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
    flaws: Sequence[Sequence[Flaws]],
) -> None:
    grouped, lines = iter(nll), []
    for number, (target, group) in enumerate(zip(targets, by_target, strict=True)):
        for place, text in enumerate(group):
            score = next(grouped)
            metrics = {name: round(found[number][place], 4) for name, found in values.items()}
            wrong = [] if all(v == 1 for v in metrics.values()) else [check.why for check in _failures(target, text)]
            line: dict[str, Any] = {
                "target": target.name,
                "text": text,
                **metrics,
                "lm_score": None if math.isnan(score) else round(score, 4),
            }
            line["flaws"] = [part for part in PARTS if getattr(flaws[number][place], part)]
            lines.append(json.dumps(line | {"failed": wrong}, ensure_ascii=False) + "\n")
    write_whole({file: "".join(lines)})


def _saying(data: Path, fields: dict[str, str]) -> list[str]:
    """The dev sentences whose meaning has these values."""
    sentences = rows(data / _DEV, ["ref", "mr"])
    return [row["ref"] for row in sentences if fields.items() <= fields_of(row["mr"]).items()]


def _failures(target: Target, text: str) -> list[Any]:
    checks = (control.check(text) for control in target.controls)
    return [check for check in checks if check.judged and check.score < 1]


def has_corpus(data: Path | None) -> bool:
    """Does the folder hold the corpus that human text and copies are looked up in?"""
    return data is not None and all((data / file).is_file() for file in (_TRAIN, _DEV))


def _corpora(data: Path | None) -> tuple[list[str], list[str]] | None:
    """Sentences of train, and a thousand of dev, where the folder has them."""
    if data is None or not has_corpus(data):
        return None
    train, dev = (refs(data / file) for file in (_TRAIN, _DEV))
    return train, dev[:: max(1, len(dev) // _HUMANS)][:_HUMANS]


def _suite_of(plan: dict[str, Any], out: Path) -> Suite:
    try:
        return read_suite(plan["suite"])
    except UsageError as error:
        raise UsageError(f"{out}: {error}; --suite names the file of your own") from None


def _earlier(out: Path) -> dict[str, Any]:
    """The manifest of earlier scores, if there are any."""
    file = out / "scores.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return dict(found.get("manifest", {}))
    except (ValueError, AttributeError):
        return {}  # broken ones are written anew
