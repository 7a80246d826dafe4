"""Several controls at once: one scale for all, conflicts, multipliers, schedules, early stop, failures, traces."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dlm_control import Check, Control, Controller, LanguageModel, Plan, State, UsageError
from dlm_control.control.columns import Columns, covariance
from dlm_control.control.use import SCHEDULES
from dlm_control.controllers.length import Length
from dlm_control.diffusion.backbone import Latents, Process
from dlm_control.sampling.guidance import Group, TiltGuidance, state_of, tilt, unit_rms, without_conflict
from dlm_control.sampling.layout import Layouts
from dlm_control.sampling.trace import Trace
from dlm_control.tasks.explain import draw, rows, sentence, thinned, warnings


class Toy(Controller):
    """An energy and a check of the test's own."""

    def __init__(
        self, function: Callable[[State], Tensor], reads: str = "log_probs", check: Callable[[str], float] = lambda text: 1.0
    ) -> None:
        self._function, self._check = function, check
        self.reads = reads  # type: ignore[assignment]

    def energy(self, state: State) -> Tensor:
        return self._function(state)

    def check(self, text: str) -> Check:
        return Check(self._check(text), "a toy's opinion")


def wants(position: int, word: int, reads: str = "log_probs") -> Toy:
    return Toy(lambda state: -state.log_probs[:, position, word], reads)


def pull(way: float) -> Toy:
    """A control that drags all words one way."""
    return Toy(lambda state: 5 + way * state.x0[:, :4].sum((1, 2)), "x0")


def stretched(factor: float) -> Toy:
    """A control of x0 whose energy is as steep as one likes."""
    return Toy(lambda state: factor * state.x0[:, :4].square().sum((1, 2)), "x0")


@pytest.fixture
def at(tiny_lm: LanguageModel) -> tuple[Process, Latents]:
    """A process, and noise for three items of six words."""
    plans, lm = [("length", Plan(min_words=6, max_words=6))], tiny_lm.backbone
    layouts = Layouts(plans, lm.tokenizer, lm.length_counts, lm.max_seq_len)
    drawn = [layouts.draw(torch.Generator().manual_seed(0)) for _ in range(3)]
    shape = (3, drawn[0].seq_len, lm.embeddings.shape[1])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    allowed, length = torch.stack([one.allowed for one in drawn]), torch.tensor([one.words for one in drawn])
    return lm.process(1), Latents(noise, allowed, length)


def steering(lm: LanguageModel, process: Process, toy: Control, **how: Any) -> TiltGuidance:
    return TiltGuidance(lm.backbone, process, [Group([toy.bind(lm.backbone)], range(3))], **how)


# --- one scale ----------------------------------------------------------------------------------------------------------------


def test_unit_rms_makes_every_control_push_equally_hard(at: tuple[Process, Latents], tiny_lm: LanguageModel) -> None:
    process, noise = at
    state = state_of(tiny_lm.backbone, process.predict(noise, 0.5), noise, 0.5)
    probs = state.log_probs.exp()
    for toy in (wants(0, 7), wants(3, 9), stretched(0.1), stretched(1e3)):
        push = unit_rms(tilt(Control("toy", toy).bind(tiny_lm.backbone), state)[0], probs, state.length)
        rms = (covariance(push, push, probs) / state.length).sqrt()
        torch.testing.assert_close(rms, torch.ones(3), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scale", ["nats", "rms"])
def test_doubling_a_weight_doubles_the_push_of_any_control(
    at: tuple[Process, Latents], tiny_lm: LanguageModel, scale: str
) -> None:
    process, noise = at

    def push(toy: Toy, weight: float) -> Tensor:
        plain = process.predict(noise, 0.5).log_probs
        guided = steering(tiny_lm, process, Control("toy", toy, weight), scale=scale).predict(noise, 0.5)[0].log_probs
        log_ratio = (guided - plain)[:, :6]
        allowed = noise.allowed[:, :6] & (guided[:, :6] > -49) & (plain[:, :6] > -49)
        probs = plain[:, :6].exp() * allowed
        return torch.where(allowed, log_ratio - (probs * log_ratio.masked_fill(~allowed, 0)).sum(-1, keepdim=True), 0.0)

    for toy in (stretched(0.05), stretched(0.5)) if scale == "nats" else (stretched(0.5), stretched(500)):
        torch.testing.assert_close(push(toy, 2.0), 2 * push(toy, 1.0), atol=2e-3, rtol=2e-3)


# --- conflicts ----------------------------------------------------------------------------------------------------------------


def test_projection_takes_away_only_what_pulls_against_the_other() -> None:
    generator = torch.Generator().manual_seed(0)
    probs = torch.randn(4, 5, 6, generator=generator).softmax(-1)
    a, b = torch.randn(2, 4, 5, 6, generator=generator)
    pushed, opposed, agreeing = Columns(a), Columns(b - 2 * a), Columns(b + 9 * a)
    first, second = without_conflict([pushed, opposed], probs)
    assert (covariance(pushed, opposed, probs) < 0).all()
    torch.testing.assert_close(covariance(first, opposed, probs), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(covariance(second, pushed, probs), torch.zeros(4), atol=1e-4, rtol=0)
    kept = without_conflict([pushed, agreeing], probs)
    torch.testing.assert_close(kept[0].values, pushed.values)
    torch.testing.assert_close(kept[1].values, agreeing.values)


# --- multipliers and schedules ------------------------------------------------------------------------------------------------


def test_a_multiplier_rises_until_its_control_is_satisfied_and_then_stops_pushing(
    at: tuple[Process, Latents], tiny_lm: LanguageModel
) -> None:
    process, noise = at
    energy = [3.0, 3.0, 0.01]

    def function(state: State) -> Tensor:
        [value] = energy[:1]
        soft = -(0.5 + 0.5 * state.log_probs[:, 0, 5].exp()).log()  # says something, but not everything
        return soft - soft.detach() + value

    guidance, latents = steering(tiny_lm, process, Control("toy", Toy(function)), lagrangian=0.5), noise
    guided = []
    while energy:
        said, latents = guidance.predict(latents, 0.5)
        guided.append(said.log_probs)
        energy.pop(0)
    assert latents.memory["multiplier of toy"].tolist() == pytest.approx([1 + 0.5 * 6.01] * 3)
    assert not noise.memory  # what is remembered lies in what was handed back alone
    plain = process.predict(noise, 0.5).log_probs
    pushed = [float((log_probs - plain)[0, 0, 5]) for log_probs in guided]
    assert len(pushed) == 3
    assert pushed[1] > pushed[0] > 0.01
    assert pushed[2] == pytest.approx(0, abs=1e-5)


def test_schedules_keep_the_mean_weight_and_say_where_it_goes() -> None:
    for name, factor in SCHEDULES.items():
        levels = [(i + 0.5) / 100 for i in range(100)]
        assert sum(map(factor, levels)) / 100 == pytest.approx(1), name
    toy = wants(0, 7)
    assert Control("toy", toy, 3.0, schedule="rising").weight_at(1.0) == 0
    assert Control("toy", toy, 3.0, schedule="falling").weight_at(1.0) == 6
    with pytest.raises(UsageError, match=r"schedule: unknown 'risign', did you mean 'rising'"):
        Control("toy", toy, schedule="risign")


@pytest.mark.parametrize(
    ("changes", "raised"),
    [
        ({"scale": "rsm"}, "scale: unknown 'rsm', did you mean 'rms'"),
        ({"conflict": "fight"}, "conflict: unknown 'fight'; there are: sum, project"),
        ({"lagrangian": -1}, "lagrangian: expected a number of 0"),
        ({"early_stop": 1}, "early_stop: expected true or false, got 1"),
        ({"early_stop": True, "particles": 4}, "early_stop: particles are resampled together"),
        ({"guidance": "paper", "sampler": "ddim-eta1", "scale": "rms"}, "scale: the 2022 update has no scale"),
    ],
)
def test_presets_that_cannot_be(tiny_lm: LanguageModel, changes: dict[str, object], raised: str) -> None:
    with pytest.raises(UsageError, match=raised):
        tiny_lm.generate([], **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"scale": "rms"}, {"conflict": "project"}, {"lagrangian": 0.05}])
def test_every_way_of_composing_reaches_both_targets(tiny_lm: LanguageModel, changes: dict[str, object]) -> None:
    cheap, pub = tiny_lm.backbone.ids("cheap pub", "test")
    controls: list[Controller | Control] = [
        Control("first", wants(0, cheap), 3.0),
        Control("second", wants(4, pub), 3.0),
        Length(6),
    ]
    for sample in tiny_lm.generate(controls, 4, steps=12, **changes):  # type: ignore[arg-type]
        assert (sample.words[0], sample.words[4]) == ("cheap", "pub")


# --- stopping early, and failing ----------------------------------------------------------------------------------------------


def test_an_item_stops_when_its_words_stay_and_its_checks_hold(tiny_lm: LanguageModel) -> None:
    never = Toy(lambda state: state.log_probs[:, 0, 3] * 0, check=lambda text: 0.0)
    steps = 60
    free = tiny_lm.generate([Length(6)], 4, steps=steps, early_stop=True, preset="single", temperature=0.2)
    assert all(sample.passed and steps / 2 < sample.calls < steps for sample in free)
    assert [s.calls for s in tiny_lm.generate([Length(6), never], 4, steps=steps, early_stop=True, preset="single")] == [
        steps
    ] * 4
    alone = tiny_lm.generate([Length(6)], indices=[3], steps=steps, early_stop=True, preset="single", temperature=0.2)
    assert alone[0] == free[3]


class Moody(Controller):
    """Fails for texts of some lengths."""

    reads = "log_probs"

    def energy(self, state: State) -> Tensor:
        if (state.length == 7).any():
            raise RuntimeError("seven is too many")
        return -state.log_probs[:, 0].logsumexp(-1)

    def check(self, text: str) -> Check:
        return Check(1.0, "")


def test_a_failing_control_costs_one_item_and_no_other(tiny_lm: LanguageModel) -> None:
    controls: list[Controller | Control] = [Moody(), Length(at_least=6, at_most=8)]
    with pytest.raises(UsageError, match=r"control moody: Moody\(\)\.energy raised RuntimeError: seven is too many \(at t ="):
        tiny_lm.generate(controls, 12, preset="single", steps=3)
    trace = Trace()
    samples = tiny_lm.generate(controls, 12, preset="single", steps=3, on_error="skip", callback_on_step=trace)
    assert len(list(trace.effects())) == 3 * sum(sample.error is None for sample in samples)
    failed = [sample for sample in samples if sample.error is not None]
    assert [sample.index for sample in samples] == list(range(12))
    assert 0 < len(failed) < 12
    assert all("seven is too many" in str(sample.error) and not sample.passed and not sample.text for sample in failed)
    assert {len(sample.words) for sample in samples if sample.error is None} == {6, 8}
    good = next(sample for sample in samples if sample.error is None)
    assert tiny_lm.generate(controls, indices=[good.index], preset="single", steps=3)[0] == good
    with pytest.raises(UsageError, match="on_error: unknown 'ignore'; there are: raise, skip"):
        tiny_lm.generate(controls, on_error="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("check", "raised"),
    [
        (lambda text: float("many"), "check raised ValueError"),
        (lambda text: 7.0, "check scored 7.0"),
    ],
)
def test_a_failing_check_is_named(tiny_lm: LanguageModel, check: Callable[[str], float], raised: str) -> None:
    toy = Toy(lambda state: state.log_probs[:, 0, 3] * 0, check=check)
    with pytest.raises(UsageError, match=rf"control toy: Toy\(\)\.{raised}"):
        tiny_lm.generate([toy], steps=2)


# --- traces -------------------------------------------------------------------------------------------------------------------


def test_a_trace_tells_energies_shares_changes_and_cosines(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    named = [Control("one", pull(1)), Control("same", pull(1)), Control("other", pull(-1))]
    controls: list[Controller | Control] = [*named, Length(6)]
    trace = Trace()
    samples = tiny_lm.generate(controls, 5, preset="single", steps=9, callback_on_step=trace)
    effects = list(trace.effects())
    assert len(effects) == 3 * 5 * 9
    assert {index for _, index, _, _ in effects} == set(range(5))
    for t in {t for t, _, _, _ in effects}:
        for index in range(5):
            assert sum(effect.share for level, i, _, effect in effects if (level, i) == (t, index)) == pytest.approx(1)
    _, _, control, first = effects[0]
    assert control == "one"
    assert first.cosines == pytest.approx({"same": 1, "other": -1}, abs=1e-3)
    assert any(effect.changed for _, _, _, effect in effects)
    table = rows(trace)
    assert len(table) == 3 * 9 and [row.t for row in table[:9]] == sorted((row.t for row in table[:9]), reverse=True)
    energies = [effect.energy for t, _, control, effect in effects if (t, control) == (table[0].t, "one")]
    assert table[0].energy == pytest.approx(sum(energies) / 5)
    assert len(thinned(table)) == 3 * 8
    said = sentence(named, trace, samples)
    assert "pulled apart most" in said and "of 5 texts obey all controls." in said
    draw(trace, tmp_path / "trace.png", "a test")
    assert (tmp_path / "trace.png").read_bytes()[:4] == b"\x89PNG"


def test_the_losing_control_is_named(tiny_lm: LanguageModel) -> None:
    lost = Toy(lambda state: 20 - state.log_probs[:, 0, 3] * 1e-3)
    controls = [Control("lost", lost), Control("fine", wants(0, 3)), Control("length", Length(6))]
    trace = Trace()
    samples = tiny_lm.generate(controls, 3, preset="single", steps=4, callback_on_step=trace)
    [warning] = warnings(controls, trace, samples)
    assert warning.startswith("lost loses in 3 of 3 texts: its guide saw it at p = 2e-09")
    free = sentence([controls[2]], Trace(), samples)
    assert free.startswith("No control steered")
    assert math.isnan(rows(trace)[0].cosine) is False
