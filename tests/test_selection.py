"""Choosing among texts against the definition of each way."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from fractions import Fraction

from dlm_control import Check
from dlm_control.sampling.sample import Sample
from dlm_control.sampling.selection import select


def sample_of(text: str, nats: float | None = None, checks: Sequence[Check] = (), **energies: float) -> Sample:
    named = {str(i): check for i, check in enumerate(checks)}
    return Sample(text, tuple(text.split()), named, energies, nats, 0, 0, 1)


def agreement(mine: str, other: str) -> Fraction:
    """F1 of 1- and 2-grams: twice those in common, each as often as both have it, over all of both."""
    left, right = ([*text.split(), *zip(text.split(), text.split()[1:], strict=False)] for text in (mine, other))
    common = sum(min(left.count(gram), right.count(gram)) for gram in set(left))
    return Fraction(2 * common, len(left) + len(right))


def test_mbr_takes_the_text_that_agrees_most_with_the_others() -> None:
    rng = random.Random(0)
    chosen = set()
    for _ in range(300):
        texts = [" ".join(rng.choices("abcd", k=rng.randint(1, 6))) for _ in range(rng.randint(3, 5))]
        utility = [sum(agreement(a, b) for j, b in enumerate(texts) if j != i) for i, a in enumerate(texts)]
        best = utility.index(max(utility))
        if sorted(utility)[-1] > sorted(utility)[-2]:
            found = select([sample_of(text) for text in texts], "mbr")
            assert found.text == texts[best], texts
            chosen.add(best)
    assert chosen == {0, 1, 2, 3, 4}
    same = [sample_of("a b") for _ in range(3)]
    assert select([sample_of("c"), *same], "mbr") is same[0]  # of equals the first


def test_mbr_of_two_is_by_checks() -> None:
    worse, better = sample_of("a", checks=[Check(0.4, "")]), sample_of("b", checks=[Check(0.6, "")])
    assert select([worse, better], "mbr") is better
    assert select([worse], "mbr") is worse
    alike = sample_of("b", checks=[Check(0.0, "")])
    assert select([better, worse, alike], "mbr") is better  # of three, those that are alike, the first


def test_checks_count_by_their_sum_and_only_if_they_were_judged() -> None:
    even = sample_of("even", checks=[Check(0.7, ""), Check(0.7, "")])
    uneven = sample_of("uneven", checks=[Check(1.0, ""), Check(0.3, "")])
    unjudged = sample_of("unjudged", checks=[Check(1.0, ""), Check(math.nan, "")])
    assert select([uneven, unjudged, even], "checks") is even


def test_energies_count_by_their_sum() -> None:
    assert select([sample_of("a", x=0.1, y=2.0), sample_of("b", x=1.0, y=1.0)], "energies").text == "b"


def test_likelihood_counts_what_each_control_lacks_beyond_a_nat() -> None:
    """Unmet: 0.5 nats; 0.4 nats; none, and then the likeliest, whatever the sum of energies."""
    one, both = sample_of("one", 0.1, x=0.1, y=1.5), sample_of("both", 9.0, x=1.2, y=1.2)
    obeys, likely = sample_of("obeys", 3.0, x=0.0, y=0.0), sample_of("likely", 2.0, x=1.0, y=0.9)
    assert select([one, both], "likelihood") is both
    assert select([one, both, obeys], "likelihood") is obeys
    assert select([one, obeys, likely, both], "likelihood") is likely
