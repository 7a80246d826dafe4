"""Choosing a preset on targets of training sentences: success, within bounds of flaws, diversity and network calls."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import yaml

from dlm_control.eval.score.flaws import rates
from dlm_control.eval.score.metrics import distinct
from dlm_control.eval.score.quality import Reader
from dlm_control.eval.score.teacher import Teacher, teacher_of, train_a_teacher
from dlm_control.eval.studies.search import SPACES, Space, cost, read_space, suggested, within
from dlm_control.pipeline import LanguageModel, load
from dlm_control.sampling.presets import preset
from dlm_control.support.errors import UsageError
from dlm_control.support.files import write_whole
from dlm_control.support.hub import model_folder
from dlm_control.support.include import BeforeInclude
from dlm_control.support.progress import progress
from dlm_control.support.records import Record, record_text
from dlm_control.tasks.metric import METRICS
from dlm_control.tasks.run import writable
from dlm_control.tasks.suite import read_suites
from dlm_control.tasks.targets.target import Target

if TYPE_CHECKING:
    import optuna

STRICT = {
    "fields": "slot_accuracy",
    "tags": "tags_strict",
    "tree": "tree_strict",
    "spans": "spans_exact",
    "words": "exact_length",
}
ROUNDS = ("search", "confirm")
_KEPT = 4  # one preset in so many is tried again


class NoPresetError(UsageError):
    """No preset keeps to the bounds.

    Attributes:
        nearest: the one that exceeds them least.
    """

    def __init__(self, message: str, nearest: Trial) -> None:
        super().__init__(message)
        self.nearest = nearest


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What `dlm tune` is asked for.

    Attributes:
        suites: whose targets are searched on; their files say `tuning: true`.
        data: folder of their files.
        model: what writes.
        flaws: how much greater the share of texts with a flaw may be than that of the targets' own human sentences.
        diversity: distinct-3 of the texts at least, as a share of that of the human sentences.
        calls: network calls for a text at most.
        trials: presets to try; the default, where it costs no more, is the first.
        limit: targets of a group in the search; the best presets are tried again on all.
        seed: of the search and the texts.
        space: a YAML file of keys and values to try.
        teacher: whose surprise counts; by default the model's (`teacher_of`).
    """

    suites: Sequence[str]
    data: Path
    model: str = "e2e"
    flaws: float = 0.1
    diversity: float = 0.8
    calls: int = 64
    trials: int = 24
    limit: int = 8
    seed: int = 0
    space: Path | None = None
    teacher: str | None = None


@dataclass(frozen=True, kw_only=True)
class Trial(Record):
    """A preset and how it did: a line of `<out>.trials.jsonl`.

    Attributes:
        round: `search`, or `confirm` for another seed and all targets.
        changes: of the default preset.
        success: mean over groups of the mean strict score.
        flaw_rate, distinct_3, lm_score: of its texts.
        by_group: success of each group.
        texts: how many.
        front: no other preset of its round is as good in all of success, flaw rate and distinct-3, and better in one.
    """

    round: str
    changes: dict[str, Any]
    success: float
    flaw_rate: float
    distinct_3: float
    lm_score: float
    by_group: dict[str, float]
    texts: int
    front: bool = False


@dataclass(frozen=True)
class Bounds:
    """What a preset must keep to.

    Attributes:
        flaws: the greatest flaw rate.
        diversity: the least distinct-3.
    """

    flaws: float
    diversity: float

    def merit(self, trial: Trial) -> tuple[float, float, float]:
        """Sorts the best first: by how far they are out of bounds, then by success, then by flaws."""
        excess = max(0.0, trial.flaw_rate - self.flaws) + max(0.0, self.diversity - trial.distinct_3)
        return excess, -trial.success, trial.flaw_rate


def tune_presets(
    asked: Tuning,
    out: Path,
    *,
    force: bool = False,
    progress_to: Callable[[str], None] | None = None,
    before_include: BeforeInclude | None = None,
) -> Trial:
    """Search by optuna's tree-structured Parzen estimator on three objectives (Ozaki et al. 2022), then confirm the best.

    Args:
        asked: what is searched, and within which bounds.
        out: the preset file. Every trial is a line of `<out>.trials.jsonl`. `<out>.journal` lets a stopped search go on;
            processes that are given the same command share it.
        force: replace an `out` that exists.
        progress_to: is told the Pareto front of the search.
        before_include: as for `read_suites`.

    Returns:
        The chosen preset, as it did when it was confirmed.

    Raises:
        UsageError: a suite that reports, targets without human text, a faulty space, no teacher, a journal of another search,
            no preset within the bounds, or optuna is not installed.
    """
    lm, home = load(asked.model), model_folder(asked.model)
    space = SPACES[lm.backbone.kind] if asked.space is None else read_space(asked.space, lm.backbone.kind)
    if not any(
        within(asked.calls, dict(zip(space, each, strict=True)), lm.backbone) for each in itertools.product(*space.values())
    ):
        raise UsageError(f"tune: --calls {asked.calls} leaves no preset a single step; raise it")
    targets = tuning_targets(asked.suites, asked.data, before_include)
    source = asked.teacher or teacher_of(home)
    if source is None:
        raise UsageError(f"tune: fluency needs a teacher, and the domain of {asked.model} has none; {train_a_teacher(home)}")
    teacher = Teacher(source)
    judge = Reader(teacher)
    human = [str(target.reference) for target in targets]
    human_flaws = rates(judge.read(human)[1])["flaw_rate"]
    file, log, journal = (out.with_name(f"{out.name}{suffix}") for suffix in ("", ".trials.jsonl", ".journal"))
    writable(file, force)
    if force and file.exists():
        journal.unlink(missing_ok=True)
    settings = {
        "suites": list(asked.suites), "calls": asked.calls, "limit": asked.limit, "seed": asked.seed, "space": dict(space),
        "weights": lm.backbone.weights_digest, "teacher": teacher.digest,
    }  # fmt: skip
    search, confirm = (_study(journal, name, asked.seed, settings) for name in ROUNDS)
    few = [target for _, group in _by_group(targets) for target in group[: asked.limit]]
    confirmed = max(1, asked.trials // _KEPT)

    def bounds(chosen: Sequence[Target]) -> Bounds:
        references = [str(target.reference) for target in chosen]
        return Bounds(human_flaws + asked.flaws, asked.diversity * distinct(references, 3))

    with progress("tune", total=asked.trials + confirmed) as bar:

        def run(
            study: optuna.Study, name: str, trials: int, chosen: Sequence[Target], seed: int
        ) -> list[tuple[optuna.trial.FrozenTrial, Trial]]:
            def tried(changes: dict[str, Any]) -> Trial:
                return try_preset(lm, judge, changes, chosen, name, seed)

            _run(study, trials, space, lambda values: within(asked.calls, values, lm.backbone), tried, bar.advance)
            return _records(study)

        if not search.trials and cost(preset("default", lm.backbone.kind), lm.backbone) <= asked.calls:
            search.enqueue_trial({}, user_attrs={"default": True})
        first = run(search, ROUNDS[0], asked.trials, few, asked.seed)
        if progress_to:
            progress_to("\n".join(_line(trial) for _, trial in first if trial.front))
        best = sorted(first, key=lambda pair: bounds(few).merit(pair[1]))[:confirmed]
        if not confirm.trials:
            for earlier, _ in best:
                confirm.enqueue_trial(earlier.params, user_attrs={"default": bool(earlier.user_attrs.get("default"))})
        second = run(confirm, ROUNDS[1], len(best), targets, asked.seed + 1)
    write_whole({log: "".join(record_text(trial) for _, trial in [*first, *second])})
    limits = bounds(targets)
    chosen = min((trial for _, trial in second), key=limits.merit)
    header = (
        f"{_line(chosen)}; human: flaw rate {human_flaws:.3f}, distinct-3 {distinct(human, 3):.3f}; bounds: flaw rate "
        f"{limits.flaws:.3f}, distinct-3 {limits.diversity:.3f}"
    )
    if limits.merit(chosen)[0] > 0:
        raise NoPresetError(
            f"tune: no preset keeps to the bounds; the nearest: {header}; all are in {log}; change --flaws or --diversity",
            chosen,
        )
    source = f"weights {lm.backbone.weights_digest}; teacher {source} {teacher.digest}"
    made = preset("default", lm.backbone.kind, **chosen.changes)
    said = {key: getattr(made, key) for key in dict.fromkeys([*space, "select", "steps"])}  # a later default changes none of it
    text = yaml.safe_dump({"name": "default", **said}, sort_keys=False, allow_unicode=True)
    write_whole({file: f"# Written by `dlm {' '.join(sys.argv[1:])}`\n# {header}\n# {source}\n{text}"})
    return chosen


def tuning_targets(names: Sequence[str], data: Path, before_include: BeforeInclude | None = None) -> list[Target]:
    """The targets of suites that are for tuning.

    Raises:
        UsageError: a suite that reports, or targets that cannot be judged.
    """
    suites = [suite for name in names for suite in read_suites(name, before_include)]
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


def try_preset(
    lm: LanguageModel, judge: Reader, changes: dict[str, Any], targets: Sequence[Target], name: str, seed: int
) -> Trial:
    """One text for each target under a preset, judged.

    Args:
        lm: what writes.
        judge: reads the texts.
        changes: of the default preset.
        targets: one text each; of one that no text can obey the score is 0.
        name: of the round.
        seed: of the texts.
    """
    chosen = preset("default", lm.backbone.kind, **changes)
    scores: dict[str, list[float]] = {}
    texts = []
    for place, target in enumerate(targets):
        scores.setdefault(target.group or "all", []).append(0.0)
        try:
            [sample] = lm.generate(target.controls, 1, seed=seed, preset=chosen, indices=[place])
        except UsageError:  # controls that no text can obey
            continue
        texts.append(sample.text)
        of_kinds = [METRICS[metric](sample.text, target) for kind, metric in STRICT.items() if kind in target.expected]
        scores[target.group or "all"][-1] = fmean(of_kinds)
    by_group = {group: round(fmean(values), 4) for group, values in scores.items()}
    nats, flaws = judge.read(texts)
    return Trial(
        round=name, changes=changes, success=round(fmean(by_group.values()), 4), by_group=by_group, texts=len(texts),
        flaw_rate=round(rates(flaws)["flaw_rate"], 4) if texts else 1.0, distinct_3=round(distinct(texts, 3), 4),
        lm_score=round(fmean(nats), 4) if texts else 0.0,
    )  # fmt: skip


def _study(journal: Path, name: str, seed: int, settings: dict[str, Any]) -> optuna.Study:
    """A round of the search as its journal holds it."""
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise UsageError("tune: optuna is not installed; pip install 'dlm-control[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))), study_name=name, load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=seed), directions=["maximize", "minimize", "maximize"],
    )  # fmt: skip
    known = study.user_attrs.get("settings")
    if known is None:
        study.set_user_attr("settings", settings)
    elif known != settings:
        differing = sorted(key for key in settings if known.get(key) != settings[key])
        raise UsageError(f"tune: {journal} holds a search with other {', '.join(differing)}; remove it, or give another --out")
    return study


def _run(
    study: optuna.Study,
    trials: int,
    space: Space,
    whole: Callable[[dict[str, Any]], dict[str, Any] | None],
    tried: Callable[[dict[str, Any]], Trial],
    advance: Callable[[int], None],
) -> None:
    """Add trials to a round until it has so many; values that were tried before count, and are not tried again."""
    from optuna.trial import TrialState

    advance(len(_done(study)))
    while len(_done(study)) < trials:
        asked = study.ask()
        changes = {} if asked.user_attrs.get("default") else whole(suggested(asked, space))
        if changes is None:
            study.tell(asked, state=TrialState.FAIL)
            continue
        twin = next((trial for _, trial in _records(study) if trial.changes == changes), None)
        found = twin or tried(changes)
        asked.set_user_attr("trial", found.to_json())
        study.tell(asked, [found.success, found.flaw_rate, found.distinct_3])
        advance(1)


def _records(study: optuna.Study) -> list[tuple[optuna.trial.FrozenTrial, Trial]]:
    """The finished trials of a round with what they found, each preset once."""
    done = _done(study)
    front = {each.number for each in study.best_trials} if done else set()
    found: list[tuple[optuna.trial.FrozenTrial, Trial]] = []
    for each in done:
        trial = replace(Trial.from_json(each.user_attrs["trial"]), front=each.number in front)
        if all(trial.changes != other.changes for _, other in found):
            found.append((each, trial))
    return found


def _done(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _line(trial: Trial) -> str:
    return (
        f"success {trial.success:.3f}, flaw rate {trial.flaw_rate:.3f}, distinct-3 {trial.distinct_3:.3f}, lm-score "
        f"{trial.lm_score:.2f}, {trial.texts} texts: {json.dumps(trial.changes)}"
    )


def _by_group(targets: Sequence[Target]) -> list[tuple[str, list[Target]]]:
    found: dict[str, list[Target]] = {}
    for target in targets:
        found.setdefault(target.group or "all", []).append(target)
    return list(found.items())
