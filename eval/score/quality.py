"""Qualities of the texts of a run, whatever its controls: flaws, fluency, diversity, copies; each with that of human text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import fmean

from dlm_control.eval.records import Figure, Findings
from dlm_control.eval.score.flaws import FlawDetector, Flaws, rates, repeats
from dlm_control.eval.score.metrics import copied, distinct, evenly_spaced, length_distance, self_bleu
from dlm_control.eval.score.statistics import figure
from dlm_control.eval.score.teacher import Teacher
from dlm_control.eval.score.two_sample import MOST, two_sample

Corpora = tuple[list[str], list[str]]  # sentences of train, and a thousand of dev
_SELF_BLEU = 100  # texts that it compares


class Reader:
    """Reads texts as a reader would, word by word.

    Args:
        teacher: whose surprise at a word counts; without one no word is hard, and fluency is unknown.

    Raises:
        UsageError: as FlawDetector.
    """

    def __init__(self, teacher: Teacher | None) -> None:
        self.teacher = teacher
        self.detector = FlawDetector(teacher) if teacher else None

    def read(self, texts: Sequence[str]) -> tuple[list[float], list[Flaws]]:
        """The lm-score of each text, NaN where it is too long for the teacher, and its flaws."""
        if self.teacher is None or self.detector is None:
            return [math.nan] * len(texts), [Flaws(False, repeats(text), False) for text in texts]
        costs = self.teacher.word_nll(texts)
        flaws = [self.detector.flaws(text, nats) for text, nats in zip(texts, costs, strict=True)]
        return [fmean(nats) if nats else math.nan for nats in costs], flaws


def flaw_figures(by_target: Sequence[Sequence[Flaws]], label: str = "") -> dict[str, Figure]:
    """Flaw rate and its parts: means over the texts of a target, then over targets; one without texts has none."""
    of_targets = [rates(group) for group in by_target if group]
    return {f"{name}{label}": figure([each[name] for each in of_targets]) for name in of_targets[0]}


def qualities(texts: Sequence[str], references: Sequence[str], corpora: Corpora | None, reader: Reader) -> Findings:
    """Diversity, copies and lengths, and how well a classifier separates the texts from human text; each also for human text.

    Args:
        texts: of the run.
        references: human texts of its targets, if they have any: lm-score and flaws of human text are theirs, else dev's.
        corpora: human text to compare diversity, copies and lengths with; without it there is no comparison of these.
        reader: who reads the human texts.
    """
    sides = {"": list(texts)}
    found: Findings = {}
    human = references or (corpora[1] if corpora else [])
    if human:
        nats, flaws = reader.read(human)
        known = [score for score in nats if not math.isnan(score)]
        found |= {"lm_score_human": figure(known)} if known else {}
        if reader.teacher:
            found |= flaw_figures([[each] for each in flaws], "_human")
    if corpora:
        sides["_human"] = corpora[1]
        # Against train: dev speaks of other restaurants, and a classifier tells it from train at 94 %.
        found |= two_sample(texts, corpora[0])
        if found["two_sample_accuracy"] is not None:
            ours, theirs = (tuple(evenly_spaced(corpora[0][side::2], min(MOST, len(corpora[0]) // 2))) for side in (0, 1))
            found |= {f"{name}_human": value for name, value in _two_sample(ours, theirs).items() if value is not None}
    size = min(map(len, sides.values()))  # of both: with more texts, more of their n-grams are known already
    for label, side in sides.items():
        for n in (1, 2, 3):
            found[f"distinct_{n}{label}"] = round(distinct(evenly_spaced(side, size), n), 4)
        found[f"self_bleu{label}"] = round(self_bleu(evenly_spaced(side, min(size, _SELF_BLEU))), 4)
        if corpora:
            found[f"copied_from_train{label}"] = round(copied(side, corpora[0]), 4)
            found[f"length_distance_to_train{label}"] = round(length_distance(side, corpora[0]), 3)
    return found


@cache
def _two_sample(texts: tuple[str, ...], human: tuple[str, ...]) -> Findings:
    return {name: value for name, value in two_sample(texts, human).items() if name != "two_sample_missing"}
