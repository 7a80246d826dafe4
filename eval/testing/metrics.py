"""Does a metric keep what the harness relies on?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dlm_control.support.errors import short_repr
from dlm_control.tasks.metric import METRICS, Metric
from dlm_control.tasks.targets.target import Target, digest_of
from dlm_control.testing.report import hold, leads_to

ODD_TEXTS = ("", ".", "É\u2028ß — 99 %", "word " * 300)  # a generator may write such ones


@dataclass(frozen=True)
class _OfMetric:
    metric: Metric
    target: Target
    right: Sequence[str]
    wrong: Sequence[str]


def check_metric(metric: Metric, target: Target, *, right: Sequence[str], wrong: Sequence[str]) -> None:
    """Hold a metric to every rule of a metric.

    Args:
        metric: a function under `@register_metric`.
        target: that texts are written for.
        right: texts that score 1; at least one.
        wrong: texts that score less; at least one.

    Raises:
        ConformanceError: rules are broken; all in one report.
        ValueError: no right or no wrong text.
    """
    if not right or not wrong:
        raise ValueError("check_metric needs at least one right and one wrong text")
    hold(f"metric {metric.name}", METRIC_RULES, _OfMetric(metric, target, right, wrong))


def _scores(case: _OfMetric) -> Iterator[str]:
    """Right texts score 1, wrong ones less; every text from 0 to 1, odd ones too."""
    for text in (*case.right, *case.wrong, *ODD_TEXTS):
        score = case.metric(text, case.target)
        if math.isnan(score):
            yield f"{short_repr(text)} could not be judged; install what the metric needs"
        elif (text in case.right and score < 1) or (text in case.wrong and score >= 1):
            yield f"{short_repr(text)} scored {score:g}, expected {'1' if text in case.right else 'less than 1'}"


def _scores_again(case: _OfMetric) -> Iterator[str]:
    """A score depends on text and target alone, and the target stays as it was."""
    before = digest_of([case.target])
    for text in (*case.right, *case.wrong):
        first, second = case.metric(text, case.target), case.metric(text, case.target)
        if first != second:
            yield f"{short_repr(text)} scored {first:g}, and {second:g} the second time"
    if digest_of([case.target]) != before:
        yield "it changes the target"


def _is_of_its_target(case: _OfMetric) -> Iterator[str]:
    """The target has what the metric wants."""
    if not case.metric.is_of(case.target):
        yield f"wants {case.metric.wants!r}, and the target expects {', '.join(case.target.expected) or 'nothing'}"


def _metric_is_found(case: _OfMetric) -> Iterator[str]:
    """Its name leads to it."""
    yield from leads_to(METRICS, case.metric)


METRIC_RULES = {
    "is found": _metric_is_found, "is of its target": _is_of_its_target, "scores": _scores, "scores again": _scores_again,
}  # fmt: skip
