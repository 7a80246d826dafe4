"""Can a classifier tell texts from human ones? 50 % is indistinguishable (Lopez-Paz & Oquab 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from dlm_control.controllers.guides.sentence_encoder import ENCODER, PIP_ENCODER, sentence_features
from dlm_control.eval.records import Findings
from dlm_control.eval.score.metrics import evenly_spaced
from dlm_control.eval.score.statistics import figure
from dlm_control.text.words import split_words

FEWEST, MOST = 200, 1000  # texts a side: with fewer the figure is noise, with more it is slow
FOLDS = 5
PIP = "pip install 'dlm-control[quality]'"


def two_sample(texts: Sequence[str], human: Sequence[str], seed: int = 0) -> Findings:
    """Accuracy of a logistic regression that tells texts from human ones of the same lengths, on texts that it did not see.

    It sees narrowness before it sees broken grammar: read it beside the flaw rate.

    Args:
        texts: at least 200; at most a thousand of them are read.
        human: to compare with.
        seed: of the folds.

    Returns:
        `two_sample_accuracy` on word 1- to 3-grams and `two_sample_minilm` on MiniLM's sentence features, each a figure over
        texts or None where there are too few; under `two_sample_missing` what is not installed, with the command for it.
    """
    found: Findings = {"two_sample_accuracy": None, "two_sample_minilm": None}
    missing = {name: pip for name, pip in (("sklearn", PIP), (ENCODER, PIP_ENCODER)) if find_spec(name) is None}
    if missing:
        found["two_sample_missing"] = f"{', '.join(missing)}: {' && '.join(missing.values())}"
    ours, theirs = same_lengths(evenly_spaced(texts, min(len(texts), MOST)), human)
    if len(ours) < FEWEST or "sklearn" in missing:
        return found
    found["two_sample_accuracy"] = figure(_right(_grams([*ours, *theirs]), seed, 1.0))
    if not missing:
        found["two_sample_minilm"] = figure(_right(sentence_features([*ours, *theirs]), seed, 10.0))
    return found


def same_lengths(texts: Sequence[str], human: Sequence[str]) -> tuple[list[str], list[str]]:
    """Equally many texts and human texts of each length in words; the surplus of either side is left out.

    Human texts of one length are taken evenly from all over the list.
    """
    sides: list[dict[int, list[str]]] = [{}, {}]
    for side, found in zip((texts, human), sides, strict=True):
        for text in side:
            found.setdefault(len(split_words(text)), []).append(text)
    pairs: list[tuple[str, str]] = []
    for length in sorted(sides[0].keys() & sides[1].keys()):
        count = min(len(side[length]) for side in sides)
        pairs += zip(*(evenly_spaced(side[length], count) for side in sides), strict=True)
    return [a for a, _ in pairs], [b for _, b in pairs]


def _right(features: Any, seed: int, strength: float) -> list[float]:
    """For each text whether a classifier trained on the other folds knows its side; the first half are ours."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    sides = np.arange(features.shape[0]) < features.shape[0] // 2
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    guessed = cross_val_predict(LogisticRegression(C=strength, max_iter=1000), features, sides, cv=folds)
    return [float(right) for right in guessed == sides]


def _grams(texts: Sequence[str]) -> Any:
    """(texts, grams): which 1- to 3-grams of words, the text's edges included, stand in a text."""
    from sklearn.feature_extraction.text import CountVectorizer

    def edged(text: str) -> list[str]:
        return ["<", *split_words(text.lower()), ">"]

    counted = CountVectorizer(analyzer=lambda text: _up_to_3(edged(text)), binary=True, min_df=2)
    return counted.fit_transform(texts)


def _up_to_3(words: Sequence[str]) -> list[str]:
    return [" ".join(words[i : i + n]) for n in (1, 2, 3) for i in range(len(words) - n + 1)]
