"""Scores of plain texts, one a line, that no suite asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from dlm_control.eval.records import Findings
from dlm_control.eval.score.flaws import PARTS, FlawDetector
from dlm_control.eval.score.metrics import copied, distinct, evenly_spaced, self_bleu
from dlm_control.eval.score.statistics import figure
from dlm_control.eval.score.teacher import Teacher
from dlm_control.eval.score.two_sample import two_sample
from dlm_control.support.errors import UsageError
from dlm_control.tasks.targets.corpora import lines_of, refs

SELF_BLEU = 100  # texts that it compares
DISTINCT = 240  # texts that distinct-n compares: the same number in every file, for it falls with that number


def read_texts(file: Path) -> list[str]:
    """The texts of a file: a CSV file's column `ref`, else its lines that are not blank.

    Raises:
        UsageError: no such file, or no text in it.
    """
    if not file.is_file():
        raise UsageError(f"{file}: no such file; expected a CSV file with a column ref, or one text a line")
    found = refs(file) if file.suffix == ".csv" else [line for line in lines_of(file) if line.strip()]
    if not found:
        raise UsageError(f"{file}: holds no text; expected one a line")
    return found


def score_texts(
    texts: Sequence[str], human: Sequence[str] = (), train: Sequence[str] = (), teacher: Teacher | None = None
) -> Findings:
    """Flaw rate and its parts, lm-score, diversity, and how well a classifier tells the texts from human ones.

    Args:
        texts: what is scored.
        human: what two-sample accuracy compares with.
        train: where copies are looked up.
        teacher: whose surprise counts; the bundled one by default.

    Returns:
        Figures with 95 % intervals over texts; `distinct_3` of 240 and `self_bleu` of a hundred texts, or of fewer if there
        are no more.
    """
    teacher = teacher or Teacher("e2e-teacher")
    nats = teacher.word_nll(texts)
    detector = FlawDetector(teacher)
    flaws = [detector.flaws(text, costs) for text, costs in zip(texts, nats, strict=True)]
    likelihood = [sum(costs) / len(costs) for costs in nats if costs]
    found: Findings = {
        "texts": len(texts),
        "flaw_rate": figure([float(any(each)) for each in flaws]),
        **{f"flaw_{part}": figure([float(getattr(each, part)) for each in flaws]) for part in PARTS},
        "lm_score": figure(likelihood) if likelihood else None,
        "too_long_for_teacher": sum(math.isinf(max(costs, default=math.inf)) for costs in nats),
        "distinct_3": round(distinct(evenly_spaced(texts, min(len(texts), DISTINCT)), 3), 4),
        "self_bleu": round(self_bleu(evenly_spaced(texts, min(len(texts), SELF_BLEU))), 4),
    }
    if train:
        found["copied_from_train"] = round(copied(texts, train), 4)
    return found | (two_sample(texts, human) if human else {})
