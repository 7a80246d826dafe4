"""What a run tells of each step: drafts, effects of controls, who holds a word; and how it is stopped."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from dlm_control import Check, Control, Controller, LanguageModel, State, Step, Trace, UsageError
from dlm_control.controllers import Infill, Keyword, Length

CONTROLS = [Keyword("pub"), Length(at_least=5, at_most=9)]


class Opening(Controller):
    """The text opens with a word, once the noise is low enough for it to be asked for."""

    reads = "log_probs"

    def __init__(self, word: str) -> None:
        self.word = word

    def energy(self, state: State) -> torch.Tensor:
        return -state.log_probs[:, 0, state.lm.ids(self.word, "opening")[0]]

    def check(self, text: str) -> Check:
        return Check(float(text.startswith(self.word)), "")


@pytest.fixture(params=["tiny_lm", "masked_lm"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    found: LanguageModel = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {"candidates": 2},
        {"candidates": 1, "particles": 3, "resample_below": 1.0},
        {"candidates": 2, "early_stop": True},
        {"candidates": 1, "scale": "rms", "conflict": "project"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_the_drafts_of_a_run_end_with_its_texts(lm: LanguageModel, changes: dict[str, Any]) -> None:
    trace, steps = Trace(), list[Step]()
    settings: dict[str, Any] = {"num_samples": 5, "seed": 2, "steps": 6, **changes}
    samples = lm.generate(CONTROLS, callback_on_step=trace, **settings)
    assert samples == lm.generate(CONTROLS, **settings)  # nothing changes because somebody watches
    stream = lm.stream(CONTROLS, **settings)
    steps += stream
    assert stream.samples == samples and stream.samples == samples
    copies = changes["candidates"] * changes.get("particles", 1)
    assert {(draft.index, draft.candidate) for step in steps for draft in step.drafts} == set(trace.drafts)
    assert len(trace.drafts) == 5 * copies and sum(step.done for step in steps) == 5 * copies * 6
    for sample in samples:
        finals = [list(drafts.values())[-1] for (index, _), drafts in trace.drafts.items() if index == sample.index]
        assert (sample.text, sample.words) in [(draft.text, draft.words) for draft in finals]
    for step in steps:
        assert 1 <= step.number <= step.total == 6
        for draft in step.drafts:
            assert trace.drafts[draft.index, draft.candidate][step.t] == draft
            assert len(draft.words) == len(draft.probs) and all(0 <= p <= 1.001 for p in draft.probs)
            assert draft.effects.keys() <= {"keyword"}


def test_a_control_holds_the_word_that_it_put_there(lm: LanguageModel) -> None:
    controls: list[Controller | Control] = [Infill("The [2] food [1-3] ."), Control("opener", Opening("The"), weight=3.0)]
    free: list[Controller | Control] = [Control("first", Opening("Golden"), weight=4.0), Length(4)]
    for step in lm.stream(controls, 2, steps=4, candidates=1):
        for draft in step.drafts:
            assert draft.held == {0: "infill", 3: "infill", len(draft.words) - 1: "infill"}
    last = list(lm.stream(free, 1, steps=4, candidates=1))[-1].drafts[0]
    assert last.words[0] == "Golden" and last.held == {0: "first"}


def test_an_effect_is_what_bayes_rule_says(masked_lm: LanguageModel) -> None:
    """Over masks the first prediction knows nothing: p(first word is pub) is the energy, and its push makes pub certain."""
    first = next(masked_lm.stream([Control("opens", Opening("pub")), Length(6)], steps=6, candidates=1))
    [draft] = first.drafts
    effect = draft.effects["opens"]
    plain = next(masked_lm.stream([Control("opens", Opening("pub"), weight=1e-9), Length(6)], steps=6, candidates=1)).drafts[0]
    assert effect.energy == pytest.approx(plain.effects["opens"].energy)
    assert effect.energy == pytest.approx(math.log(len(masked_lm.backbone.tokenizer)), abs=0.6)  # nearly uniform
    assert effect.changed == {0: "pub"} and not plain.effects["opens"].changed and not plain.held
    assert draft.probs[0] == pytest.approx(1, abs=1e-3) and draft.held == {0: "opens"}
    assert effect.share == pytest.approx(1)


def test_the_update_of_2022_has_drafts_without_effects(tiny_lm: LanguageModel) -> None:
    trace = Trace()
    [sample] = tiny_lm.generate([Keyword("pub"), Length(6)], preset="paper", steps=4, callback_on_step=trace)
    drafts = list(trace.drafts[0, 0].values())
    assert len(drafts) == 4 and drafts[-1].text == sample.text and not list(trace.effects())


def test_a_callback_stops_the_run(lm: LanguageModel) -> None:
    seen: list[Step] = []

    def stop_in_the_second_batch(step: Step) -> bool:
        seen.append(step)
        return len(seen) == 7

    settings: dict[str, Any] = {"num_samples": 10, "steps": 5, "candidates": 1}
    whole = lm.generate([Length(6)], **settings)
    samples = lm.generate([Length(6)], callback_on_step=stop_in_the_second_batch, **settings)
    assert len(seen) == 7 and samples[:4] == whole[:4]
    assert [sample.index for sample in samples] == list(range(10))
    assert all(sample.error == "stopped after step 2 of 5" and not sample.text and not sample.passed for sample in samples[4:])
    at_the_end = lm.generate([Length(6)], callback_on_step=lambda step: step.number == 5, **settings)
    assert at_the_end[:4] == whole[:4] and all(sample.error for sample in at_the_end[4:])


def test_a_text_with_one_finished_candidate_is_finished(lm: LanguageModel) -> None:
    numbers: list[int] = []

    def stop_at_the_fourth(step: Step) -> bool:
        numbers.append(step.number)
        return len(numbers) == 4

    settings: dict[str, Any] = {"steps": 3, "candidates": 2, "select": "energies", "batch_size": 1, "seed": 4}
    [sample] = lm.generate([Length(6)], callback_on_step=stop_at_the_fourth, **settings)
    assert numbers == [1, 2, 3, 1] and sample.error is None and sample.calls == 3


def test_a_stream_can_be_stopped_and_runs_on_for_its_texts(tiny_lm: LanguageModel) -> None:
    stream = tiny_lm.stream([Length(6)], 1, steps=5, candidates=1)
    assert [next(stream).number, next(stream).number] == [1, 2]
    assert stream.samples == tiny_lm.generate([Length(6)], 1, steps=5, candidates=1)
    assert list(stream) == []
    stopped = tiny_lm.stream([Length(6)], 1, steps=5, candidates=1)
    next(stopped)
    stopped.stop()
    assert stopped.samples[0].error == "stopped after step 1 of 5"


def test_what_a_callback_may_not_do(tiny_lm: LanguageModel) -> None:
    with pytest.raises(UsageError, match=r"callback_on_step returned 'stop', expected True \(stop\), or False or None"):
        tiny_lm.generate([Length(6)], steps=3, callback_on_step=lambda step: "stop", on_error="skip")  # type: ignore[arg-type, return-value]
    with pytest.raises(ZeroDivisionError):
        tiny_lm.generate([Length(6)], steps=3, callback_on_step=lambda step: 1 / 0 > 0, on_error="skip")
    with pytest.raises(UsageError, match="steps: expected a whole number above 0, got 0"):
        tiny_lm.stream(steps=0)
    broken = tiny_lm.stream([Opening("zebra")], steps=2)
    with pytest.raises(UsageError, match="the word 'zebra' is not among"):
        list(broken)
    with pytest.raises(UsageError, match="the run has failed, and has no texts"):
        _ = broken.samples
