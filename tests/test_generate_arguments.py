"""What generate() refuses, and what its samples say."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from test_generate import FAST, Prefers, Words

from dlm_control import LanguageModel, Preset, UsageError
from dlm_control.sampling.presets import preset


def test_a_preset_reports_all_its_faults_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        preset("default", stepz=3, sampler="dddim", temperature=0, candidates=True, clamp="firm", resample_below=2.0)
    report = str(caught.value)
    for part in ("6 problems", "stepz: unknown key, did you mean 'steps'?", "sampler: unknown 'dddim', did you mean 'ddim'?",
                 "temperature: expected a number above 0, got 0", "candidates: expected a whole number above 0, got True",
                 "clamp: unknown 'firm'", "resample_below: expected a number from 0 to 1, got 2.0"):  # fmt: skip
        assert part in report
    with pytest.raises(UsageError, match=r"preset 'fats'.*\n.*did you mean 'fast'\?"):
        preset("fats")


@pytest.mark.parametrize("bad", [0, -1, 1.5, "3"])
def test_a_wrong_number_of_samples_is_refused(tiny_lm: LanguageModel, bad: object) -> None:
    with pytest.raises(UsageError, match=r"num_samples: expected a whole number above 0, got"):
        tiny_lm.generate(num_samples=cast(int, bad))


def test_samples_say_how_they_did(tiny_lm: LanguageModel) -> None:
    plain = tiny_lm.generate([Words(5, 5), Words(5, 9)], preset=FAST)[0]
    assert plain.checks.keys() == {"words#1", "words#2"} and plain.passed
    assert str(plain) == plain.text == tiny_lm.backbone.tokenizer.join(plain.words)
    failed = tiny_lm.generate([Prefers(("river",), None)], preset=Preset(steps=5, candidates=1))[0]
    assert not failed.passed and failed.checks["prefers"].score < 1


@pytest.mark.parametrize("changes", [{"candidates": 2}, {"candidates": 1}, {"candidates": 1, "particles": 2}])
def test_mbr_needs_three_texts(changes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="select: mbr takes the text most like the others and needs 3 or more"):
        preset("default", select="mbr", **changes)


@pytest.mark.parametrize(
    ("given", "raised"),
    [
        ({"controls": Words(6, 6)}, "generate: controls: expected a list, each Controller or Control, got Words"),
        ({"controls": [Words]}, r"controls\[0\]: expected Controller or Control, got <class .*make one: Words\(…\)"),
        ({"controls": ["pub"]}, r"controls\[0\]: expected Controller or Control, got 'pub'"),
        ({"seed": 3.0}, "seed: expected a whole number from 0 to .*, got 3.0"),
        ({"seed": "3"}, "seed: expected a whole number from 0 to .*, got '3'"),
        ({"indices": [0.5]}, r"indices\[0\]: expected a whole number of 0 or more, got 0.5"),
        ({"preset": 3}, "preset: expected Preset or a string, got 3"),
        ({"callback_on_step": True}, "callback_on_step: expected a function, got True"),
        ({"on_error": "stop"}, "on_error: unknown 'stop'; there are: raise, skip"),
        ({"stepz": 3}, "stepz: unknown key, did you mean 'steps'"),
    ],
)
def test_faulty_arguments_of_generate(tiny_lm: LanguageModel, given: dict[str, Any], raised: str) -> None:
    with pytest.raises(UsageError, match=raised):
        tiny_lm.generate(**given)


def test_numbers_of_numpy_are_as_good_as_python_s(tiny_lm: LanguageModel) -> None:
    plain = tiny_lm.generate([Words(6, 6)], 2, 3, "fast", [0, 4], steps=2)
    arrays = tiny_lm.generate([Words(6, 6)], np.int64(2), np.int32(3), "fast", np.array([0, 4]), steps=np.int64(2))  # type: ignore
    assert plain == arrays


@pytest.mark.parametrize("word", ["END", "PAD", "UNK"])
def test_the_model_s_own_signs_are_no_words(tiny_lm: LanguageModel, word: str) -> None:
    with pytest.raises(UsageError, match=f"'{word}' is a sign of the model's own"):
        tiny_lm.backbone.ids(f"pub {word}", "keyword")
