"""Two runs of one suite, target by target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dlm_control.eval.score.statistics import Difference, difference
from dlm_control.support.errors import UsageError


def compared(one: Path, other: Path) -> dict[str, Difference]:
    """Every metric that two runs share, by name.

    Raises:
        UsageError: a folder holds no scores, or the runs are of different suites, or share fewer than two targets.
    """
    if one.resolve() == other.resolve():
        raise UsageError(f"compare: {one} and {other} are one folder")
    first, second = _scores(one), _scores(other)
    for key in ("suite", "suite_digest"):
        if first["manifest"][key] != second["manifest"][key]:
            a, b = first["manifest"][key], second["manifest"][key]
            raise UsageError(f"compare: {one} and {other} are of different suites: {key} {a} and {b}")
    a, b = (scores["manifest"].get("scorers") for scores in (first, second))
    if a and b and a != b:
        raise UsageError(
            f"compare: {one} and {other} were scored by different models, {a} and {b}; `dlm score` scores them anew"
        )
    a, b = ((scores["manifest"].get("targets"), scores["manifest"].get("targets_digest")) for scores in (first, second))
    if all(a) and all(b) and a[0] == b[0] and a[1] != b[1]:
        raise UsageError(f"compare: {one} and {other} are of different targets: the files of the suite have changed")
    found = {}
    for metric in sorted(first["by_target"].keys() & second["by_target"].keys()):
        mine, theirs = first["by_target"][metric], second["by_target"][metric]
        shared = sorted(mine.keys() & theirs.keys())
        if len(shared) < 2:
            raise UsageError(f"compare: {one} and {other} share {len(shared)} of their targets, expected two or more")
        found[metric] = difference([mine[name] for name in shared], [theirs[name] for name in shared])
    return found


def _scores(folder: Path) -> dict[str, Any]:
    file = folder / "scores.json"
    if not file.is_file():
        raise UsageError(f"compare: {folder} holds no scores.json; give the folder of one suite's run, such as runs/pos")
    try:
        scores = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UsageError(f"compare: {file} is not JSON: {error}") from None
    if not (
        isinstance(scores, dict) and scores.get("by_target") and {"suite", "suite_digest"} <= scores.get("manifest", {}).keys()
    ):
        raise UsageError(f"compare: {file} has no figures of single targets; run `dlm eval` with this --out again")
    return dict(scores)
