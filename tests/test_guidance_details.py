"""Details of guidance: the defaults of 2022, calls, weak pushes, and what the energy of a finished text reads."""

from __future__ import annotations

import pytest
import torch
from exact_model import Energy, Given, control, latents
from test_paper_guidance import Moments, bowl
from torch import Tensor

from dlm_control import Control, LanguageModel, Plan, State
from dlm_control.control.columns import Columns, covariance
from dlm_control.diffusion.backbone import Latents, Prediction, normalise
from dlm_control.sampling.guidance import Group, PaperGuidance, TiltGuidance, state_of, tilt, without_conflict


def test_weak_pushes_are_projected_like_strong_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    probs = torch.randn(4, 5, 6, generator=generator).softmax(-1)
    a, b = 1e-3 * torch.randn(2, 4, 5, 6, generator=generator)
    against = Columns(b - 2 * a)
    first, _ = without_conflict([Columns(a), against], probs)
    torch.testing.assert_close(covariance(first, against, probs), torch.zeros(4), atol=1e-9, rtol=0)


def test_the_2022_update_has_its_defaults_and_asks_no_network_for_energies_of_x_t(exact_lm: LanguageModel) -> None:
    """λ = 0.01, steps of 0.1, three of them; the network is asked once a step, as without control."""
    asked: list[float] = []

    class Counted(Moments):
        def predict(self, now: Latents, t: float) -> Prediction:
            asked.append(t)
            return super().predict(now, t)

    mean, noise = torch.randn(2, 5, 4, 8, generator=torch.Generator().manual_seed(2))

    def after(**settings: float) -> Tensor:
        process = Counted(exact_lm.backbone, mean, 0.13)
        group = Group([control(bowl, "x_t").bind(exact_lm.backbone)], range(5))
        guidance = PaperGuidance(exact_lm.backbone, process, [group], **settings)  # type: ignore[arg-type]
        guided, now = guidance.predict(latents(exact_lm, torch.zeros_like(mean)), 0.5)
        return guidance.step(now, guided, 0.5, 0.49, Given(noise)).z

    assert torch.equal(after(), after(fluency_weight=0.01, lr=0.1, inner_steps=3))
    assert not torch.equal(after(), after(fluency_weight=1.0))
    assert asked == [0.5] * 4


def test_the_energy_of_a_finished_text_reads_the_model(exact_lm: LanguageModel) -> None:
    def energy(state: State) -> Tensor:
        assert state.lm is exact_lm.backbone
        return -state.log_probs[:, 0, 3]

    [sample] = exact_lm.generate([Energy(energy, "log_probs", Plan(min_words=3, max_words=3))], steps=4, sampler="ddim-eta1")
    assert len(sample.words) == 3


def test_pushes_that_conflict_are_added_without_what_they_take_from_each_other(exact_lm: LanguageModel) -> None:
    """Wanting a word at a place against wanting it nowhere: under `project` the guidance adds the projected tilts."""
    wishes = [
        control(lambda s: -(0.05 + s.log_probs[:, 1, 4].exp()).log(), name="wants"),
        control(lambda s: -(2.0 - s.log_probs[:, 1, 4].exp()).log(), name="avoids"),
    ]
    bound = [wish.bind(exact_lm.backbone) for wish in wishes]
    now = latents(exact_lm, torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(3)))
    process = exact_lm.backbone.process(1)
    said = process.predict(now, 0.5)
    tilts = [tilt(each, state_of(exact_lm.backbone, said, now, 0.5))[0] for each in bound]
    found = {}
    for conflict, pushes in (("sum", tilts), ("project", without_conflict(tilts, said.log_probs.exp()))):
        guidance = TiltGuidance(exact_lm.backbone, process, [Group(bound, range(5))], conflict=conflict)
        found[conflict] = guidance.predict(now, 0.5)[0].log_probs
        tilted = said.log_probs.clone()
        for push in pushes:
            push.added_to(tilted)
        torch.testing.assert_close(found[conflict], normalise(tilted, now.allowed), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found["sum"], found["project"], atol=1e-2)


def test_a_group_of_one_row_is_steered_among_others(exact_lm: LanguageModel) -> None:
    wish = control(lambda s: -(0.05 + s.log_probs[:, 1, 4].exp()).log()).bind(exact_lm.backbone)
    now = latents(exact_lm, torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(3)))
    process = exact_lm.backbone.process(1)
    free = process.predict(now, 0.5).log_probs
    guidance = TiltGuidance(exact_lm.backbone, process, [Group([wish], [1]), Group([], [0, 2])])
    guided = guidance.predict(now, 0.5)[0].log_probs
    assert guided[1, 1, 4] > free[1, 1, 4] + 0.1
    torch.testing.assert_close(guided[[0, 2]].exp(), free[[0, 2]].exp(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("schedule", "t", "weight"), [("rising", 0.8, 0.4), ("falling", 0.8, 1.6), ("constant", 0.8, 1.0)])
def test_a_tilt_follows_a_weight_s_schedule(exact_lm: LanguageModel, schedule: str, t: float, weight: float) -> None:
    """As if the control had the weight of the noise level for good."""
    process = exact_lm.backbone.process(1)
    now = latents(exact_lm, torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(3)))

    def energy(state: State) -> Tensor:
        return -(0.05 + state.log_probs[:, 1, 4].exp()).log()

    def after(wish: Control) -> Tensor:
        group = Group([wish.bind(exact_lm.backbone)], range(3))
        return TiltGuidance(exact_lm.backbone, process, [group]).predict(now, t)[0].log_probs

    scheduled = after(Control("toy", Energy(energy), schedule=schedule))
    torch.testing.assert_close(scheduled, after(control(energy, weight=weight)))


@pytest.mark.parametrize("reads", ["x_t", "x0", "log_probs"])
def test_energies_of_the_2022_update_read_the_model(exact_lm: LanguageModel, reads: str) -> None:
    asked: list[str] = []

    def energy(state: State) -> Tensor:
        assert state.lm is exact_lm.backbone
        asked.append(reads)
        values: Tensor = getattr(state, reads)
        return values[:, 0, 3]

    exact_lm.generate([Energy(energy, reads, Plan(min_words=3, max_words=3))], preset="paper", steps=20)
    assert asked
