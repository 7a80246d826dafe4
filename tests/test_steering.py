"""Tags, spans and trees steer the bundled model: texts obey them far more often than texts of the same length without."""

from __future__ import annotations

from statistics import fmean

import pytest

from dlm_control import Control, Controller, LanguageModel, load
from dlm_control.controllers.length import Length
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.controllers.span import Span
from dlm_control.controllers.tree import SyntaxTree

TEXTS = 4
WORDS = 10
STRUCTURES: dict[str, Controller] = {
    "tags": PartsOfSpeech("DET PROPN AUX DET ADJ NOUN ADP DET NOUN PUNCT"),
    "span": Span([[4, 8, "PP"], [5, 8, "NP"]]),
    "tree": SyntaxTree("(S (NP ? ?) (VP ? (NP (NP ? ? ?) (PP ? (NP ? ?)))) ?)"),
}


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return load("e2e")


@pytest.mark.parametrize("kind", STRUCTURES)
def test_a_structure_steers(kind: str, lm: LanguageModel) -> None:
    def obedience(weight: float) -> float:
        controls: list[Controller | Control] = [Length(WORDS), Control(kind, STRUCTURES[kind], weight)]
        samples = lm.generate(controls, TEXTS, seed=0, steps=8, candidates=1)
        assert all(len(sample.words) == WORDS for sample in samples)
        return fmean(sample.checks[kind].score for sample in samples)

    found = {weight: obedience(weight) for weight in (0.0, 1.0)}
    assert found[1.0] > found[0.0] + 0.3, found
