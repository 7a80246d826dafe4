"""Do samplers and noise schedules keep what the Gaussian model relies on?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from dlm_control.diffusion.samplers import Memory, Moments, Sampler, noise_levels
from dlm_control.diffusion.schedule import NoiseSchedule, noise_schedule
from dlm_control.testing.report import hold

_SHAPE = (3, 4, 5)  # of the states that samplers are given
_NEAR = 0.02  # at level 0 some noise is left: schedules keep log-SNR finite


def check_sampler(sampler: Sampler) -> None:
    """Hold a sampler to every rule of a sampler.

    Args:
        sampler: of the reverse process.

    Raises:
        ConformanceError: rules are broken; all in one report.
    """
    hold(f"sampler {type(sampler).__name__}", SAMPLER_RULES, sampler)


def _trajectory(sampler: Sampler) -> Iterator[tuple[float, Moments]]:
    """The steps of ten towards one answer, the noise left out; each with the level that it ends at."""
    torch.manual_seed(0)
    schedule, x_t = noise_schedule("sqrt"), torch.randn(_SHAPE, dtype=torch.float64)
    levels = noise_levels(10, schedule)
    memory: Memory = {}
    for t, s in zip(levels, levels[1:], strict=False):
        step = sampler.moments(schedule, x_t, t, s, torch.ones_like(x_t), memory)
        yield s, step
        x_t, memory = step.mean, step.memory


def _lands(sampler: Sampler) -> Iterator[str]:
    """Where all answers are the same, the last step ends there, without noise."""
    for s, step in _trajectory(sampler):
        if step.mean.shape != _SHAPE or not step.mean.isfinite().all():
            yield f"the step to {s:g} gives {tuple(step.mean.shape)}, expected {_SHAPE} of finite numbers"
            return
        if s == 0 and step.deviation != 0:
            yield f"the last step draws noise of deviation {step.deviation:g}, expected none"
        if s == 0 and (step.mean - 1).abs().max() > _NEAR:
            yield f"ends {float((step.mean - 1).abs().max()):.3g} from the answer that every step was given"


def _says_whether_it_draws(sampler: Sampler) -> Iterator[str]:
    """`stochastic` says whether steps draw noise."""
    drawn = any(step.deviation > 0 for _, step in _trajectory(sampler))
    if drawn != sampler.stochastic:
        yield f"stochastic is {sampler.stochastic}, and its steps draw {'noise' if drawn else 'none'}"


def _remembers_by_item(sampler: Sampler) -> Iterator[str]:
    """What it remembers has a row for each item, so that items can be resampled; it keeps nothing in itself."""
    before = dict(vars(sampler))
    for _, step in _trajectory(sampler):
        for key, value in step.memory.items():
            if len(value) != _SHAPE[0]:
                yield f"memory {key!r} has {len(value)} rows, expected one for each of {_SHAPE[0]} items"
                return
    if vars(sampler).keys() != before.keys():
        yield "a step leaves something in the sampler; put it into `memory`"


SAMPLER_RULES = {
    "lands": _lands, "says whether it draws": _says_whether_it_draws, "remembers by item": _remembers_by_item,
}  # fmt: skip


def check_schedule(schedule: NoiseSchedule) -> None:
    """Hold a noise schedule to every rule of a schedule.

    Args:
        schedule: of the forward process.

    Raises:
        ConformanceError: rules are broken; all in one report.
    """
    hold(f"schedule {type(schedule).__name__}", SCHEDULE_RULES, schedule)


def _falls(schedule: NoiseSchedule) -> Iterator[str]:
    """ᾱ falls from nearly 1 at t = 0 to nearly 0 at t = 1."""
    t = torch.linspace(0, 1, 201, dtype=torch.float64)
    alpha_bar = schedule.alpha_bar(t)
    if alpha_bar.shape != t.shape or not alpha_bar.isfinite().all():
        yield f"alpha_bar of {tuple(t.shape)} noise levels is {tuple(alpha_bar.shape)}, expected as many finite numbers"
        return
    if alpha_bar[0] < 0.9 or alpha_bar[-1] > 0.05:
        yield f"alpha_bar goes from {float(alpha_bar[0]):.3g} to {float(alpha_bar[-1]):.3g}, expected from about 1 to about 0"
    rising = (alpha_bar.diff() > 0).nonzero()
    if len(rising):
        yield f"alpha_bar rises at t = {float(t[int(rising[0])]):.3g}"


def _is_of_each_level(schedule: NoiseSchedule) -> Iterator[str]:
    """A level's value does not depend on the levels beside it."""
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    alone = [float(schedule.alpha_bar(each)) for each in t]
    if not all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(alone, schedule.alpha_bar(t).tolist(), strict=True)):
        yield "alpha_bar of one level differs from that of the level among others"


SCHEDULE_RULES = {"falls": _falls, "is of each level": _is_of_each_level}
