"""Guidance against posteriors that are known: by enumeration, and on a language model whose words are independent."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
import torch
from exact_model import FIRST, PRIOR, A, B, C, D, Energy, Given, control, latents, process_of
from torch import Tensor

from dlm_control import Check, Control, Controller, LanguageModel, Plan, State, UsageError
from dlm_control.control.use import BoundControl
from dlm_control.diffusion.backbone import Backbone, Draws, Latents, Prediction
from dlm_control.diffusion.gaussian import GaussianProcess
from dlm_control.sampling.guidance import Group, PaperGuidance, TiltGuidance, tilt
from dlm_control.sampling.presets import GUIDANCES


def bound(toy: Control) -> BoundControl:
    """As if bound to a model: these energies need nothing of it."""
    return BoundControl(toy, Plan(), None)


class OneStream(Draws):
    """Random numbers of all rows from one stream."""

    def __init__(self, batch: int, seed: int = 0) -> None:
        self.batch, self.generator = batch, torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn((self.batch, *shape), generator=self.generator)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand((self.batch, *shape), generator=self.generator)


# --- by enumeration: three positions of four words --------------------------------------------------------------------------

TEXTS = list(itertools.product(range(4), repeat=3))
Likelihood = Callable[[tuple[int, ...]], float]
Q = (0.9, 0.1, 0.5, 0.02)

CASES: dict[str, tuple[Likelihood, Callable[[Tensor], Tensor]]] = {  # p(c | words), and E_p of it from p (batch, 3, 4)
    "word at a position": (lambda w: w[1] == C, lambda p: p[:, 1, C]),
    "words at a position": (lambda w: w[1] in (A, C), lambda p: p[:, 1, A] + p[:, 1, C]),
    "soft evidence": (lambda w: Q[w[2]], lambda p: (p[:, 2] * torch.tensor(Q, dtype=p.dtype)).sum(-1)),
    "word anywhere": (lambda w: B in w, lambda p: 1 - (1 - p[:, :, B]).prod(-1)),
    "word nowhere": (lambda w: B not in w, lambda p: (1 - p[:, :, B]).prod(-1)),
    "one of two phrases": (
        lambda w: w[:2] == (A, B) or w[1:] == (A, B) or w[:2] == (C, D) or w[1:] == (C, D),
        lambda p: torch.stack([p[:, i, x] * p[:, i + 1, y] for i in (0, 1) for x, y in ((A, B), (C, D))]).sum(0),
    ),
    "positions that agree": (lambda w: 0.8 if w[0] == w[2] else 0.1, lambda p: 0.1 + 0.7 * (p[:, 0] * p[:, 2]).sum(-1)),
}


def random_state(batch: int = 6, seq_len: int = 3, vocab: int = 4, seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    logits = (2 * torch.randn(batch, seq_len, vocab, generator=generator, dtype=torch.float64)).log_softmax(-1)
    x = torch.zeros(batch, seq_len, 2, dtype=torch.float64)
    return State(x, torch.full((batch,), 0.5), x, logits, torch.full((batch,), seq_len), cast(Backbone, None))


@pytest.mark.parametrize("case", CASES)
def test_tilt_of_word_distributions_is_the_exact_conditional_marginal(case: str) -> None:
    likelihood, expectation = CASES[case]
    state = random_state()
    toy = control(lambda s: -expectation(s.log_probs.exp()).log())
    change, energy = tilt(bound(toy), state)
    p = state.log_probs.exp()
    joint = torch.stack([torch.stack([p[:, i, w] for i, w in enumerate(text)]).prod(0) * likelihood(text) for text in TEXTS], 1)
    torch.testing.assert_close(energy, -joint.sum(1).log())
    marginals = torch.zeros_like(p)
    for text, mass in zip(TEXTS, (joint / joint.sum(1, keepdim=True)).unbind(1), strict=True):
        for i, w in enumerate(text):
            marginals[:, i, w] += mass
    torch.testing.assert_close(p * change.values.exp(), marginals, atol=1e-8, rtol=1e-6)


def test_tilt_leaves_words_alone_that_a_layout_forbids() -> None:
    state = random_state()
    state.log_probs[:, 0, A] = -1e4
    change, _ = tilt(bound(control(lambda s: -(1 - (1 - s.log_probs.exp()[:, :, A]).prod(-1)).log())), state)
    assert (change.values[:, 0, A] == 0).all() and change.values.isfinite().all()


def tilted(lm: LanguageModel, process: GaussianProcess, controls: Sequence[Control], rows: int, **how: Any) -> TiltGuidance:
    """Guidance of a batch whose rows all obey the same controls."""
    return TiltGuidance(lm.backbone, process, [Group([c.bind(lm.backbone) for c in controls], range(rows))], **how)


@torch.no_grad()
def drawn(lm: LanguageModel, controls: Sequence[Control], texts: int = 3000, steps: int = 30, by: str = "ancestral") -> Tensor:
    """(texts, 3), sampled words as 0 … 3."""
    draws, process = OneStream(texts), process_of(lm, steps, sampler=by, spacing="quadratic")
    guidance, given = tilted(lm, process, controls, texts), latents(lm, torch.empty(texts, 4, 8))
    now = process.start(given.allowed, given.length, draws)
    for t, s in zip(process.levels, process.levels[1:], strict=False):
        guided, now = guidance.predict(now, t)
        now = guidance.step(now, guided, t, s, draws)
    assert process.calls == steps
    words = process.words(now, guided)
    assert (words[:, 3] == lm.backbone.tokenizer.eos_token_id).all()
    return words[:, :3] - FIRST


def distance(words: Tensor, likelihood: Likelihood = lambda w: 1.0) -> float:
    """Total variation between sampled texts and the posterior of all 64."""
    posterior = torch.tensor([math.prod(float(PRIOR[w]) for w in text) * likelihood(text) for text in TEXTS])
    counts = torch.bincount(words @ torch.tensor([16, 4, 1]), minlength=64)
    return 0.5 * float((counts / counts.sum() - posterior / posterior.sum()).abs().sum())


NOISE = 0.075  # total variation of 3000 texts over 64 cells is 0.053 by chance; the solver's bias comes on top


@pytest.mark.parametrize("by", ["ancestral", "ddim", "dpmpp-2m", "dpmpp-2m-sde"])
def test_without_control_the_prior_comes_out(exact_lm: LanguageModel, by: str) -> None:
    assert distance(drawn(exact_lm, [], by=by)) < NOISE


@pytest.mark.parametrize("local_likelihood_weight", [0.3, 1.0, 2.0])
def test_evidence_is_a_power_of_each_positions_likelihood(exact_lm: LanguageModel, local_likelihood_weight: float) -> None:
    """log p(w | x_t) ∝ log prior(w) + evidence · log N(x_t; α E_w, σ²), by hand."""
    x_t = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1))
    process = process_of(exact_lm, local_likelihood_weight=local_likelihood_weight)
    said = process.predict(latents(exact_lm, x_t), 0.6).log_probs
    alpha, sigma = process.schedule.alpha_sigma(torch.tensor(0.6))
    distance = (x_t[:, :3, None] - alpha * exact_lm.backbone.embeddings[FIRST:]).square().sum(-1)
    expected = (PRIOR.log() - local_likelihood_weight * distance / (2 * sigma.square())).log_softmax(-1)
    torch.testing.assert_close(said[:, :3, FIRST:].double(), expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_guided_samples_follow_the_posterior(exact_lm: LanguageModel, case: str) -> None:
    likelihood, expectation = CASES[case]
    words = drawn(exact_lm, [control(lambda s: -expectation(s.log_probs.exp()[:, :3, FIRST:]).clamp(min=1e-12).log())])
    assert distance(words, likelihood) < NOISE
    if case != "soft evidence" and case != "positions that agree":
        satisfied = sum(likelihood(tuple(text)) for text in words.tolist()) / len(words)
        assert satisfied > 0.99
    assert distance(words) > 2 * NOISE  # the prior is another distribution


def test_controls_of_different_positions_compose_exactly(exact_lm: LanguageModel) -> None:
    (first, expect_first), (second, expect_second) = CASES["words at a position"], CASES["soft evidence"]
    controls = [
        control(lambda s, e=e: -e(s.log_probs.exp()[:, :3, FIRST:]).log(), name=str(i))  # type: ignore[misc]
        for i, e in enumerate((expect_first, expect_second))
    ]
    assert distance(drawn(exact_lm, controls), lambda w: first(w) * second(w)) < NOISE


def test_weight_raises_the_likelihood_to_a_power(exact_lm: LanguageModel) -> None:
    words = drawn(exact_lm, [control(lambda s: -(s.log_probs.exp()[:, 2, FIRST:] @ torch.tensor(Q)).log(), weight=3.0)])
    assert distance(words, lambda w: Q[w[2]] ** 3) < NOISE
    assert distance(words, lambda w: Q[w[2]]) > 1.5 * NOISE


def noise_aware(lm: LanguageModel, position: int, expected: Sequence[int]) -> Callable[[State], Tensor]:
    """−log p(the word at a position is one of `expected` | x_t), in closed form."""

    def energy(state: State) -> Tensor:
        alpha, sigma = process_of(lm).schedule.alpha_sigma(state.t)
        local_likelihood_weight = (alpha / sigma.square())[:, None] * (
            state.x_t[:, position] @ lm.backbone.embeddings[FIRST:].T
        )
        return -(local_likelihood_weight + PRIOR.log()).log_softmax(-1)[:, list(expected)].logsumexp(-1).float()

    return energy


def test_a_noise_aware_classifier_steers_its_position_and_no_other(exact_lm: LanguageModel) -> None:
    words = drawn(exact_lm, [control(noise_aware(exact_lm, 1, (C, D)), "x_t")])
    assert torch.isin(words[:, 1], torch.tensor([C, D])).double().mean() > 0.97  # 0.3 unguided
    for position in (0, 2):
        frequencies = torch.bincount(words[:, position], minlength=4) / len(words)
        torch.testing.assert_close(frequencies.double(), PRIOR, atol=0.03, rtol=0)
    among = torch.bincount(words[:, 1], minlength=4)[[C, D]].double()
    assert 0.5 < among[0] / among.sum() < 0.85  # 2/3 by the posterior


def divergence(changed: Tensor, log_probs: Tensor) -> Tensor:
    """KL(p' ‖ p), (batch,), over positions."""
    after = changed.log_softmax(-1)
    return (after.exp() * (after - log_probs)).sum((1, 2))


@pytest.mark.parametrize("reads", ["x_t", "x0"])
@pytest.mark.parametrize("loudness", [1e-3, 1.0, 1e3])
def test_first_order_tilts_cost_their_energy_whatever_their_scale(exact_lm: LanguageModel, reads: str, loudness: float) -> None:
    """KL(p' ‖ p) = energy for small energies; no classifier is louder for a steeper gradient."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, 7, generator=generator).log_softmax(-1)
    x = torch.randn(5, 4, 8, generator=generator)
    direction = torch.randn(5, 4, 8, generator=generator)
    state = State(x, torch.full((5,), 0.4), x, logits, torch.full((5,), 3), exact_lm.backbone)
    nats = torch.tensor([0.0, 1e-4, 1e-3, 5e-3, 1e-2])

    def energy(s: State) -> Tensor:
        moved: Tensor = (direction * (getattr(s, reads) - x)).sum((1, 2))  # zero, with a gradient of any size
        return nats - loudness * moved

    push, energies = tilt(bound(control(energy, reads)), state)
    change = push.values
    torch.testing.assert_close(energies, nats)
    torch.testing.assert_close(divergence(logits + change, logits), nats, rtol=0.15, atol=2e-6)
    assert (change[0] == 0).all()  # a satisfied control stops pushing
    along = (direction @ exact_lm.backbone.embeddings.T)[1:]  # words along −gradient gain
    centred = along - (logits[1:].exp() * along).sum(-1, keepdim=True)
    cosine = torch.nn.functional.cosine_similarity(change[1:].flatten(1), centred.flatten(1))
    torch.testing.assert_close(cosine, torch.ones(4), atol=1e-4, rtol=0)


# --- weights, order, interval -----------------------------------------------------------------------------------------------


@pytest.fixture
def denoise(exact_lm: LanguageModel) -> Callable[..., Tensor]:
    """Guided log-probabilities (8, 4, vocab) of some noisy batch."""

    def run(*controls: Control, t: float = 0.5) -> Tensor:
        x = torch.randn(8, 4, 8, generator=torch.Generator().manual_seed(1))
        guided, _ = tilted(exact_lm, process_of(exact_lm), controls, 8).predict(latents(exact_lm, x), t)
        return guided.log_probs

    return run


def here(position: int, word: int) -> Callable[[State], Tensor]:
    return lambda s: -s.log_probs[:, position, FIRST + word]


def soft(position: int) -> Callable[[State], Tensor]:
    return lambda s: -(s.log_probs.exp()[:, position, FIRST:] @ torch.tensor(Q)).log()


def test_weight_zero_changes_nothing_and_two_doubles_the_log_odds(denoise: Callable[..., Tensor]) -> None:
    free = denoise()
    assert torch.equal(denoise(control(soft(1), weight=0.0)), free)

    def log_odds(weight: float) -> Tensor:
        gained = (denoise(control(soft(1), weight=weight)) - free)[:, 1, FIRST:]
        return gained - gained[:, :1]

    once, twice = log_odds(1.0), log_odds(2.0)
    assert once.abs().max() > 1
    torch.testing.assert_close(twice, 2 * once, rtol=1e-3, atol=1e-3)


def test_the_order_of_controls_does_not_matter(denoise: Callable[..., Tensor], exact_lm: LanguageModel) -> None:
    controls = [
        control(soft(1), name="a", weight=0.7),
        control(CASE_ANYWHERE, name="b"),
        control(noise_aware(exact_lm, 0, (C,)), "x_t", name="c"),
    ]
    expected = denoise(*controls)
    for order in itertools.permutations(controls):
        torch.testing.assert_close(denoise(*order), expected, rtol=1e-4, atol=1e-4)


def CASE_ANYWHERE(state: State) -> Tensor:  # noqa: N802
    return -CASES["word anywhere"][1](state.log_probs.exp()[:, :3, FIRST:]).log()


def test_a_control_acts_within_its_interval(denoise: Callable[..., Tensor]) -> None:
    late = Control("toy", Energy(soft(1)), interval=(0.0, 0.3))
    assert torch.equal(denoise(late, t=0.5), denoise(t=0.5))
    assert torch.equal(denoise(late, t=0.2), denoise(control(soft(1)), t=0.2))


GROUPS = {
    "tilt": lambda lm, process, groups: TiltGuidance(lm, process, groups, lagrangian=0.3),
    "paper": lambda lm, process, groups: PaperGuidance(lm, process, groups),
}


@pytest.mark.parametrize("kind", GROUPS)
def test_groups_steer_their_own_rows_as_if_they_were_alone(exact_lm: LanguageModel, kind: str) -> None:
    lm, x = exact_lm.backbone, torch.randn(6, 4, 8, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(6, 4, 8, generator=torch.Generator().manual_seed(2))
    first = [control(soft(1), name="a").bind(lm), control(CASE_ANYWHERE, name="b", weight=0.5).bind(lm)]
    second = [control(noise_aware(exact_lm, 0, (C,)), "x_t", name="a").bind(lm)]

    def run(rows: Sequence[int], *groups: Group) -> tuple[Prediction, Latents]:
        guidance = GROUPS[kind](lm, process_of(exact_lm, sampler="ddim-eta1"), groups)
        now = latents(exact_lm, x[list(rows)])
        for t, s in ((0.6, 0.5), (0.5, 0.4)):
            guided, now = guidance.predict(now, t)
            now = guidance.step(now, guided, t, s, Given(noise[list(rows)]))
        return guided, now

    together = run(range(6), Group(first, [0, 2, 5]), Group(second, [1, 3]), Group([], [4]))
    for rows, controls in (([0, 2, 5], first), ([1, 3], second), ([4], [])):
        guided, now = run(rows, Group(controls, range(len(rows))))
        for part in ("log_probs", "x0", "x_t"):
            torch.testing.assert_close(getattr(together[0], part)[rows], getattr(guided, part), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(together[1].z[rows], now.z, rtol=1e-4, atol=1e-4)
        for name, value in now.memory.items():
            torch.testing.assert_close(together[1].memory[name][rows], value, rtol=1e-4, atol=1e-4)


def test_without_reads_a_control_has_no_energy(denoise: Callable[..., Tensor]) -> None:
    silent = Control("toy", Energy(lambda s: pytest.fail("asked for an energy"), None))
    assert torch.equal(denoise(silent), denoise())


# --- controllers that misbehave -----------------------------------------------------------------------------------------------

PARAMETER = torch.nn.Parameter(torch.ones(()))

FAULTS: dict[str, tuple[Callable[[State], Any], str]] = {
    "shape": (lambda s: s.log_probs.sum(-1), r"returned \(8, 4\), expected a tensor \(8,\)"),
    "scalar": (lambda s: s.log_probs.sum(), r"returned \(\), expected a tensor \(8,\)"),
    "no tensor": (lambda s: 1.5, r"returned float, expected a tensor \(8,\)"),
    "nan": (lambda s: torch.where(torch.arange(8) == 5, torch.nan, s.log_probs.sum((1, 2))), r"is nan at t = 0.500, item 5"),
    "infinite": (lambda s: s.log_probs.sum((1, 2)) * torch.inf, r"is -?inf at t = 0.500, item 0"),
    "constant": (lambda s: torch.ones(8), r"does not depend on state\.log_probs, which it says it reads"),
    "another field": (lambda s: s.x_t.sum((1, 2)), r"does not depend on state\.log_probs"),
    "a parameter": (lambda s: PARAMETER * s.x_t.sum((1, 2)), r"does not depend on state\.log_probs"),
    "nan gradient": (lambda s: (0 * s.log_probs.exp().sum((1, 2))).sqrt(), r"gradient that is not finite at t = 0.500, item 0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_energy_is_named(denoise: Callable[..., Tensor], fault: str) -> None:
    function, message = FAULTS[fault]
    with pytest.raises(UsageError, match=r"control polite: Energy\(.*" + message):
        denoise(control(function, name="polite"))


@pytest.mark.parametrize("guidance", sorted(GUIDANCES))
def test_reading_without_an_energy_is_named(exact_lm: LanguageModel, guidance: str) -> None:
    class Mute(Controller):
        reads = "x_t"

        def check(self, text: str) -> Check:
            return Check(1.0, "")

    with pytest.raises(UsageError, match=r"NotImplementedError: Mute reads 'x_t' but has no energy"):
        exact_lm.generate([Mute()], guidance=guidance, sampler="ddim-eta1", steps=4)
