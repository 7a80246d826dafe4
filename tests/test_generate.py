"""Whole texts: a seed for each item, every way of sampling, choosing among candidates."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dlm_control import Check, Control, Controller, LanguageModel, Plan, Sample, State, UsageError
from dlm_control.diffusion.backbone import Backbone
from dlm_control.diffusion.samplers import CLAMPS, SAMPLERS, SPACINGS
from dlm_control.sampling.generate import Request
from dlm_control.sampling.presets import GUIDANCES, NAMES, preset
from dlm_control.sampling.selection import select

FAST = preset("fast", steps=5, select="checks")


class Words(Controller):
    """Between two numbers of words; by its plan alone."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def check(self, text: str) -> Check:
        return Check(1.0, "")

    def plan(self, lm: Backbone) -> Plan:
        return Plan(min_words=self.low, max_words=self.high)


class Prefers(Controller):
    """Some words rather than others, everywhere; what share of them a text holds is its score."""

    def __init__(self, words: tuple[str, ...], reads: str | None = "log_probs") -> None:
        self.words = words
        self.reads = reads  # type: ignore[assignment]

    def bind(self, lm: Backbone) -> list[int]:
        return [lm.ids(word, "prefers")[0] for word in self.words]

    def energy(self, state: State) -> torch.Tensor:
        if self.reads == "log_probs":
            return -state.log_probs[:, :, state.bound].logsumexp(-1).mean(-1)
        field: torch.Tensor = getattr(state, self.reads or "")
        return (field - state.lm.embeddings[state.bound[0]]).square().mean((1, 2))

    def check(self, text: str) -> Check:
        words = text.split()
        return Check(sum(word in self.words for word in words) / max(1, len(words)), "")


def texts(samples: list[Sample]) -> list[tuple[int, str, dict[str, float], float | None]]:
    return [(sample.index, sample.text, sample.energies, sample.nats_per_word) for sample in samples]


@pytest.mark.parametrize("name", ["ancestral", "ddim", "dpmpp-2m-sde"])
@pytest.mark.parametrize("controls", [[], [Words(3, 25)], [Prefers(("pub", "Fox"))]], ids=["free", "any length", "guided"])
def test_a_text_depends_on_its_own_seed_alone(tiny_lm: LanguageModel, name: str, controls: list[Controller]) -> None:
    """Alone, among 64 of several padded lengths and in another order: the same words, energies and likelihood."""
    changes = {"preset": FAST, "sampler": name, "seed": 7, "select": "likelihood"}
    batch = tiny_lm.generate(controls, num_samples=64, **changes)  # type: ignore[arg-type]
    assert [sample.index for sample in batch] == list(range(64))
    alone = [tiny_lm.generate(controls, indices=[i], **changes)[0] for i in (0, 5, 63)]  # type: ignore[arg-type]
    assert texts(alone) == [texts(batch)[i] for i in (0, 5, 63)]
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = tiny_lm.generate(controls, indices=order, **changes)  # type: ignore[arg-type]
    assert texts(shuffled) == [texts(batch)[i] for i in order]
    assert all(sample.nats_per_word is not None and sample.nats_per_word > 0 for sample in batch)
    assert len({sample.text for sample in batch}) > 60  # and each is another
    assert len({len(sample.words) for sample in batch}) > 3  # of several padded lengths


def test_another_seed_gives_another_text(tiny_lm: LanguageModel) -> None:
    one, two = (tiny_lm.generate([Words(8, 8)], 4, seed=seed, preset=FAST) for seed in (0, 1))
    assert all(a.text != b.text for a, b in zip(one, two, strict=True))
    assert [sample.seed for sample in two] == [1] * 4


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("guidance", sorted(GUIDANCES))
@pytest.mark.parametrize("reads", ["log_probs", "x0", "x_t"])
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
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_takes_every_clamp_and_spacing(tiny_lm: LanguageModel, name: str, clamp: str, spacing: str) -> None:
    for select_by in ("checks", "likelihood"):
        samples = tiny_lm.generate([Words(4, 4)], 2, preset=name, clamp=clamp, spacing=spacing, steps=6, select=select_by)
        assert all(len(sample.words) == 4 for sample in samples)
        judged = [sample.nats_per_word is not None and sample.nats_per_word > 0 for sample in samples]
        assert judged == [select_by == "likelihood"] * 2


def test_a_guided_text_obeys_more(tiny_lm: LanguageModel) -> None:
    liked = Prefers(("river", "pub", "Fox"))

    def mean_score(*controls: Control) -> float:
        samples = tiny_lm.generate([Words(8, 8), *controls], 16, preset=FAST)
        return sum(liked.check(sample.text).score for sample in samples) / 16

    free, guided = mean_score(), mean_score(Control("likes", liked, weight=8.0))
    assert guided > free + 0.3


def test_temperature_makes_texts_likelier(tiny_lm: LanguageModel) -> None:
    def nats(temperature: float) -> float:
        samples = tiny_lm.generate([Words(8, 8)], 16, preset=FAST, select="likelihood", temperature=temperature)
        return sum(sample.nats_per_word or 0.0 for sample in samples) / 16

    assert nats(0.2) < nats(1.0)
    assert nats(0.2) < nats(2.0) - 0.2


# --- requests side by side ----------------------------------------------------------------------------------------------------


def mixed() -> list[Request]:
    """Several controls, none, free lengths, other seeds, indices out of order."""
    likes = Control("likes", Prefers(("river", "cheap")), 4.0)
    fox = Control("fox", Prefers(("Fox",), "x_t"), interval=(0.3, 0.9))
    return [
        Request([Control("words", Words(3, 25)), likes], (0, 1, 2), 7),
        Request([], (5, 0), 1),
        Request([Control("words", Words(8, 8)), likes, fox], (3, 1, 0, 2), 7),
        Request([Control("words", Words(3, 25)), Control("near", Prefers(("pub", "the"), "x0"), schedule="rising")], (4,)),
        Request([Control("words", Words(8, 8)), fox], (0, 1), 7),
        Request([Control("words", Words(8, 8)), Control("score", Prefers(("river",), None))], (1, 2)),
    ]


WAYS: dict[str, dict[str, Any]] = {
    "tilt": {},
    "energies": {"candidates": 3, "select": "energies"},
    "checks": {"candidates": 3},
    "mbr": {"candidates": 3, "select": "mbr"},
    "likelihood": {"candidates": 2, "select": "likelihood"},
    "composed": {"lagrangian": 0.1, "conflict": "project", "scale": "rms", "sampler": "dpmpp-2m-sde"},
    "early stop": {"early_stop": True, "temperature": 0.2, "steps": 12},
    "particles": {"particles": 3, "resample_below": 1.0},
    "paper": {"guidance": "paper", "sampler": "ddim-eta1"},
}


@pytest.mark.parametrize("way", WAYS)
def test_requests_side_by_side_give_the_texts_that_they_give_alone(tiny_lm: LanguageModel, way: str) -> None:
    requests = mixed()
    many = tiny_lm.generate_many(requests, preset=FAST, **WAYS[way])
    assert [[sample.index for sample in samples] for samples in many] == [list(request.indices) for request in requests]
    for request, samples in zip(requests, many, strict=True):
        alone = tiny_lm.generate(request.controls, indices=list(request.indices), seed=request.seed, preset=FAST, **WAYS[way])
        assert texts(samples) == texts(alone)
        assert [(sample.checks, sample.seed) for sample in samples] == [(sample.checks, sample.seed) for sample in alone]


def test_requests_share_network_calls(tiny_lm: LanguageModel) -> None:
    """Six texts of one padded length under three sets of controls: two batches of four rows instead of three."""
    requests = [
        Request([Control("words", Words(8, 8)), Control("likes", Prefers((word,)))], (0, 1)) for word in ("pub", "Fox", "a")
    ]
    asked: list[int] = []
    handle = tiny_lm.backbone.model.register_forward_hook(lambda module, given, out: asked.append(len(given[0])))
    try:
        tiny_lm.generate_many(requests, preset=FAST)
    finally:
        handle.remove()
    assert asked == [4] * 2 * FAST.steps


def test_a_request_that_fails_costs_no_other(tiny_lm: LanguageModel) -> None:
    class Broken(Prefers):
        def energy(self, state: State) -> torch.Tensor:
            raise RuntimeError("out of order")

    good = Request([Control("words", Words(8, 8)), Control("likes", Prefers(("river",)))], (0, 1), 3)
    bad = Request([Control("words", Words(8, 8)), Control("broken", Broken(("river",)))], (0, 1), 3)
    with pytest.raises(UsageError, match=r"control broken: .* raised RuntimeError: out of order"):
        tiny_lm.generate_many([good, bad], preset=FAST)
    kept, failed = tiny_lm.generate_many([good, bad], preset=FAST, on_error="skip")
    assert texts(kept) == texts(tiny_lm.generate(good.controls, 2, 3, FAST))
    assert all("out of order" in str(sample.error) and not sample.text for sample in failed)


def test_the_batch_size_changes_nothing_but_rounding(tiny_lm: LanguageModel) -> None:
    def of(batch_size: int | None) -> list[Sample]:
        many = tiny_lm.generate_many(mixed(), preset=FAST, select="likelihood", batch_size=batch_size)
        return [sample for samples in many for sample in samples]

    usual = of(4)
    assert texts(usual) == texts(of(None))
    for size in (2, 8):
        pairs = list(zip(usual, of(size), strict=True))
        same = [(a, b) for a, b in pairs if a.text == b.text]
        assert len(same) >= 0.8 * len(pairs)
        for a, b in same:
            assert b.nats_per_word == pytest.approx(a.nats_per_word, abs=2e-3)


def test_a_text_is_as_likely_in_any_company(tiny_lm: LanguageModel) -> None:
    """The noise under which it is judged is the same for all, at any padded length: more PADs behind it hardly count."""
    lm = tiny_lm.backbone
    both = [list(lm.ids(text, "test")) for text in ("The Golden Fox is a cheap pub .", "Families with children are welcome .")]

    def judged(*rows: list[int], seq_len: int) -> list[float]:
        ids = [[*row, lm.tokenizer.eos_token_id, *[lm.tokenizer.pad_token_id] * seq_len][:seq_len] for row in rows]
        found: list[float] = lm.nats_per_word(torch.tensor(ids), torch.tensor([len(row) for row in rows])).tolist()
        return found

    together = judged(*both, seq_len=12)
    assert [judged(row, seq_len=12)[0] for row in both] == pytest.approx(together, abs=1e-4)
    assert judged(*both, seq_len=12) == together and together[0] != pytest.approx(together[1], abs=1e-2)
    for seq_len in (16, 32):
        assert judged(*both, seq_len=seq_len) == pytest.approx(together, abs=0.1)


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


def sample_of(text: str, score: float = 1.0, nats: float | None = None, energy: float = 0.0) -> Sample:
    return Sample(text, tuple(text.split()), {"c": Check(score, "")}, {"c": energy}, nats, 0, 0, 1)


def test_energies_choose_without_a_look_at_the_checks() -> None:
    liked, obedient = sample_of("a b", score=0.0, energy=0.5), sample_of("a b", score=1.0, energy=2.0)
    assert select([obedient, liked], "energies") is liked
    likelier = sample_of("a b", nats=1.0, energy=0.5)
    assert select([liked, likelier], "energies") is liked  # of equals the first
    assert select([likelier, liked], "energies") is likelier


def test_selection_by_checks_takes_the_most_obedient_then_the_first() -> None:
    meek, bold = sample_of("a b", 0.9, 0.1), sample_of("c d", 1.0, 9.0)
    assert select([meek, bold], "checks") is bold
    short, long = sample_of("a b", 1.0, 4.0), sample_of("a b c d e f", 1.0, 2.0)
    assert select([short, long], "checks") is short
    assert select([meek, long, short], "checks") is long


def test_selection_by_likelihood_takes_the_likeliest_of_those_that_obey() -> None:
    obedient, likelier = sample_of("a b", 0.0, 4.0, energy=0.1), sample_of("c d", 0.0, 3.0, energy=0.9)
    fluent, worse = sample_of("e f", 1.0, 1.0, energy=1.5), sample_of("g h", 1.0, 0.5, energy=2.5)
    assert select([worse, obedient, fluent, likelier], "likelihood") is likelier
    assert select([worse, fluent], "likelihood") is fluent  # none obeys: the nearest, however unlikely
    assert select([sample_of("i j", 1.0, 3.0), likelier], "likelihood").text == "i j"  # of equals the first


def test_selection_by_likelihood_returns_the_likeliest_candidate(tiny_lm: LanguageModel) -> None:
    """Candidates of n are among those of 2n, and no control has an energy: the figure can only fall."""
    figures = []
    for n in (1, 2, 4, 8):
        samples = tiny_lm.generate([Words(8, 8)], 6, preset=FAST, candidates=n, select="likelihood")
        assert all(sample.calls == n * (5 + tiny_lm.backbone.likelihood_calls) for sample in samples)
        figures.append([sample.nats_per_word or 0.0 for sample in samples])
    for fewer, more in zip(figures, figures[1:], strict=False):
        assert all(b <= a for a, b in zip(fewer, more, strict=True))
    assert sum(figures[-1]) < sum(figures[0]) - 0.2
    assert tiny_lm.generate([Words(8, 8)], 1, preset=FAST)[0].nats_per_word is None


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


@pytest.mark.parametrize("name", [name for name in SAMPLERS if not SAMPLERS[name]().stochastic])
def test_a_deterministic_sampler_refuses_particles(tiny_lm: LanguageModel, name: str) -> None:
    with pytest.raises(UsageError, match=rf"'{name}' is deterministic.*use ancestral, ddim-eta1"):
        tiny_lm.generate(preset="default", sampler=name, particles=4)


def test_the_budget_of_calls_is_kept_or_refused(tiny_lm: LanguageModel) -> None:
    sample = tiny_lm.generate(preset=FAST, candidates=2, particles=3, max_calls=30)[0]
    assert sample.calls == 30
    with pytest.raises(UsageError, match=r"max_calls: 5 steps × 2 candidates × 3 particles = 30 .* exceed the budget of 29"):
        tiny_lm.generate(preset=FAST, candidates=2, particles=3, max_calls=29)
