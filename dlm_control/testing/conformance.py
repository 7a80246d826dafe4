"""Hold a controller to every rule, and report all that it breaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dlm_control.control.controller import Controller
from dlm_control.pipeline import LanguageModel, load
from dlm_control.support.errors import Issue, UsageError
from dlm_control.testing.case import Case
from dlm_control.testing.rules import RULES


class ConformanceError(AssertionError):
    """A controller breaks rules.

    Attributes:
        issues: `place` is the rule's name.
    """

    def __init__(self, subject: str, issues: Sequence[Issue]) -> None:
        listed = "\n".join(f"  - {fault}" for fault in issues)
        super().__init__(f"{subject} breaks {len({f.place for f in issues})} of {len(RULES)} rules\n{listed}")
        self.issues = tuple(issues)


def check_controller(
    controller: Controller,
    *,
    satisfying: Sequence[str],
    violating: Sequence[str],
    faulty: Sequence[Callable[[], object]] = (),
    lm: LanguageModel | None = None,
) -> None:
    """Hold a controller to every rule of the contract.

    Args:
        controller: with some target.
        satisfying: texts that obey it, of words the language model knows; at least one.
        violating: texts that do not; at least one.
        faulty: calls with bad arguments, such as `lambda: Length(-1)`; each must raise a UsageError.
        lm: the language model; the bundled `e2e` by default.

    Raises:
        ConformanceError: rules are broken; all in one report.
        ValueError: no obeying or no breaking text.
    """
    if not satisfying or not violating:
        raise ValueError("check_controller needs at least one obeying and one breaking text")
    lm = lm or load()
    case = Case(controller.for_model(lm.backbone), tuple(satisfying), tuple(violating), tuple(faulty), lm)
    issues = []
    for name, rule in RULES.items():
        try:
            issues += [Issue(name, message) for message in rule(case)]
        except UsageError as error:
            issues.append(Issue(name, str(error)))
        except Exception as error:
            issues.append(Issue(name, f"raised {type(error).__name__}: {error}"))
    if issues:
        raise ConformanceError(repr(controller), issues)
