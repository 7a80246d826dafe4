"""Details of guidance: the defaults of 2022, calls, weak pushes, and what the energy of a finished text reads."""

from __future__ import annotations

import torch
from exact_model import Energy, Given, control, latents
from test_paper_guidance import Moments, bowl
from torch import Tensor

from dlm_control import LanguageModel, Plan, State
from dlm_control.control.columns import Columns, covariance
from dlm_control.diffusion.backbone import Latents, Prediction
from dlm_control.sampling.guidance import Group, PaperGuidance, without_conflict


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
