"""The bundled masked model: it loads by name, brings its guide, and obeys what it is asked."""

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
from dlm_control.controllers.semantic import Semantic
from dlm_control.controllers.span import Span
from dlm_control.controllers.tree import SyntaxTree


@cache
def masked() -> LanguageModel:
    return load("e2e-masked")


def test_it_is_of_its_kind_and_has_a_guide_of_its_own() -> None:
    backbone = masked().backbone
    assert backbone.kind == "masked" and len(backbone.tokenizer) == len(load("e2e").backbone.tokenizer) + 1
    guide = find_guide("structure", backbone)
    assert guide is not None and guide.name == "e2e-masked-structure"


@pytest.mark.parametrize(
    "controls",
    [
        [Length(11), Keyword("riverside")],
        [Infill("The [1-3] is a [*] near the [1-3] .")],
        [Semantic("food", "Italian"), Length(14)],
        [PartsOfSpeech("DET PROPN AUX DET ADJ NOUN ADP DET NOUN PUNCT")],
        [Span([0, 1, "NP"]), Length(12)],
        [SyntaxTree("(S (NP ? ?) (VP ? (NP (NP ? ? ?) (PP ? (NP ? ?)))) ?)")],
    ],
    ids=lambda controls: " + ".join(type(control).__name__ for control in controls),
)
def test_it_obeys(controls: list[Controller]) -> None:
    samples = masked().generate(controls, 2, seed=1)
    assert fmean(check.score for sample in samples for check in sample.checks.values()) > 0.9
