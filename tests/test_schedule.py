"""Noise schedules and the choice of noise levels."""

from __future__ import annotations

import pytest
import torch

from dlm_control.diffusion.samplers import SPACINGS, noise_levels
from dlm_control.diffusion.schedule import SCHEDULES, noise_schedule
from dlm_control.support.errors import UsageError

NAMES = sorted(SCHEDULES)


@pytest.mark.parametrize(("index", "alpha_bar"), [(0, 0.98536), (1000, 0.2954), (1998, 2.0e-4)])
def test_sqrt_is_the_2022_schedule(index: int, alpha_bar: float) -> None:
    """Figures of the released code at T = 2000; its index i is our t = (i + 1) / T."""
    t = torch.tensor((index + 1) / 2000, dtype=torch.float64)
    assert float(noise_schedule("sqrt").alpha_bar(t)) == pytest.approx(alpha_bar, rel=2e-2 if index > 1000 else 2e-4)


@pytest.mark.parametrize(("index", "deviation"), [(0, 0.1210), (9, 0.249), (200, 0.557), (1000, 0.839)])
def test_sqrt_has_the_2022_noise(index: int, deviation: float) -> None:
    t = torch.tensor((index + 1) / 2000, dtype=torch.float64)
    assert float(noise_schedule("sqrt").alpha_sigma(t)[1]) == pytest.approx(deviation, abs=6e-4)


def test_sqrt_at_200_steps_has_the_2022_noise() -> None:
    first, middle = noise_schedule("sqrt").alpha_bar(torch.tensor([1 / 200, 101 / 200], dtype=torch.float64))
    assert float((1 - first).sqrt()) == pytest.approx(0.249, abs=5e-4)
    assert float(middle) == pytest.approx(0.2922, abs=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_schedules_preserve_variance_and_only_ever_lose_signal(name: str) -> None:
    schedule = noise_schedule(name)
    t = torch.linspace(0, 1, 501, dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(t)
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones_like(t))
    assert (alpha.diff() <= 0).all() and (alpha[1:-1].diff() < 0).all()
    assert float(alpha[0]) > 0.99 and float(alpha[-1]) < 0.02
    torch.testing.assert_close(schedule.log_snr(t), (alpha.square() / sigma.square()).log(), rtol=1e-6, atol=1e-6)
    assert schedule.log_snr(t).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 7, 50, 200])
def test_noise_levels_fall_from_one_to_zero(name: str, spacing: str, steps: int) -> None:
    levels = noise_levels(steps, noise_schedule(name), spacing)
    assert len(levels) == steps + 1
    assert levels[0] == 1.0 and levels[-1] == 0.0
    assert all(t > s for t, s in zip(levels, levels[1:], strict=False))


def test_uniform_and_quadratic_levels() -> None:
    schedule = noise_schedule("sqrt")
    assert noise_levels(4, schedule, "uniform") == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert noise_levels(4, schedule, "quadratic") == [1.0, 0.5625, 0.25, 0.0625, 0.0]


@pytest.mark.parametrize("name", NAMES)
def test_log_snr_levels_take_equal_steps_of_log_snr(name: str) -> None:
    schedule = noise_schedule(name)
    levels = torch.tensor(noise_levels(20, schedule, "log-snr"), dtype=torch.float64)
    steps = schedule.log_snr(levels).diff()
    inner = steps[1:-1]  # the first and the last step reach on to 1 and 0
    torch.testing.assert_close(inner, inner.mean().expand_as(inner), rtol=1e-2, atol=0)


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"unknown noise schedule 'cosin', did you mean 'cosine'\?.*there are: cosine"):
        noise_schedule("cosin")
    with pytest.raises(UsageError, match=r"spacing: unknown 'unifrom', did you mean 'uniform'\?"):
        noise_levels(5, noise_schedule("sqrt"), "unifrom")
