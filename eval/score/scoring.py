"""Scoring a run from its log, as often as one likes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from dlm_control.control.use import with_unique_names
from dlm_control.controllers.fields.meaning import fields_of, meaning_columns, meaning_of
from dlm_control.eval.records import Findings, Group, Manifest, Plan, Scores, TargetRecord, TextRecord
from dlm_control.eval.run.log import RunLog
from dlm_control.eval.score.flaws import PARTS, Flaws
from dlm_control.eval.score.judges import JUDGES, check_judges
from dlm_control.eval.score.metrics import ALL_SATISFIED, all_satisfied, check_metrics, metrics_of, semantic_controls
from dlm_control.eval.score.overlap import overlap
from dlm_control.eval.score.quality import Reader, flaw_figures, qualities
from dlm_control.eval.score.scorer_overlap import find_scorer_overlap, scorers
from dlm_control.eval.score.statistics import figure
from dlm_control.eval.score.teacher import Teacher, teacher_of, train_a_teacher
from dlm_control.support.errors import UsageError
from dlm_control.support.files import write_whole
from dlm_control.support.hub import model_folder
from dlm_control.support.records import read_record, record_text, write_record
from dlm_control.tasks.metric import METRICS, Metric
from dlm_control.tasks.suite import Suite, read_suite
from dlm_control.tasks.targets.corpora import refs, rows
from dlm_control.tasks.targets.target import Target, digest_of

SCORING = 2  # raised when a figure of a log changes its meaning
_HUMANS = 1000  # sentences of dev that stand for human text
_TRAIN, _DEV = "trainset.csv", "devset.csv"


def score_run(
    out: Path,
    suite: Suite | None = None,
    data: Path | None = None,
    command: str = "",
    judges: Sequence[str] = (),
    teacher: str | None = None,
    home: Path | None = None,
) -> Scores:
    """All figures of a run, from its log, into its `scores.json`; every text with its own scores into `texts.jsonl`.

    A target that could not be generated scores 0 and has no lm-score.

    Args:
        out: folder of the run.
        suite: of the run; by default the bundled one that its plan names.
        data: folder of the suite's files; in it lies the suite's corpus, where human text and copies are looked up.
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
    human = None if data is None else data / suite.corpus
    corpora = _corpora(human)
    earlier = _earlier(out)
    judges = list(dict.fromkeys([*judges, *(name for name in (earlier.judges if earlier else ()) if name in JUDGES)]))
    if corpora is None and earlier is not None and earlier.corpus:
        raise UsageError(f"{out}: was scored beside human text; give --data again, or those figures would be lost")
    check_judges(judges)
    targets = _targets_of(plan, suite, data, out)
    check_metrics(suite.name, suite.metrics, targets)
    records = _records_of(log, plan, suite, targets)
    texts = [text for target in targets for text in records[target.name].texts]
    failed = {name: record.error for name, record in records.items() if record.error is not None}
    if not texts:
        raise UsageError(f"{out}: no target could be generated; the first says: {next(iter(failed.values()))}")
    home = home or _home_of(plan)
    reader = Reader(_teacher(teacher, earlier, home, out))
    written = _read(reader, targets, records)
    findings: Findings = {}
    by_target: dict[str, dict[str, float]] = {}
    scores: dict[str, list[list[float]]] = {}
    metrics = metrics_of(suite.metrics, targets)
    of_meaning = bool(suite.metrics) and all(METRICS[name].of_meaning for name in suite.metrics)
    for metric in metrics:
        name, of = metric.name, [each for each in written if metric.is_of(each.target)]
        judged = {each.target.name: [metric(text, each.target) for text in each.texts] for each in of}
        if any(math.isnan(score) for group in judged.values() for score in group):
            findings[name] = None
            continue
        scores[name] = [judged.get(each.target.name, []) for each in written]
        by_target[name] = {target: fmean(group or [0.0]) for target, group in judged.items()}
        findings[name] = figure(list(by_target[name].values()))
        meant = of_meaning if metric is ALL_SATISFIED else metric.of_meaning
        ceiling = _human(metric, meant, [each.target for each in of], human)
        if ceiling and not any(map(math.isnan, ceiling)):
            findings[f"{name}_human"] = figure(ceiling)
    fluency = {each.target.name: fmean(each.known_nats) for each in written if each.known_nats}
    if fluency:
        findings["lm_score"] = likelihood = figure(list(fluency.values()))
        findings["lm_perplexity"] = round(math.exp(likelihood.mean), 3)
    if reader.teacher:
        findings |= flaw_figures([each.flaws for each in written])
        by_target["lm_score"] = fluency
        by_target["flaw_rate"] = {each.target.name: fmean(map(any, each.flaws)) for each in written if each.flaws}
    else:
        findings["no_teacher"] = (
            f"no lm-score and no flaws: the domain of {plan.model or 'this generator'} has no teacher; {train_a_teacher(home)}"
        )
    findings |= qualities(texts, [t.reference for t in targets if t.reference is not None], corpora, reader)
    pairs = [(text, e.target) for e in written if "given" in e.target.expected and e.target.reference for text in e.texts]
    if pairs:
        findings |= overlap(pairs)
    for judge in judges:
        findings |= JUDGES[judge](texts, corpora)
    scored = {
        "command": command or (earlier.command if earlier else ""),
        "wall_s": round(sum(record.wall_s for record in records.values()), 1),
        "cpu_s": round(sum(record.cpu_s for record in records.values()), 1),
        "targets_digest": digest_of(targets),
        "scoring": SCORING,
        "scorers": scorers(reader.teacher, [METRICS[name] for name in suite.metrics]),
        "judges": judges,
        "corpus": corpora is not None,
    }
    found = Scores(
        suite=suite.name,
        manifest=Manifest(**{**vars(plan), **scored}),
        targets=len(targets),
        texts=len(texts),
        calls_per_text=round(fmean([calls for record in records.values() for calls in record.calls]), 2),
        failed_targets=failed,
        findings=findings,
        too_long_for_teacher=sum(math.isnan(nats) for e in written for nats in e.nats) if reader.teacher else None,
        groups=_groups(written) or None,
        scorer_overlap=find_scorer_overlap([metric for metric in metrics if metric.name in scores], plan),
        by_target={name: {target: round(mean, 4) for target, mean in means.items()} for name, means in by_target.items()},
    )
    write_record(out / "scores.json", found)
    lines = [
        record_text(_text_record(each, i, {name: of[number][i] for name, of in scores.items() if of[number]}))
        for number, each in enumerate(written)
        for i in range(len(each.texts))
    ]
    write_whole({out / "texts.jsonl": "".join(lines)})
    return found


class Written(NamedTuple):
    """The texts of a target.

    Attributes:
        target: what was asked for.
        texts: none where it failed.
        nats: lm-score of each text, NaN where it has none.
        flaws: of each text.
    """

    target: Target
    texts: list[str]
    nats: list[float]
    flaws: list[Flaws]

    @property
    def known_nats(self) -> list[float]:
        """Of the texts that have an lm-score."""
        return [nats for nats in self.nats if not math.isnan(nats)]


def _targets_of(plan: Plan, suite: Suite, data: Path | None, out: Path) -> list[Target]:
    """The targets that a run is of, if the suite still asks for them."""
    if suite.digest != plan.suite_digest:
        raise UsageError(f"{out}: is a run of suite {plan.suite} {plan.suite_digest}, not of {suite.name} {suite.digest}")
    targets = suite.read_targets(data)[: plan.targets]
    if plan.targets_digest not in (None, digest_of(targets)):
        raise UsageError(f"{out}: is a run of other targets than {suite.name} has now; their files have changed")
    return targets


def _records_of(log: RunLog, plan: Plan, suite: Suite, targets: Sequence[Target]) -> dict[str, TargetRecord]:
    """What became of each target, if the log says it of all of them and of no others."""
    records = log.items(plan.samples_per_target)
    foreign = records.keys() - {target.name for target in targets}
    if foreign:
        raise UsageError(
            f"{log.folder}: has lines of {len(foreign)} targets that are none of {suite.name}'s, such as {min(foreign)!r}"
        )
    lacking = [target.name for target in targets if target.name not in records]
    if lacking:
        raise UsageError(
            f"{log.folder}: lacks {len(lacking)} of {len(targets)} targets, such as {lacking[0]!r}; `dlm eval` goes on with it"
        )
    return records


def _read(reader: Reader, targets: Sequence[Target], records: Mapping[str, TargetRecord]) -> list[Written]:
    """The texts of each target with their lm-scores and flaws; the reader reads all texts together."""
    nats, flaws = reader.read([text for target in targets for text in records[target.name].texts])
    remaining_nats, remaining_flaws = iter(nats), iter(flaws)
    found = []
    for target in targets:
        texts = records[target.name].texts
        found.append(
            Written(target, texts, list(islice(remaining_nats, len(texts))), list(islice(remaining_flaws, len(texts))))
        )
    return found


def _teacher(given: str | None, earlier: Manifest | None, home: Path | None, out: Path) -> Teacher | None:
    """The teacher that is given, that of earlier scores, or the model's; None where there is none."""
    if given:
        return Teacher(given)
    before = (earlier.scorers if earlier else {}).get("teacher", "").rpartition(" ")[0]
    source = before or teacher_of(home)
    try:
        return Teacher(source) if source else None
    except UsageError as error:
        whose = f"{out}: was scored by the teacher {before}" if before else f"{out}: the model names the teacher {source}"
        raise UsageError(f"{whose}: {error}; --teacher names another") from None


def _home_of(plan: Plan) -> Path | None:
    """The folder of the model that a plan names, where it is still there."""
    try:
        return model_folder(plan.model) if plan.model else None
    except UsageError:
        return None


def _human(metric: Metric, of_meaning: bool, targets: Sequence[Target], corpus: Path | None) -> list[float]:
    """A metric of human texts: of the targets' references, or, if it judges meaning, of dev sentences that mean the same."""
    referenced = [target for target in targets if target.reference is not None]
    if referenced:
        return [metric(str(target.reference), target) for target in referenced]
    if not of_meaning or corpus is None:
        return []
    found = []
    for target in targets:
        matching = _saying(corpus, target) if target.expected.get("fields") and (corpus / _DEV).is_file() else []
        if matching:
            found.append(fmean([metric(text, target) for text in matching]))
    return found


def _groups(written: Sequence[Written]) -> dict[str, Group]:
    """For each group of targets: the score of each control's check, of the lowest of them, the share of texts that obey all,
    the lm-score and the flaw rate.

    Means over the texts of a target, then over targets; one without texts obeys nothing and has no lm-score.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for each in written:
        if not each.target.group:
            continue
        texts, known = each.texts, each.known_nats
        scores = {c.name: [c.check(text).score for text in texts] or [0.0] for c in with_unique_names(each.target.controls)}
        scores["min_score"] = [min(of_a_text) for of_a_text in zip(*scores.values(), strict=True)] or [1.0]
        satisfied = [all_satisfied(text, each.target) for text in texts] or [0.0]
        scores["all_satisfied"] = [] if any(map(math.isnan, satisfied)) else satisfied
        scores |= {"lm_score": known, "flaw_rate": [float(any(flaws)) for flaws in each.flaws] if known else []}
        group = found.setdefault(each.target.group, {})
        for name, values in scores.items():
            group.setdefault(name, []).extend([fmean(values)] if values else [])
    return {
        name: Group(
            sum(len(each.texts) for each in written if each.target.group == name),
            {key: round(fmean(values), 4) for key, values in means.items() if values},
        )
        for name, means in found.items()
    }


def _text_record(written: Written, i: int, metrics: Mapping[str, float]) -> TextRecord:
    """The line of a target's i-th text."""
    text, nats = written.texts[i], written.nats[i]
    satisfied = all(score == 1 for score in metrics.values())
    checks = [] if satisfied else [control.check(text) for control in written.target.controls]
    return TextRecord(
        target=written.target.name,
        text=text,
        controls=[repr(control.controller) for control in with_unique_names(written.target.controls)],
        metrics={name: round(score, 4) for name, score in metrics.items()},
        lm_score=None if math.isnan(nats) else round(nats, 4),
        flaws=[part for part in PARTS if getattr(written.flaws[i], part)],
        failed=[check.why for check in checks if check.judged and check.score < 1],
    )


def _saying(folder: Path, target: Target) -> list[str]:
    """The dev sentences whose meaning has a target's values; none where the corpus says no meanings."""
    sentences, fields = rows(folder / _DEV, ["ref"]), target.expected["fields"]
    columns = meaning_columns(sentences[0].keys() if sentences else (), semantic_controls(target)[0].domain)
    return [row["ref"] for row in sentences if fields.items() <= fields_of(meaning_of(row, columns)).items()]


def _corpora(folder: Path | None) -> tuple[list[str], list[str]] | None:
    """Sentences of train, and a thousand of dev, where the folder has them."""
    if folder is None or not all((folder / file).is_file() for file in (_TRAIN, _DEV)):
        return None
    train, dev = (refs(folder / file) for file in (_TRAIN, _DEV))
    return train, dev[:: max(1, len(dev) // _HUMANS)][:_HUMANS]


def _suite_of(plan: Plan, out: Path) -> Suite:
    try:
        return read_suite(plan.suite)
    except UsageError as error:
        raise UsageError(f"{out}: {error}; --suite names the file of your own") from None


def _earlier(out: Path) -> Manifest | None:
    """The manifest of earlier scores, if there are any; broken ones are written anew."""
    try:
        return read_record(Scores, out / "scores.json").manifest
    except (OSError, UsageError):
        return None
