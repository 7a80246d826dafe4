"""Solvers against a Gaussian, N(MEAN, VARIANCE), whose denoiser and probability flow are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from dlm_control.diffusion.samplers import (
    DDIM,
    SAMPLERS,
    Ancestral,
    DPMSolverPP2M,
    Memory,
    Noise,
    Sampler,
    noise_levels,
    sampler,
)
from dlm_control.diffusion.schedule import noise_schedule
from dlm_control.support.errors import UsageError

MEAN, VARIANCE = 0.7, 0.35
SMOOTH = noise_schedule("loglinear")
STEPS = (16, 32, 64, 128, 256)


def marginal(t: float, schedule_name: str = "loglinear") -> tuple[float, float]:
    """Mean and variance of x_t."""
    alpha, sigma = noise_schedule(schedule_name).alpha_sigma(torch.tensor(t, dtype=torch.float64))
    return float(alpha) * MEAN, float(alpha) ** 2 * VARIANCE + float(sigma) ** 2


def denoised(x_t: Tensor, t: float, schedule_name: str = "loglinear") -> Tensor:
    """E[x0 | x_t]."""
    alpha = float(noise_schedule(schedule_name).alpha_sigma(torch.tensor(t, dtype=torch.float64))[0])
    mean, variance = marginal(t, schedule_name)
    return MEAN + alpha * VARIANCE / variance * (x_t - mean)


def flowed(x_t: Tensor, t: float, s: float) -> Tensor:
    """x_s on the probability-flow trajectory through x_t: quantiles are kept."""
    (mean_t, variance_t), (mean_s, variance_s) = marginal(t), marginal(s)
    return mean_s + math.sqrt(variance_s / variance_t) * (x_t - mean_t)


def solve(solver: Sampler, x: Tensor, levels: list[float], noise: Callable[[int], Tensor], name: str = "loglinear") -> Tensor:
    """The end of a trajectory; noise(k) is what step k gets."""
    memory: Memory = {}
    for k, (t, s) in enumerate(zip(levels, levels[1:], strict=False)):
        drawn: Noise = lambda k=k: noise(k)  # type: ignore[misc]  # noqa: E731
        x, memory = solver.step(noise_schedule(name), x, t, s, denoised(x, t, name), drawn, memory)
    return x


def end_moments(solver: Sampler, levels: list[float], name: str = "loglinear") -> tuple[float, float]:
    """Exact mean and variance of a stochastic solver's end when it starts from the true marginal.

    The denoiser is linear, so the end is an affine function of the start and of each step's noise: one row of the batch
    carries the mean, one the start's deviation, and one the noise of each step.
    """
    steps, (mean, variance) = len(levels) - 1, marginal(levels[0], name)
    x = torch.full((steps + 2, 1, 1), mean, dtype=torch.float64)
    x[1] += math.sqrt(variance)
    end = solve(solver, x, levels, lambda k: torch.eye(steps + 2, dtype=torch.float64)[k + 2][:, None, None], name)
    return float(end[0]), float((end[1:] - end[0]).square().sum())


def order(errors: list[float]) -> float:
    """Slope of log error over log step."""
    return -float(np.polyfit(np.log(STEPS), np.log(errors), 1)[0])


@pytest.mark.parametrize(("make", "expected"), [(DDIM, 1), (DPMSolverPP2M, 2)])
def test_deterministic_solvers_converge_at_their_order(make: Callable[[], Sampler], expected: int) -> None:
    x = torch.tensor([-2.0, -0.3, 0.4, 1.9], dtype=torch.float64)[:, None, None]
    errors = []
    for steps in STEPS:
        levels = np.linspace(0.95, 0.05, steps + 1).tolist()
        end = solve(make(), x, levels, lambda k: pytest.fail("drew noise"))
        errors.append(float((end - flowed(x, 0.95, 0.05)).abs().max()))
    assert order(errors) == pytest.approx(expected, abs=0.15)
    assert errors[-1] < 10 ** (-1 - expected)
    assert make().order == expected


@pytest.mark.parametrize("name", ["ancestral", "ddim-eta1", "dpmpp-2m-sde"])
def test_stochastic_solvers_converge_in_distribution(name: str) -> None:
    mean, variance = marginal(0.05)
    errors = []
    for steps in STEPS:
        got_mean, got_variance = end_moments(sampler(name), np.linspace(0.95, 0.05, steps + 1).tolist())
        assert got_mean == pytest.approx(mean)
        errors.append(abs(got_variance - variance))
    expected = sampler(name).order
    assert order(errors) == pytest.approx(expected, abs=0.2)
    assert errors[-1] < 10 ** (-1 - expected)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("schedule", ["sqrt", "cosine", "loglinear"])
def test_whole_runs_end_in_the_data(name: str, schedule: str) -> None:
    """From pure noise down to t = 0. Quadratic: the last answer keeps only the variance that its noise level leaves."""
    levels = noise_levels(300, noise_schedule(schedule), "quadratic")
    generator = torch.Generator().manual_seed(1)

    def noise(k: int) -> Tensor:
        return torch.randn(20_000, 1, 1, generator=generator, dtype=torch.float64)

    end = solve(sampler(name), noise(-1), levels, noise, schedule)
    assert float(end.mean()) == pytest.approx(MEAN, abs=0.015)
    assert float(end.var()) == pytest.approx(VARIANCE, rel=0.05)
    spread = (end - end.mean()) / end.std()
    assert float(spread.pow(4).mean()) == pytest.approx(3, abs=0.2)  # Gaussian


@pytest.mark.parametrize(("t", "s"), [(0.9, 0.8), (0.5, 0.1), (0.02, 0.005)])
def test_ancestral_is_ddim_of_eta_one(t: float, s: float) -> None:
    schedule = noise_schedule("sqrt")
    x_t, x0, z = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(
        Ancestral().step(schedule, x_t, t, s, x0, lambda: z, {})[0], DDIM(1.0).step(schedule, x_t, t, s, x0, lambda: z, {})[0]
    )


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_known_x0_gives_the_exact_forward_marginal(name: str) -> None:
    """With the true x0 as answer and x_t ~ q(x_t | x0), x_s ~ q(x_s | x0) in a single step of any size."""
    schedule, t, s, x0 = noise_schedule("sqrt"), 0.8, 0.3, torch.full((3, 1, 1), 1.3, dtype=torch.float64)
    (alpha_t, alpha_s), (sigma_t, sigma_s) = schedule.alpha_sigma(torch.tensor([t, s], dtype=torch.float64))
    x_t, z = alpha_t * x0, torch.zeros_like(x0)
    x_t[1] += sigma_t
    z[2] = 1
    solver = sampler(name)
    x_s, _ = solver.step(schedule, x_t, t, s, x0, lambda: z, {})
    assert float(x_s[0]) == pytest.approx(float(alpha_s) * 1.3)
    assert float((x_s[1:] - x_s[0]).square().sum()) == pytest.approx(float(sigma_s) ** 2)
    assert solver.stochastic == bool(x_s[2] != x_s[0])


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_the_last_step_lands_on_x0(name: str) -> None:
    solver, schedule = sampler(name), noise_schedule("sqrt")
    x_t, x0 = torch.randn(2, 3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, memory = solver.step(schedule, x_t, 0.2, 0.1, -x0, lambda: torch.zeros_like(x_t), {})
    end, _ = solver.step(schedule, x_t, 0.1, 0.0, x0, lambda: torch.ones_like(x_t), memory)
    torch.testing.assert_close(end, x0, atol=1e-2, rtol=0)  # σ(0) = 0.001


def test_moments_of_ddim_are_what_its_step_draws() -> None:
    schedule, solver = noise_schedule("sqrt"), DDIM(eta=0.6)
    x_t, x0, z = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    mean, deviation, _ = solver.moments(schedule, x_t, 0.7, 0.6, x0, {})
    torch.testing.assert_close(solver.step(schedule, x_t, 0.7, 0.6, x0, lambda: z, {})[0], mean + deviation * z)
    full = DDIM(eta=1.0).moments(schedule, x_t, 0.7, 0.6, x0, {})[1]
    assert deviation == pytest.approx(0.6 * full)


def test_a_multistep_solver_forgets_and_follows_a_resampling() -> None:
    schedule, solver = noise_schedule("loglinear"), DPMSolverPP2M()
    x, first, second = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    survivors = torch.tensor([2, 2, 0, 3])

    def no_noise() -> Tensor:
        raise AssertionError("a deterministic solver drew noise")

    alone, _ = solver.step(schedule, x, 0.6, 0.5, second, no_noise, {})
    _, memory = solver.step(schedule, x, 0.7, 0.6, first, no_noise, {})
    straight, _ = solver.step(schedule, x, 0.6, 0.5, second, no_noise, memory)
    assert not torch.allclose(straight, alone)  # it does remember
    resampled = {name: value[survivors] for name, value in memory.items()}
    followed, _ = solver.step(schedule, x[survivors], 0.6, 0.5, second[survivors], no_noise, resampled)
    torch.testing.assert_close(followed, straight[survivors])
    torch.testing.assert_close(solver.step(schedule, x, 0.6, 0.5, second, no_noise, {})[0], alone)  # nothing in the solver


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_step_keeps_what_others_remember(name: str) -> None:
    """Guidance and self-conditioning keep their own in the same memory; all of it is one row an item."""
    x_t, x0 = torch.randn(2, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    given = {"another's": torch.arange(3.0)}
    _, memory = sampler(name).step(noise_schedule("sqrt"), x_t, 0.6, 0.5, x0, lambda: torch.zeros_like(x_t), given)
    assert torch.equal(memory["another's"], torch.arange(3.0)) and given.keys() == {"another's"}
    assert all(len(value) == 3 for value in memory.values())


def test_samplers_by_name_are_new_each_time() -> None:
    assert sampler("dpmpp-2m") is not sampler("dpmpp-2m")
    with pytest.raises(UsageError, match=r"sampler: unknown 'dpmpp2m', did you mean 'dpmpp-2m'\?; there are: ancestral"):
        sampler("dpmpp2m")
