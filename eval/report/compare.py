"""Two runs of one suite, target by target."""

from __future__ import annotations

from pathlib import Path

from dlm_control.eval.records import Scores
from dlm_control.eval.score.statistics import Difference, difference
from dlm_control.support.errors import UsageError
from dlm_control.support.records import read_record


def compared(one: Path, other: Path) -> dict[str, Difference]:
    """Every metric that two runs share, by name.

    Raises:
        UsageError: a folder holds no scores, or the runs are of different suites, or share fewer than two targets.
    """
    if one.resolve() == other.resolve():
        raise UsageError(f"compare: {one} and {other} are one folder")
    first, second = _scores(one), _scores(other)
    ours, theirs = first.manifest, second.manifest
    for key in ("suite", "suite_digest"):
        a, b = getattr(ours, key), getattr(theirs, key)
        if a != b:
            raise UsageError(f"compare: {one} and {other} are of different suites: {key} {a} and {b}")
    if ours.scorers and theirs.scorers and ours.scorers != theirs.scorers:
        raise UsageError(
            f"compare: {one} and {other} were scored by different models, {ours.scorers} and {theirs.scorers}; `dlm score` "
            "scores them anew"
        )
    digests = {ours.targets_digest, theirs.targets_digest} - {None}
    if ours.targets == theirs.targets and len(digests) > 1:
        raise UsageError(f"compare: {one} and {other} are of different targets: the files of the suite have changed")
    found = {}
    for metric in sorted(first.by_target.keys() & second.by_target.keys()):
        means, others = first.by_target[metric], second.by_target[metric]
        shared = sorted(means.keys() & others.keys())
        if len(shared) < 2:
            raise UsageError(f"compare: {one} and {other} share {len(shared)} of their targets, expected two or more")
        found[metric] = difference([means[name] for name in shared], [others[name] for name in shared])
    return found


def _scores(folder: Path) -> Scores:
    file = folder / "scores.json"
    if not file.is_file():
        raise UsageError(f"compare: {folder} holds no scores.json; give the folder of one suite's run, such as runs/pos")
    return read_record(Scores, file)
