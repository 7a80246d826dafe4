"""The bundled model of everyday English: it loads by name, brings its guide, and obeys what it is asked."""

from __future__ import annotations

from functools import cache
from statistics import fmean

import pytest

from dlm_control import Controller, LanguageModel, load
from dlm_control.controllers.guides.lookup import find_guide
from dlm_control.controllers.infill import Infill
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.controllers.span import Span
from dlm_control.controllers.tree import SyntaxTree


@cache
def everyday() -> LanguageModel:
    return load("everyday")


def test_it_has_a_guide_of_its_own() -> None:
    guide = find_guide("structure", everyday().backbone)
    assert guide is not None and guide.name == "everyday-structure"


@pytest.mark.parametrize(
    "controls",
    [
        [Length(10), Keyword("dog"), Span([0, 1, "NP"])],
        [Infill("The [1-3] is in the [*] .")],
        [PartsOfSpeech("DET NOUN VERB ADP DET NOUN PUNCT")],
        [SyntaxTree("(S (NP ? ?) (VP ? (NP ? ?) (PP ? (NP ? ?))) ?)")],
    ],
    ids=lambda controls: " + ".join(type(control).__name__ for control in controls),
)
def test_it_obeys(controls: list[Controller]) -> None:
    samples = everyday().generate(controls, 2, seed=1, preset="fast")
    assert fmean(check.score for sample in samples for check in sample.checks.values()) > 0.9
