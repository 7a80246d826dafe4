"""Choosing a preset on targets of training sentences, under a budget of fluency and of network calls."""

from __future__ import annotations

import itertools
import json
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import yaml

from dlm_control.eval.score.metrics import METRICS
from dlm_control.eval.score.teacher import Teacher, teacher_of, train_a_teacher
from dlm_control.pipeline import LanguageModel, load
from dlm_control.sampling.presets import LEAST_FOR_MBR, preset
from dlm_control.support.errors import ErrorCollector, UsageError
from dlm_control.support.files import write_whole
from dlm_control.support.hub import model_folder
from dlm_control.support.progress import progress
from dlm_control.support.values import Fits, MisfitError, fitted
from dlm_control.support.yaml_file import read_yaml
from dlm_control.tasks.run import writable
from dlm_control.tasks.suite import read_suites
from dlm_control.tasks.targets.target import Target

# How often candidates are drawn and which steps that leaves are decided by --calls.
SPACE: dict[str, list[Any]] = {
    "candidates": [1, 2, 3],
    "temperature": [0.9, 1.0, 1.1, 1.2],
    "local_likelihood_weight": [0.7, 0.85, 1.0],
    "clamp": ["off", "soft"],
    "weight": [0.75, 1.0, 1.5, 2.0],
    "interval": [[0.0, 1.0], [0.0, 0.95], [0.05, 1.0]],
}
STRICT = {
    "fields": "slot_accuracy",
    "tags": "tags_strict",
    "tree": "tree_strict",
    "spans": "spans_exact",
    "words": "exact_length",
}
_Tried = Annotated[list[Any], Fits("a list of values to try", lambda values: len(values) > 0)]
_FIRST, _KEPT = 8, 4  # targets of a group in the first round; one preset in so many goes on to the second


@dataclass(frozen=True)
class Trial:
    """A preset and how it did.

    Attributes:
        changes: of the default preset.
        round: 1 on few targets of each group, 2 on all.
        success: mean over groups of the mean strict score.
        by_group: those means.
        lm_score: nats per word.
        texts: how many.
    """

    changes: dict[str, Any]
    round: int
    success: float
    by_group: dict[str, float]
    lm_score: float
    texts: int


def tune_presets(
    suites: Sequence[str], data: Path, out: Path, space: Path | None, model: str, budget: float, calls: int, trials: int,
    limit: int | None, seed: int, force: bool = False, teacher: str | None = None,
) -> str:  # fmt: skip
    """Random search with one halving (Jamieson & Talwalkar 2016): many presets on few targets, the best quarter on all.

    Args:
        suites: whose targets are searched on; their files say `tuning: true`.
        data: folder of their files.
        out: the preset file; every trial is a line of `<out>.trials.jsonl`, written when it is done.
        space: a YAML file of keys and values to try.
        model: what writes.
        budget: nats per word that texts may be above the targets' own human sentences.
        calls: network calls for a text at most.
        trials: presets in the first round; the default is always one.
        limit: targets of a group in the first round.
        seed: of the search and the texts.
        force: replace an `out` that exists.
        teacher: whose surprise counts as fluency; by default the model's (`teacher_of`).

    Returns:
        What was chosen, in a line.

    Raises:
        UsageError: a suite that reports, targets without human text, a faulty space, no teacher, or no preset within
            the budget.
    """
    drawn = _drawn(SPACE if space is None else _read_space(space), trials, calls, seed)
    file, log = writable(out, force), writable(out.with_name(f"{out.name}.trials.jsonl"), force)
    targets = _targets(suites, data)
    lm, home = load(model), model_folder(model)
    source = teacher or teacher_of(home)
    if source is None:
        raise UsageError(f"tune: fluency needs a teacher, and the domain of {model} has none; {train_a_teacher(home)}")
    judge = Teacher(source)
    human = _mean(judge.nats_per_word([str(target.reference) for target in targets]))
    few = [target for _, group in _by_group(targets) for target in group[: limit or _FIRST]]
    log.write_text("")
    with progress("tune", total=len(drawn) + max(1, len(drawn) // _KEPT)) as bar:

        def tried(changes: dict[str, Any], targets: Sequence[Target], number: int, seed: int) -> Trial:
            trial = _tried(lm, judge, changes, targets, number, seed)
            with open(log, "a", encoding="utf-8") as lines:
                lines.write(json.dumps({**vars(trial), "human": round(human, 4)}) + "\n")
            bar.advance(1)
            return trial

        first = [tried(changes, few, 1, seed) for changes in drawn]
        kept = sorted(first, key=lambda trial: _merit(trial, human + budget))[: max(1, len(drawn) // _KEPT)]
        second = [tried(trial.changes, targets, 2, seed + 1) for trial in kept]
    best = min(second, key=lambda trial: _merit(trial, human + budget))
    header = (
        f"success {best.success:.4f}, lm-score {best.lm_score:.3f} (human {human:.3f}, budget {budget:g}), {best.texts} texts"
    )
    if not best.lm_score <= human + budget:
        raise UsageError(
            f"tune: no preset stays within {budget:g} nat of human text; the best has {header}; all are in {log}; raise "
            "--budget, and --force replaces them"
        )
    source = f"weights {lm.backbone.weights_digest}; teacher {source} {judge.digest}"
    heading = f"# Written by `dlm {' '.join(sys.argv[1:])}`\n# {header}; {source}\n"
    chosen = yaml.safe_dump({"name": "default", **best.changes}, sort_keys=False, allow_unicode=True)
    write_whole({file: heading + chosen})
    return f"{out}: {json.dumps(best.changes)}: {header}"


def _targets(names: Sequence[str], data: Path) -> list[Target]:
    suites = [suite for name in names for suite in read_suites(name, METRICS)]
    for suite in suites:
        if not suite.tuning:
            raise UsageError(
                f"tune: suite {suite.name} is for reporting; `tune` is made of training sentences, and a suite file of your "
                "own says `tuning: true`"
            )
    targets = [target for suite in suites for target in suite.read_targets(data)]
    unfit = [target.name for target in targets if target.reference is None or not target.expected.keys() & STRICT.keys()]
    if unfit:
        raise UsageError(
            f"tune: {len(unfit)} of {len(targets)} targets, such as {unfit[0]!r}, have no human text to compare fluency with, "
            f"or none of {', '.join(STRICT)} to judge"
        )
    return targets


def _tried(
    lm: LanguageModel, teacher: Teacher, changes: dict[str, Any], targets: Sequence[Target], number: int, seed: int
) -> Trial:
    chosen = preset("default", **changes)
    scores: dict[str, list[float]] = {}
    texts = []
    for place, target in enumerate(targets):
        scores.setdefault(target.group or "all", []).append(0.0)
        try:
            [sample] = lm.generate(target.controls, 1, seed=seed, preset=chosen, indices=[place])
        except UsageError:  # controls that no text can obey: counted as 0
            continue
        texts.append(sample.text)
        of_kinds = [METRICS[metric](sample.text, target) for kind, metric in STRICT.items() if kind in target.expected]
        scores[target.group or "all"][-1] = fmean(of_kinds)
    by_group = {group: round(fmean(values), 4) for group, values in scores.items()}
    fluency = _mean(teacher.nats_per_word(texts))
    return Trial(changes, number, round(fmean(list(by_group.values())), 4), by_group, round(fluency, 4), len(texts))


def _mean(scores: Sequence[float]) -> float:
    """Mean of those that are known; infinite if none is."""
    known = [score for score in scores if not math.isnan(score)]
    return fmean(known) if known else math.inf


def _merit(trial: Trial, most: float) -> tuple[bool, float, float]:
    """Sorts the best first: those within the budget, then by success, then by fluency."""
    return not trial.lm_score <= most, -trial.success, trial.lm_score


def _drawn(space: dict[str, list[Any]], trials: int, calls: int, seed: int) -> list[dict[str, Any]]:
    """The default, then others at random, none twice; steps are what the budget of calls leaves for each candidate."""
    everything = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    random.Random(seed).shuffle(everything)
    chosen: list[dict[str, Any]] = []
    for changes in (_whole(changes, calls) for changes in ({}, *everything)):
        if changes is not None and changes not in chosen:
            chosen.append(changes)
    if not chosen:
        raise UsageError(f"tune: --calls {calls} leaves no preset a single step; raise it")
    return chosen[:trials]


def _whole(changes: dict[str, Any], calls: int) -> dict[str, Any] | None:
    """Changes with as many steps as the calls allow; None where they allow none."""
    default = preset("default")
    if not changes and default.calls() <= calls:
        return {}
    candidates = changes.get("candidates", default.candidates)
    steps = min(changes.get("steps", calls), calls // (candidates * changes.get("particles", default.particles)))
    select = {"select": "energies"} if candidates > 1 else {}
    if changes.get("select") == "mbr" and candidates < LEAST_FOR_MBR:
        return None
    return {**select, **changes, "steps": steps} if steps else None


def _by_group(targets: Sequence[Target]) -> list[tuple[str, list[Target]]]:
    found: dict[str, list[Target]] = {}
    for target in targets:
        found.setdefault(target.group or "all", []).append(target)
    return list(found.items())


def _read_space(path: Path) -> dict[str, list[Any]]:
    given, lines = read_yaml(path)
    problems = ErrorCollector(str(path), lines)
    space: dict[str, list[Any]] = {}
    for key, values in given.items():
        try:
            space[key] = fitted(_Tried, values, key)
            for value in space[key]:
                preset("default", **{key: value})
        except MisfitError as misfit:
            problems.found += misfit.issues
        except UsageError as error:
            problems.extend("", error)
    problems.raise_if_any()
    return space
