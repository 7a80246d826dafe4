"""Figures of many values: mean, interval, and what two runs differ by. scipy is slow to import: inside functions."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

from dlm_control.eval.records import Figure

RESAMPLES = 9999
POWER = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)  # of standard errors: found at 5 %, four times in five


class Difference(NamedTuple):
    """A metric in two runs.

    Attributes:
        first, second: means over the targets that both runs have.
        difference: second − first; low, high: its 95 % bootstrap interval over targets.
        p: of a paired two-sided permutation test (sign flips of the targets' differences).
        detectable: the smallest true difference that such a test finds at the 5 % level with power 80 %; NaN for fewer than six
            targets, with which no p is below 5 %.
        n: targets.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    detectable: float
    n: int


def difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """What two runs of the same targets differ by; at least two targets.

    Args:
        first: a figure of each target.
        second: the same targets' in another run.
    """
    import numpy as np
    from scipy.stats import permutation_test

    gaps = np.subtract(second, first)
    # One sample permuted is one whose signs are flipped; exact where there are few, else never 0 (Phipson & Smyth 2010).
    tested = permutation_test((gaps,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, rng=np.random.default_rng(0))
    detectable = POWER * stdev(gaps.tolist()) / len(gaps) ** 0.5 if len(gaps) > 5 else nan
    return Difference(
        fmean(first), fmean(second), float(gaps.mean()), *interval(gaps.tolist()), float(tested.pvalue), detectable, len(gaps)
    )


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of a mean (percentile method, over targets); of a single value that value twice."""
    import numpy as np
    from scipy.stats import bootstrap

    if len(values) == 1:
        return values[0], values[0]
    drawn = bootstrap((values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0))
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def figure(values: Sequence[float]) -> Figure:
    """Mean, 95 % bootstrap interval and count."""
    low, high = interval(values)
    return Figure(round(fmean(values), 4), round(low, 4), round(high, 4), len(values))
