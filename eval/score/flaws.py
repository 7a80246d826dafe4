"""Flaws that a reader sees at once, which a mean such as lm-score hides: hard words, repeats and contradictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from dlm_control.controllers.fields.domain import Domain
from dlm_control.controllers.fields.lookup import FILE as FIELDS
from dlm_control.controllers.fields.lookup import domain_in
from dlm_control.eval.score.slots import contradictions
from dlm_control.eval.score.teacher import Teacher
from dlm_control.support.errors import UsageError
from dlm_control.support.hub import file_digest
from dlm_control.support.records import Record, read_record
from dlm_control.text.words import split_words

PERCENTILE = 95  # of the human texts' worst words: one human text in twenty has a hard word
FILE = "flaws.json"  # beside the teacher's weights
PARTS = ("hard", "repeat", "contradiction")


class Flaws(NamedTuple):
    """What is wrong with one text.

    Attributes:
        hard: some word, or the end, costs more nats under the teacher than the threshold.
        repeat: a word or a pair of words occurs twice in a row.
        contradiction: the text gives two values of one field.
    """

    hard: bool
    repeat: bool
    contradiction: bool


@dataclass(frozen=True)
class Threshold(Record):
    """`flaws.json`: from how many nats on a word is hard.

    Attributes:
        hard_nats: what a word may cost under the teacher.
        percentile: of the training texts' worst words that is the threshold.
        of: what it is a percentile of, in words.
        texts: how many training texts.
        corpus, corpus_digest: name and hash of their file.
        fields: texts of the corpus give values of the domain's fields, which can contradict each other.
        weights: digest of the teacher's.
    """

    hard_nats: float
    percentile: float
    of: str
    texts: int
    corpus: str
    corpus_digest: str
    fields: bool
    weights: str


class FlawDetector:
    """Finds flaws of texts.

    Args:
        teacher: whose surprise at a word counts; its folder holds the threshold, as `dlm calibrate` wrote it.

    Attributes:
        threshold: nats that a word may cost.
        domain: of the corpus, if it has fields: contradictions are counted then, too.

    Raises:
        UsageError: the teacher has no threshold, or one of other weights; or it says fields, and they are nowhere to find.
    """

    def __init__(self, teacher: Teacher) -> None:
        file = teacher.folder / FILE
        remedy = f"`dlm calibrate CSV --teacher {teacher.source}` writes it from the training texts"
        if not file.is_file():
            raise UsageError(f"{file}: no such file, which says how many nats a hard word costs; {remedy}")
        known = read_record(Threshold, file)
        if known.weights != teacher.digest:
            raise UsageError(f"{file}: is of weights {known.weights}, the teacher's are {teacher.digest}; {remedy}")
        self.threshold, self.domain = known.hard_nats, domain_of_teacher(teacher) if known.fields else None

    def flaws(self, text: str, nats: Sequence[float]) -> Flaws:
        """The flaws of a text.

        Args:
            text: as people write it.
            nats: of its words and its end, as `Teacher.word_nll` gives them; none where it is too long for the teacher, which
                counts as hard.
        """
        hard = max(nats, default=math.inf) > self.threshold
        return Flaws(hard, repeats(text), self.domain is not None and bool(contradictions(self.domain, text)))


def domain_of_teacher(teacher: Teacher) -> Domain:
    """The domain of a teacher: that of its folder, or of the model's folder that it lies in.

    Raises:
        UsageError: there is none.
    """
    found = domain_in(teacher.folder) or domain_in(teacher.folder.parent)
    if found is None:
        raise UsageError(
            f"{teacher.folder}: the teacher's texts are to have fields, and there is no {FIELDS} in its folder or the model's"
        )
    return found


def repeats(text: str) -> bool:
    """Does a word or a pair of words occur twice in a row, in any case? Punctuation such as "..." may be repeated."""
    words = [word.lower() for word in split_words(text)]
    once = any(a == b and a.isalnum() for a, b in zip(words, words[1:], strict=False))
    pairs = zip(words, words[1:], words[2:], words[3:], strict=False)
    return once or any((a, b) == (c, d) and (a.isalnum() or b.isalnum()) for a, b, c, d in pairs)


def rates(found: Sequence[Flaws]) -> dict[str, float]:
    """Share of texts with any flaw (`flaw_rate`), and with each part (`flaw_hard` and so on)."""
    parts = {f"flaw_{part}": fmean(getattr(flaws, part) for flaws in found) for part in PARTS}
    return {"flaw_rate": fmean(any(flaws) for flaws in found), **parts}


def calibrate(teacher: Teacher, texts: Sequence[str], corpus: Path, fields: bool) -> Threshold:
    """The threshold of hard words from human training texts.

    Args:
        teacher: whose surprise counts.
        texts: of the corpus that it was trained on.
        corpus: their file, for the record.
        fields: texts of this corpus give values of the fields of the teacher's domain.

    Raises:
        UsageError: fields are wanted, and the teacher's domain is nowhere to find.
    """
    import numpy as np

    if fields:
        domain_of_teacher(teacher)
    worst = [max(nats) for nats in teacher.word_nll(texts) if nats]
    return Threshold(
        hard_nats=round(float(np.percentile(worst, PERCENTILE)), 4), percentile=PERCENTILE,
        of="the most surprising word, END included, of each human training text, in nats", texts=len(worst),
        corpus=corpus.name, corpus_digest=file_digest(corpus), fields=fields, weights=teacher.digest,
    )  # fmt: skip
