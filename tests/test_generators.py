"""What writes the texts is found by name, with settings that fit it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlm_control import UsageError
from dlm_control.eval.run.generator import Diffusion, chosen_preset, generator
from dlm_control.eval.run.settings import read_settings
from dlm_control.sampling.presets import preset
from dlm_control.tasks.suite import read_suite
from dlm_control.tasks.targets.target import NOISE_AWARE, WORDS

SMOKE = "smoke"


def test_generators_are_found_by_name_and_refuse_unknown_settings(tmp_path: Path) -> None:
    suite = read_suite(SMOKE)
    with pytest.raises(UsageError, match="unknown 'fugde', did you mean 'fudge'"):
        generator("fugde", suite, None, {})
    with pytest.raises(UsageError, match=r"(?s)--generator reject: .*steps: unknown key; it takes draws"):
        generator("reject", suite, str(tmp_path), {"steps": 3})
    for key in ("suite", "model", "group", "name"):
        with pytest.raises(UsageError, match=f"{key}: unknown key"):
            generator("reject", suite, str(tmp_path), {key: "x"})
    with pytest.raises(UsageError, match=r"(?s)model: unknown key.*preset: expected a string, got 3"):
        generator("diffusion", suite, None, {"model": "x", "preset": 3})
    for plain in ("unconditional", "experts"):
        with pytest.raises(UsageError, match="steps: unknown key"):
            generator(plain, suite, str(tmp_path), {"steps": 3})
    with pytest.raises(UsageError, match=r"no such model; baselines are not bundled: `dlm train configs/baselines/ar-lm\.yaml"):
        generator("unconditional", suite, str(tmp_path), {})


def test_the_2022_update_gets_noise_aware_guides_and_the_suites_strength() -> None:
    writer = Diffusion(read_suite("tree"), preset="paper")
    assert writer.guides == NOISE_AWARE and writer.preset.fluency_weight == 1.04
    assert writer.provenance()["guides"] == "noise-aware"
    assert Diffusion(read_suite("tree")).guides == WORDS


def test_settings_are_read_as_yaml() -> None:
    assert read_settings(["steps=20", "clamp=soft", "interval=[0.1, 1.0]"]) == {
        "steps": 20,
        "clamp": "soft",
        "interval": [0.1, 1.0],
    }
    with pytest.raises(UsageError) as error:
        read_settings(["steps", "a b=3", "x=["])
    assert all(part in str(error.value) for part in ("'steps'", "'a b=3'", "x: '['"))
    with pytest.raises(UsageError, match="steps: is given twice"):
        read_settings(["steps=5", "steps=3"])


def test_a_presets_file_changes_what_the_suite_makes_of_that_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: default\ntemperature: 0.5\n")
    suites = {"default": {"candidates": 1, "temperature": 1.5}, "paper": {"fluency_weight": 3.0}}
    assert chosen_preset(str(file), {"steps": 7}, suites) == preset("default", candidates=1, temperature=0.5, steps=7)
