"""Does a judge keep what the harness relies on?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dlm_control.eval.records import Figure, Findings
from dlm_control.eval.score.judges import JUDGES, Judge
from dlm_control.testing.report import hold, leads_to


@dataclass(frozen=True)
class _OfJudge:
    judge: Judge
    texts: Sequence[str]
    human: Sequence[str]


def check_judge(judge: Judge, texts: Sequence[str], human: Sequence[str]) -> None:
    """Hold a judge to every rule of a judge.

    Args:
        judge: a function under `@register_judge`.
        texts: of a run.
        human: sentences of a corpus.

    Raises:
        ConformanceError: rules are broken; all in one report.
    """
    hold(f"judge {judge.name}", JUDGE_RULES, _OfJudge(judge, texts, human))


def _judges(case: _OfJudge) -> Iterator[str]:
    """With and without human text there are figures, their names begin with the judge's, and their numbers are finite."""
    for corpora in (None, (case.human, case.human)):
        found: Findings = case.judge(case.texts, corpora)
        if not found:
            yield "gives no figure"
        for name, value in found.items():
            if not name.startswith(case.judge.name):
                yield f"figure {name!r}: expected a name that begins with {case.judge.name!r}"
            number = value.mean if isinstance(value, Figure) else value
            if isinstance(number, float) and not math.isfinite(number):
                yield f"figure {name!r} is {number}, expected a finite number"


def _judges_again(case: _OfJudge) -> Iterator[str]:
    """The same texts give the same figures."""
    if case.judge(case.texts, None) != case.judge(case.texts, None):
        yield "gives other figures the second time"


def _judge_is_found(case: _OfJudge) -> Iterator[str]:
    """Its name leads to it."""
    yield from leads_to(JUDGES, case.judge)


JUDGE_RULES = {"is found": _judge_is_found, "judges": _judges, "judges again": _judges_again}
