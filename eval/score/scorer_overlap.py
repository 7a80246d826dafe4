"""Who judges a control, and what the judge shares with what steered it."""

from __future__ import annotations

from collections.abc import Sequence

from dlm_control.controllers.linguistics.taggers import tools
from dlm_control.eval.records import Plan
from dlm_control.eval.score.teacher import Teacher

_SPACY = "spaCy en_core_web_sm"
_BENEPAR = "benepar-open"
JUDGES = {
    "tag_match": _SPACY, "tags_strict": _SPACY, "bracket_f1": _BENEPAR, "tree_strict": _BENEPAR, "spans_exact": _BENEPAR,
    "phrase_match": "the control's own wordings", "slot_accuracy": "patterns of eval.slots",
    "substring": "the value as a string",
    "exact_length": "a count of words", "length_within_2": "a count of words", "template_match": "the words themselves",
    "all_satisfied": "the checks of all controls, and `slot_accuracy` for fields",
}  # fmt: skip
_CHECKED = {
    "tag_match",
    "tags_strict",
    "bracket_f1",
    "tree_strict",
    "spans_exact",
    "phrase_match",
    "exact_length",
    "all_satisfied",
}


def find_scorer_overlap(metrics: Sequence[str], plan: Plan) -> dict[str, str]:
    """For each metric its judge, and a warning where what steered the text knows the judge's verdicts."""
    preset = plan.preset or {}
    candidates = preset.get("candidates", 1) * preset.get("particles", 1)
    found = {}
    for name in metrics:
        judge = JUDGES.get(name, name)
        warning = ""
        if plan.controls == "none" or plan.generator == "unconditional":
            pass
        elif plan.generator == "reject" or (preset.get("select") == "checks" and candidates > 1):
            if name in _CHECKED:
                warning = "texts were chosen by this judge"
        elif judge in (_SPACY, _BENEPAR):
            warning = "another network than the guide, but the guide learnt from its labels of the training text"
        elif name == "phrase_match" and plan.guides == "words":
            warning = "guide and judge share their list of wordings"
        found[name] = f"{judge}; {warning}" if warning else judge
    return found


def scorers(teacher: Teacher | None, metrics: Sequence[str]) -> dict[str, str]:
    """The models that judge, with their versions: figures of different judges are not comparable."""
    judges = {JUDGES.get(name) for name in metrics}
    tags, trees = tools("tags") if _SPACY in judges else {}, tools("trees") if _BENEPAR in judges else {}
    return {**({"teacher": f"{teacher.source} {teacher.digest}"} if teacher else {}), **tags, **trees}
