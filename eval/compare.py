"""Two runs of one suite, target by target."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any, NamedTuple

from dlm_control.errors import UsageError
from dlm_control.eval.metrics import interval, mean

DRAWS = 10_000  # sign flips of the permutation test
POWER = 1.96 + 0.84  # of standard errors: found at the 5 % level four times in five


class Difference(NamedTuple):
    """A metric in two runs.

    Attributes:
        metric: its name.
        first, second: means over the targets that both runs have.
        difference: second − first; low, high: its 95 % bootstrap interval over targets.
        p: of a paired two-sided permutation test (sign flips of the targets' differences).
        detectable: the smallest true difference that such a test finds at the 5 % level with power 80 %.
        n: targets.
    """

    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    detectable: float
    n: int


def compared(one: Path, other: Path) -> list[Difference]:
    """Every metric that two runs share.

    Raises:
        UsageError: a folder holds no scores, or the runs are of different suites, or share no target.
    """
    first, second = _scores(one), _scores(other)
    for key in ("suite", "suite_digest"):
        if first["manifest"][key] != second["manifest"][key]:
            a, b = first["manifest"][key], second["manifest"][key]
            raise UsageError(f"compare: {one} and {other} are of different suites: {key} {a} and {b}")
    found = []
    for metric in first["by_target"].keys() & second["by_target"].keys():
        mine, theirs = first["by_target"][metric], second["by_target"][metric]
        shared = sorted(mine.keys() & theirs.keys())
        if not shared:
            raise UsageError(f"compare: {one} and {other} share no target")
        found.append(_difference(metric, [mine[name] for name in shared], [theirs[name] for name in shared]))
    return sorted(found)


def _difference(metric: str, first: list[float], second: list[float]) -> Difference:
    gaps = [b - a for a, b in zip(first, second, strict=True)]
    observed, n = mean(gaps), len(gaps)
    rng = random.Random(0)
    extreme = 0
    for _ in range(DRAWS):
        flipped = math.fsum(gap if rng.random() < 0.5 else -gap for gap in gaps) / n
        extreme += abs(flipped) >= abs(observed) - 1e-12
    spread = math.sqrt(math.fsum((gap - observed) ** 2 for gap in gaps) / max(1, n - 1) / n)
    p = (extreme + 1) / (DRAWS + 1)  # Phipson & Smyth 2010: never 0
    return Difference(metric, mean(first), mean(second), observed, *interval(gaps), p, POWER * spread, n)


def _scores(folder: Path) -> dict[str, Any]:
    file = folder / "scores.json"
    if not file.is_file():
        raise UsageError(f"compare: {folder} holds no scores.json; give the folder of one suite's run, such as runs/pos")
    try:
        scores: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UsageError(f"compare: {file} is not JSON: {error}") from None
    if "by_target" not in scores or "manifest" not in scores:
        raise UsageError(f"compare: {file} has no figures of single targets; run `dlm eval` with this --out again")
    return scores
