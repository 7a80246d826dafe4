"""Metrics by name: what a suite can have texts scored by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dlm_control.support.errors import UsageError, short_repr
from dlm_control.support.registry import Registry
from dlm_control.tasks.targets.target import Target

Function = Callable[[str, Target], float]
TAKEN = ("all_satisfied", "lm_score", "flaw_rate")  # names of figures that every run has


@dataclass(frozen=True)
class Metric:
    """A score of one text, from 0 to 1.

    Attributes:
        name: in suites and reports.
        function: of a text and the target that it was written for; NaN where a tool that it needs is missing.
        judge: who judges, in words, for reports.
        wants: the key of `target.expected` that texts are compared with; None: it asks the target for something else.
        tool: of the judge, where it is the tagger or the parser: then guides have learnt from its labels.
        checks: it says what the control's own check says: texts that were chosen by checks were chosen by this judge.
        of_meaning: of human text it judges sentences that mean what is asked, where targets have no reference.
        shares_wordings: it looks for the wordings that guides of words raise.
        concerns: which targets it is of; by default those that have what it wants.
    """

    name: str
    function: Function
    judge: str = "code of its own"
    wants: str | None = None
    tool: Literal["tags", "trees"] | None = None
    checks: bool = False
    of_meaning: bool = False
    shares_wordings: bool = False
    concerns: Callable[[Target], bool] | None = None

    def is_of(self, target: Target) -> bool:
        """Does it say something of such a target?"""
        return self.concerns(target) if self.concerns else self.wants is None or self.wants in target.expected

    def __call__(self, text: str, target: Target) -> float:
        """The score of a text.

        Raises:
            UsageError: the function raises, or gives no number from 0 to 1.
        """
        try:
            score = float(self.function(text, target))
        except UsageError:
            raise
        except Exception as error:
            what = f"raised {type(error).__name__}: {error}"
            raise UsageError(f"metric {self.name}: {what} (target {target.name!r}, text {short_repr(text)})") from error
        if not (0 <= score <= 1 or score != score):
            raise UsageError(f"metric {self.name}: scored {short_repr(text)} {score:g}, expected 0 to 1")
        return score


METRICS: Registry[Metric] = Registry(
    "metric", "dlm_control.metrics", "a function under @register_metric", lambda thing: isinstance(thing, Metric)
)


def register_metric(
    name: str,
    *,
    judge: str = "code of its own",
    wants: str | None = None,
    tool: Literal["tags", "trees"] | None = None,
    checks: bool = False,
    of_meaning: bool = False,
    shares_wordings: bool = False,
) -> Callable[[Function], Metric]:
    """Decorator: make a function of a text and its target known as a metric.

    Args:
        name: in suites and reports.
        judge, wants, tool, checks, of_meaning, shares_wordings: see `Metric`.

    Raises:
        UsageError: the name is none or is taken.
    """
    METRICS.check_name(name)
    if name in TAKEN or name.startswith("check_") or name.endswith("_human"):
        raise UsageError(
            f"metric {name!r}: {', '.join(TAKEN)}, check_… and …_human are figures of every run; choose another name"
        )

    def register(function: Function) -> Metric:
        metric = Metric(name, function, judge, wants, tool, checks, of_meaning, shares_wordings)
        METRICS.register(name, metric, function)
        return metric

    return register
