"""How firmly each control is held: as the docs say, and as weights, presets and kinds of models change it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dlm_control import Check, Control, Controller, LanguageModel
from dlm_control.control.registry import CONTROLLERS
from dlm_control.controllers.guides.sentence_encoder import ENCODER
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.pattern import Pattern
from dlm_control.tasks.preflight import firmness_of
from dlm_control.tasks.spec import Spec

PAGE = Path(__file__).parents[1] / "docs" / "controls.md"
TABLE = dict(re.findall(r"^\| `(.+?)` \| (\w+(?: only)?) \|$", PAGE.read_text(encoding="utf-8"), re.M))


class Short(Controller):
    """Has no plan and no energy."""

    def check(self, text: str) -> Check:
        return Check(float(len(text) < 40), f"{len(text)} letters")


def held(lm: LanguageModel, *controls: object, **preset: Any) -> list[str]:
    return [*firmness_of(Spec.from_mapping({"controls": list(controls), "preset": preset}), lm).values()]


@pytest.mark.parametrize("control", TABLE)
def test_the_docs_say_how_firmly_each_control_is_held(e2e: LanguageModel, control: str) -> None:
    if control.startswith("topic"):
        pytest.importorskip(ENCODER)
    assert held(e2e, yaml.safe_load(control)) == [TABLE[control]]


def test_the_docs_name_every_built_in_control() -> None:
    built_in = {name for name, entry in CONTROLLERS.entries().items() if entry.origin == "dlm-control"}
    elsewhere = {"reward", "json"}  # which need a file of functions, and a model of tokens
    assert {control.partition(":")[0] for control in TABLE} == built_in - elsewhere


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        ({}, ["exact", "conditioned"]),
        ({"weight": 0}, ["checked only"] * 2),
        ({"weight": 0.5}, ["exact", "steered"]),
        ({"schedule": "rising"}, ["exact", "steered"]),
        ({"interval": [0.2, 1.0]}, ["exact", "steered"]),
        ({"interval": [0.0, 0.5]}, ["exact", "conditioned"]),
    ],
)
def test_weight_schedule_and_interval_count(tiny_lm: LanguageModel, use: dict[str, Any], expected: list[str]) -> None:
    assert held(tiny_lm, {"length": {"words": 9, **use}}, {"keyword": {"words": "pub", **use}}) == expected


@pytest.mark.parametrize(
    "preset", [{"weight": 0.5}, {"scale": "rms"}, {"conflict": "project"}, {"lagrangian": 0.1}, {"name": "paper"}]
)
def test_a_preset_whose_pushes_are_no_bayes_rule_only_steers(tiny_lm: LanguageModel, preset: dict[str, Any]) -> None:
    assert held(tiny_lm, {"length": 9}, {"keyword": "pub"}, **preset) == ["exact", "steered"]


def test_every_text_says_it_whatever_the_kind_of_model(tiny_lm: LanguageModel, masked_lm: LanguageModel) -> None:
    controls: list[Controller | Control] = [
        Length(9),
        Pattern("* pub *"),
        Short(),
        Control("river", Keyword("river"), weight=0),
    ]
    expected = {"length": "exact", "pattern": "conditioned", "short": "checked only", "river": "checked only"}
    for lm in (tiny_lm, masked_lm):
        [sample] = lm.generate(controls, steps=2)
        assert sample.firmness == expected
