"""Hold a controller to every rule, and report all that it breaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dlm_control.control.controller import Controller
from dlm_control.pipeline import LanguageModel, load
from dlm_control.testing.case import Case
from dlm_control.testing.report import hold
from dlm_control.testing.rules import RULES


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
    hold(repr(controller), RULES, case)
