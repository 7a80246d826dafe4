"""Whole texts: a seed for each item, every way of sampling, choosing among candidates."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import numpy as np
import pytest
import torch

from dlm_control import Check, Control, Controller, LanguageModel, Plan, Preset, Sample, State, UsageError
from dlm_control.diffusion.samplers import SAMPLERS, SPACINGS
from dlm_control.sampling.denoiser import CLAMPS
from dlm_control.sampling.guidance import GUIDANCES
from dlm_control.sampling.presets import PRESETS, preset
from dlm_control.sampling.selection import resampled, select

FAST = preset("fast", steps=5, select="checks")


class Words(Controller):
    """Between two numbers of words; by its plan alone."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def check(self, text: str) -> Check:
        return Check(1.0, "")

    def plan(self, lm: LanguageModel) -> Plan:
        return Plan(min_words=self.low, max_words=self.high)


class Prefers(Controller):
    """Some words rather than others, everywhere; what share of them a text holds is its score."""

    def __init__(self, words: tuple[str, ...], reads: str | None = "logits") -> None:
        self.words = words
        self.reads = reads  # type: ignore[assignment,misc]

    def energy(self, state: State) -> torch.Tensor:
        ids = [state.lm.ids(word, "prefers")[0] for word in self.words]
        if self.reads == "logits":
            return -state.log_probs[:, :, ids].logsumexp(-1).mean(-1)
        return (getattr(state, self.reads or "") - state.lm.embeddings[ids[0]]).square().mean((1, 2))

    def check(self, text: str) -> Check:
        words = text.split()
        return Check(sum(word in self.words for word in words) / max(1, len(words)), "")


def texts(samples: list[Sample]) -> list[tuple[int, str, float]]:
    return [(sample.index, sample.text, sample.log_prob) for sample in samples]


@pytest.mark.parametrize("name", ["ancestral", "ddim", "dpmpp-2m-sde"])
@pytest.mark.parametrize("controls", [[], [Words(3, 25)], [Prefers(("pub", "Fox"))]], ids=["free", "any length", "guided"])
def test_a_text_depends_on_its_own_seed_alone(tiny_lm: LanguageModel, name: str, controls: list[Controller]) -> None:
    """Alone, among 64 and in another order: the same words and, bit by bit, the same log-probability."""
    changes = {"preset": FAST, "sampler": name, "seed": 7}
    batch = tiny_lm.generate(controls, num_samples=64, **changes)  # type: ignore[arg-type]
    assert [sample.index for sample in batch] == list(range(64))
    alone = [tiny_lm.generate(controls, indices=[i], **changes)[0] for i in (0, 5, 63)]  # type: ignore[arg-type]
    assert texts(alone) == [texts(batch)[i] for i in (0, 5, 63)]
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = tiny_lm.generate(controls, indices=order, **changes)  # type: ignore[arg-type]
    assert texts(shuffled) == [texts(batch)[i] for i in order]
    assert len({sample.text for sample in batch}) > 60  # and each is another
    assert len({len(sample.words) for sample in batch}) > 3  # on several canvases


def test_another_seed_gives_another_text(tiny_lm: LanguageModel) -> None:
    one, two = (tiny_lm.generate([Words(8, 8)], 4, seed=seed, preset=FAST) for seed in (0, 1))
    assert all(a.text != b.text for a, b in zip(one, two, strict=True))
    assert [sample.seed for sample in two] == [1] * 4


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("guidance", sorted(GUIDANCES))
@pytest.mark.parametrize("reads", ["logits", "x0", "x_t"])
def test_every_sampler_runs_under_every_guidance(tiny_lm: LanguageModel, name: str, guidance: str, reads: str) -> None:
    controls: list[Controller | Control] = [Words(6, 6), Control("likes", Prefers(("river", "cheap"), reads))]
    if guidance == "paper" and not name.startswith("ddim"):
        with pytest.raises(UsageError, match=r"the 2022 update needs .* ddim"):
            tiny_lm.generate(controls, preset=FAST, sampler=name, guidance=guidance)
        return
    sample = tiny_lm.generate(controls, preset=FAST, sampler=name, guidance=guidance)[0]
    assert len(sample.words) == 6
    assert sample.checks.keys() == {"words", "likes"}
    assert sample.energies.keys() == {"likes"}
    if guidance == "tilt":
        assert sample.calls == 5


@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_takes_every_clamp_and_spacing(tiny_lm: LanguageModel, name: str, clamp: str, spacing: str) -> None:
    samples = tiny_lm.generate([Words(4, 4)], 2, preset=name, clamp=clamp, spacing=spacing, steps=6)
    assert all(len(sample.words) == 4 and sample.log_prob <= 0 for sample in samples)


def test_a_guided_text_obeys_more(tiny_lm: LanguageModel) -> None:
    liked = Prefers(("river", "pub", "Fox"))

    def mean_score(*controls: Control) -> float:
        samples = tiny_lm.generate([Words(8, 8), *controls], 16, preset=FAST)
        return sum(liked.check(sample.text).score for sample in samples) / 16

    free, guided = mean_score(), mean_score(Control("likes", liked, weight=8.0))
    assert guided > free + 0.3


def test_temperature_makes_texts_likelier(tiny_lm: LanguageModel) -> None:
    def mean_log_prob(temperature: float) -> float:
        return sum(s.log_prob for s in tiny_lm.generate([Words(8, 8)], 8, preset=FAST, temperature=temperature)) / 8

    assert mean_log_prob(0.2) > mean_log_prob(1.0) + 1


# --- best of n, MBR, particles, budget ----------------------------------------------------------------------------------------


def test_best_of_n_raises_the_score_with_n(tiny_lm: LanguageModel) -> None:
    """Candidates of n are among those of 2n, so the score of every single text can only rise."""
    judge = [Words(8, 8), Prefers(("river", "pub", "Fox", "the", "."), None)]
    scores = []
    for n in (1, 2, 4, 8):
        samples = tiny_lm.generate(judge, 6, preset=FAST, candidates=n)
        assert all(sample.calls == 5 * n for sample in samples)
        scores.append([sample.checks["prefers"].score for sample in samples])
    for fewer, more in zip(scores, scores[1:], strict=False):
        assert all(b >= a for a, b in zip(fewer, more, strict=True))
    assert sum(scores[-1]) > sum(scores[0]) + 0.3


def sample_of(text: str, score: float = 1.0, log_prob: float = 0.0, energy: float = 0.0) -> Sample:
    return Sample(text, tuple(text.split()), {"c": Check(score, "")}, {"c": energy}, log_prob, 0, 0, 1)


def test_energies_choose_without_a_look_at_the_checks() -> None:
    liked, obedient = sample_of("a b", score=0.0, energy=0.5), sample_of("a b", score=1.0, energy=2.0)
    assert select([obedient, liked], "energies") is liked
    likelier = sample_of("a b", log_prob=1.0, energy=0.5)
    assert select([liked, likelier], "energies") is likelier


def test_selection_by_checks_takes_the_most_obedient_then_the_likeliest_a_word() -> None:
    meek, bold = sample_of("a b", 0.9, -0.1), sample_of("c d", 1.0, -9.0)
    assert select([meek, bold], "checks") is bold
    short, long = sample_of("a b", 1.0, -4.0), sample_of("a b c d e f", 1.0, -6.0)
    assert select([short, long], "checks") is long


def test_mbr_takes_the_text_most_like_the_others() -> None:
    usual = sample_of("the fox is a cheap pub", 0.0)
    others = [
        sample_of("the fox is a cheap place"),
        sample_of("the fox is a dear pub"),
        sample_of("near a river there is fish"),
    ]
    assert select([*others, usual], "mbr") is usual
    assert select([others[2], usual, *others[:2]], "mbr") is usual


def test_mbr_generates_one_of_its_candidates(tiny_lm: LanguageModel) -> None:
    chosen = tiny_lm.generate([Words(6, 6)], 1, preset=FAST, candidates=5, select="mbr")[0]
    best = tiny_lm.generate([Words(6, 6)], 1, preset=FAST, candidates=5)[0]
    assert chosen.calls == best.calls == 25
    assert len(chosen.words) == 6


@pytest.mark.parametrize("name", ["ancestral", "dpmpp-2m-sde"])
def test_particles_obey_more_at_equal_calls(tiny_lm: LanguageModel, name: str) -> None:
    """Copies that go on from the more obedient ones beat copies left alone (best of n), on average over items."""
    judge = [Words(8, 8), Prefers(("river", "pub", "Fox", "the", "."), None)]

    def mean_score(**changes: Any) -> float:
        samples = tiny_lm.generate(
            judge, 20, preset=preset("single", steps=12, select="checks"), sampler=name, particles=8, **changes
        )
        assert all(sample.calls == 12 * 8 for sample in samples)
        return sum(sample.checks["prefers"].score for sample in samples) / len(samples)

    assert mean_score(resample_at=[0.9, 0.7, 0.5, 0.3]) > mean_score(resample_at=[]) + 0.02
    again = [tiny_lm.generate(judge, 3, preset=FAST, sampler=name, particles=4) for _ in range(2)]
    assert texts(again[0]) == texts(again[1])


def test_resampling_keeps_expectations() -> None:
    """Systematic resampling: each particle survives floor or ceiling of n·weight times, n·weight on average."""
    scores = [0.0, 0.2, 0.5, 1.0, 0.9, 0.1]
    weights = (5 * torch.tensor(scores, dtype=torch.float64)).softmax(0)
    counts = torch.zeros(len(scores), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4000):
        survivors = resampled([{"c": Check(score, "")} for score in scores], generator)
        found = torch.bincount(survivors, minlength=len(scores))
        assert len(survivors) == len(scores)
        expected = len(scores) * weights
        assert ((found >= expected.floor()) & (found <= expected.ceil())).all()
        counts += found
    torch.testing.assert_close(counts / 4000, len(scores) * weights, atol=0.03, rtol=0)


def test_resampling_of_equals_keeps_everyone() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        survivors = resampled([{"c": Check(0.5, "")}] * 7, generator)
        assert Counter(survivors.tolist()) == dict.fromkeys(range(7), 1)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if not SAMPLERS[name]().stochastic])
def test_a_deterministic_sampler_refuses_particles(tiny_lm: LanguageModel, name: str) -> None:
    with pytest.raises(UsageError, match=rf"'{name}' is deterministic.*use ancestral, ddim-eta1"):
        tiny_lm.generate(preset="default", sampler=name, particles=4)


def test_the_budget_of_calls_is_kept_or_refused(tiny_lm: LanguageModel) -> None:
    sample = tiny_lm.generate(preset=FAST, candidates=2, particles=3, max_calls=30)[0]
    assert sample.calls == 30
    with pytest.raises(UsageError, match=r"max_calls: 5 steps × 2 candidates × 3 particles = 30 .* exceed the budget of 29"):
        tiny_lm.generate(preset=FAST, candidates=2, particles=3, max_calls=29)


def test_a_preset_reports_all_its_faults_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        preset("default", stepz=3, sampler="dddim", temperature=0, candidates=True, clamp="firm", resample_at=[2.0])
    report = str(caught.value)
    for part in ("6 problems", "stepz: unknown key, did you mean 'steps'?", "sampler: unknown 'dddim', did you mean 'ddim'?",
                 "temperature: expected a number above 0, got 0", "candidates: expected a whole number above 0, got True",
                 "clamp: unknown 'firm'", "resample_at: expected noise levels between 0 and 1, got [2.0]"):  # fmt: skip
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
    assert str(plain) == plain.text == tiny_lm.tokenizer.join(plain.words)
    failed = tiny_lm.generate([Prefers(("river",), None)], preset=Preset(steps=5, candidates=1))[0]
    assert not failed.passed and failed.checks["prefers"].score < 1


@pytest.mark.parametrize("changes", [{"candidates": 2}, {"candidates": 1}, {"candidates": 1, "particles": 2}])
def test_mbr_needs_three_texts(changes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="select: mbr takes the text most like the others and needs 3 or more"):
        preset("default", select="mbr", **changes)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"controls": Words(6, 6)}, "generate: controls: expected a list, each Controller or Control, got Words"),
        ({"controls": [Words]}, r"controls\[0\]: expected Controller or Control, got <class .*make one: Words\(…\)"),
        ({"controls": ["pub"]}, r"controls\[0\]: expected Controller or Control, got 'pub'"),
        ({"seed": 3.0}, "seed: expected a whole number from 0 to .*, got 3.0"),
        ({"seed": "3"}, "seed: expected a whole number from 0 to .*, got '3'"),
        ({"indices": [0.5]}, r"indices\[0\]: expected a whole number of 0 or more, got 0.5"),
        ({"preset": 3}, "preset: expected Preset or a text, got 3"),
        ({"trace": True}, "trace: expected Trace, got True"),
        ({"on_error": "stop"}, "on_error: unknown 'stop'; there are: raise, skip"),
        ({"stepz": 3}, "stepz: unknown key, did you mean 'steps'"),
    ],
)
def test_faulty_arguments_of_generate(tiny_lm: LanguageModel, given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        tiny_lm.generate(**given)


def test_numbers_of_numpy_are_as_good_as_python_s(tiny_lm: LanguageModel) -> None:
    plain = tiny_lm.generate([Words(6, 6)], 2, 3, "fast", [0, 4], steps=2)
    arrays = tiny_lm.generate([Words(6, 6)], np.int64(2), np.int32(3), "fast", np.array([0, 4]), steps=np.int64(2))  # type: ignore
    assert plain == arrays


@pytest.mark.parametrize("word", ["END", "PAD", "UNK"])
def test_the_model_s_own_signs_are_no_words(tiny_lm: LanguageModel, word: str) -> None:
    with pytest.raises(UsageError, match=f"'{word}' is a sign of the model's own"):
        tiny_lm.ids(f"pub {word}", "keyword")
