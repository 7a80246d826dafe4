"""Who judges a control, and what the judge shares with what steered it."""

from __future__ import annotations

from collections.abc import Sequence

from dlm_control.controllers.linguistics.taggers import tools
from dlm_control.eval.records import Plan
from dlm_control.eval.score.teacher import Teacher
from dlm_control.tasks.metric import Metric


def find_scorer_overlap(metrics: Sequence[Metric], plan: Plan) -> dict[str, str]:
    """For each metric its judge, and a warning where what steered the text knows the judge's verdicts."""
    preset = plan.preset or {}
    candidates = preset.get("candidates", 1) * preset.get("particles", 1)
    found = {}
    for metric in metrics:
        warning = ""
        if plan.controls == "none" or plan.generator == "unconditional":
            pass
        elif plan.generator == "reject" or (preset.get("select") == "checks" and candidates > 1):
            if metric.checks:
                warning = "texts were chosen by this judge"
        elif metric.tool:
            warning = "another network than the guide, but the guide learnt from its labels of the training text"
        elif metric.shares_wordings and plan.guides == "words":
            warning = "guide and judge share their list of wordings"
        found[metric.name] = f"{metric.judge}; {warning}" if warning else metric.judge
    return found


def scorers(teacher: Teacher | None, metrics: Sequence[Metric]) -> dict[str, str]:
    """The models that judge, with their versions: figures of different judges are not comparable."""
    kinds = sorted({metric.tool for metric in metrics if metric.tool})
    found = {"teacher": f"{teacher.source} {teacher.digest}"} if teacher else {}
    for kind in kinds:
        found |= tools(kind)
    return found
