"""The update of 2022: steps of Adagrad towards fluency and control."""

from __future__ import annotations

import pytest
import torch
from exact_model import FIRST, D, Energy, Given, control, latents
from torch import Tensor

from dlm_control import Control, LanguageModel, Plan, State
from dlm_control.diffusion.backbone import Backbone, Latents, Prediction
from dlm_control.diffusion.gaussian import EARLIER, GaussianBackbone, GaussianProcess
from dlm_control.sampling.guidance import Group, PaperGuidance, state_of

# --- the 2022 update ---------------------------------------------------------------------------------------------------------


def bowl(state: State) -> Tensor:
    """An energy whose gradient has both signs, and zeros."""
    centre = torch.linspace(-1, 1, state.x_t[0].numel()).view_as(state.x_t[0])
    return ((state.x_t - centre).clamp(min=-0.8).square() * centre).sum((1, 2)) + 9


class Moments(GaussianProcess):
    """A process whose step has moments of the test's own."""

    def __init__(self, lm: Backbone, mean: Tensor, deviation: float) -> None:
        assert isinstance(lm, GaussianBackbone)
        super().__init__(lm, 1, sampler="ddim-eta1")
        self.mean, self.deviation = mean, deviation

    def moments(self, latents: Latents, guided: Prediction, t: float, s: float) -> tuple[Tensor, float]:
        return self.mean, self.deviation


@pytest.mark.parametrize("deviation", [0.13, 0.0])
def test_paper_guidance_is_three_steps_of_a_fresh_adagrad(exact_lm: LanguageModel, deviation: float) -> None:
    fluency_weight, weight = 0.03, 1.7
    mean, x = torch.randn(2, 5, 4, 8, generator=torch.Generator().manual_seed(2))
    asked: list[int] = []

    def energy(state: State) -> Tensor:
        asked.append(len(state.x_t))
        return bowl(state)

    process = Moments(exact_lm.backbone, mean, deviation)
    group = Group([control(energy, "x_t", weight).bind(exact_lm.backbone)], range(5))
    guidance = PaperGuidance(exact_lm.backbone, process, [group], fluency_weight=fluency_weight)
    now = latents(exact_lm, torch.zeros_like(x))
    guided, now = guidance.predict(now, 0.5)
    after = guidance.step(now, guided, 0.5, 0.495, Given((x - mean) / (deviation or 1.0)))
    got, x = after.z, x if deviation else mean  # without noise the step ends at its mean
    assert torch.equal(after.memory[EARLIER], guided.x0)  # for self-conditioning

    expected = x.clone().requires_grad_()
    for _ in range(3):
        optimizer = torch.optim.Adagrad([expected], lr=0.1)
        optimizer.zero_grad()
        fluency = ((mean - expected) ** 2).sum() / (deviation if deviation > 0 else 1.0)
        state = State(expected, torch.full((5,), 0.495), expected, expected[..., :0], torch.full((5,), 3), exact_lm.backbone)
        (weight * bowl(state).sum() + fluency_weight * fluency).backward()
        optimizer.step()
    torch.testing.assert_close(got, expected.detach(), atol=1e-6, rtol=0)
    assert float((got - x).abs().max()) == pytest.approx(0.3, abs=1e-5)
    assert asked == [5] * 3


@pytest.mark.parametrize(("schedule", "t", "weight"), [("rising", 0.8, 0.4), ("falling", 0.8, 1.6), ("rising", 0.25, 1.5)])
def test_paper_guidance_follows_a_weight_s_schedule(exact_lm: LanguageModel, schedule: str, t: float, weight: float) -> None:
    """As if the control had the weight of the noise level for good."""
    mean, noise = torch.randn(2, 5, 4, 8, generator=torch.Generator().manual_seed(2))

    def after(toy: Control) -> Tensor:
        process = Moments(exact_lm.backbone, mean, 0.13)
        guidance = PaperGuidance(
            exact_lm.backbone, process, [Group([toy.bind(exact_lm.backbone)], range(5))], fluency_weight=0.05
        )
        guided, now = guidance.predict(latents(exact_lm, torch.zeros_like(mean)), t)
        return guidance.step(now, guided, t, t - 0.01, Given(noise)).z

    scheduled = after(Control("toy", Energy(bowl, "x_t"), schedule=schedule))
    torch.testing.assert_close(scheduled, after(control(bowl, "x_t", weight)))
    assert not torch.allclose(scheduled, after(control(bowl, "x_t")))


@pytest.mark.parametrize("reads", ["x0", "log_probs"])
def test_paper_guidance_sends_other_gradients_through_the_denoiser(exact_lm: LanguageModel, reads: str) -> None:
    """A pull on the clean word at one position moves x_s there and, without fluency's pull, nowhere else."""
    x = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(2))
    target = exact_lm.backbone.embeddings[FIRST + D]

    def energy(state: State) -> Tensor:
        return (state.x0[:, 1] - target).square().sum(-1) if reads == "x0" else -state.log_probs[:, 1, FIRST + D]

    process = Moments(exact_lm.backbone, x, 0.1)
    group = Group([control(energy, reads).bind(exact_lm.backbone)], range(5))
    guidance = PaperGuidance(exact_lm.backbone, process, [group], fluency_weight=1e-30)

    @torch.no_grad()
    def now(z: Tensor) -> Tensor:
        given = latents(exact_lm, z)
        return energy(state_of(exact_lm.backbone, process.predict(given, 0.5), given, 0.5))

    guided, given = guidance.predict(latents(exact_lm, x), 0.5)
    moved = guidance.step(given, guided, 0.5, 0.5, Given(torch.zeros_like(x))).z
    assert (now(moved) < now(x)).all()
    assert (moved[:, [0, 2, 3]] == x[:, [0, 2, 3]]).all()


def test_paper_guidance_rests_at_the_last_ten_of_200_steps(exact_lm: LanguageModel) -> None:
    """190 guided steps of three inner ones, as in the released code."""
    asked: list[float] = []

    def energy(state: State) -> Tensor:
        asked.append(float(state.t[0]))
        return bowl(state)

    plan = Plan(min_words=3, max_words=3)
    exact_lm.generate([Energy(energy, "x_t", plan)], preset="paper")
    assert len(asked) == 3 * 190 + 1  # and once of the finished text
    assert min(asked[:-1]) == pytest.approx(10 / 200)
