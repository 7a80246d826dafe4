"""Sampling texts under controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dlm_control.control.controller import Check, State
from dlm_control.control.use import Control
from dlm_control.diffusion.samplers import DDIM, noise_levels, sampler
from dlm_control.sampling.denoiser import Denoiser
from dlm_control.sampling.guidance import Guidance, PaperGuidance, TiltGuidance
from dlm_control.sampling.layout import Layout, Layouts
from dlm_control.sampling.presets import Preset
from dlm_control.sampling.sample import Sample
from dlm_control.sampling.selection import resampled, select
from dlm_control.sampling.trace import Trace
from dlm_control.support.errors import UsageError
from dlm_control.support.seeds import seeded

if TYPE_CHECKING:
    from dlm_control.pipeline import LanguageModel

STOP_BELOW = 0.5  # noise level from which an item may stop early
LANES = 4  # rows of every network call, whatever is asked for: a text's arithmetic never depends on its neighbours


def generate(
    lm: LanguageModel,
    controls: Sequence[Control],
    indices: Sequence[int],
    seed: int,
    preset: Preset,
    on_step: Callable[[int], None] = lambda done: None,
    skip_errors: bool = False,
    trace: Trace | None = None,
) -> list[Sample]:
    """One text for each index.

    Args:
        indices: numbers of the items; each has random numbers of its own, made of (seed, index).
        on_step: told how many lane-steps are done, for a progress bar.
        skip_errors: an item for which a control fails becomes a sample with an `error`, and the others live.
        trace: told what every control does at every step.

    Raises:
        UsageError: the controls contradict each other, or a control fails.
    """
    controls = [_under(preset, control) for control in controls]
    plans = [(control.name, control.controller.plan(lm)) for control in controls if control.weight > 0]
    layouts = Layouts(plans, lm.tokenizer, lm.model.config.length_counts, lm.model.config.max_canvas)
    copies = preset.candidates * preset.particles
    jobs = [_Job(i, c, layouts.draw(seeded(seed, i, c // preset.particles, "layout"))) for i in indices for c in range(copies)]
    by_item: dict[int, list[Sample]] = {i: [] for i in indices}
    run = _Run(lm, controls, seed, preset, on_step, trace)
    for chunk in _chunks(jobs, preset.particles):
        for sample in run.surviving(chunk) if skip_errors else run.samples(chunk):
            by_item[sample.index].append(sample)
    chosen = {i: _chosen(candidates, preset) for i, candidates in by_item.items()}
    return [chosen[i] for i in indices]


def _under(preset: Preset, control: Control) -> Control:
    """A control with the weight and the interval that a preset leaves it."""
    (low, high), (least, most) = control.interval, preset.interval
    interval = (max(low, least), min(high, most))
    if interval[0] >= interval[1]:
        raise UsageError(
            f"control {control.name}: its interval {list(control.interval)} and the preset's {list(preset.interval)} have no "
            "noise level in common; widen one"
        )
    return replace(control, weight=control.weight * preset.weight, interval=interval)


def _chosen(candidates: list[Sample], preset: Preset) -> Sample:
    """One of an item's candidates that did not fail, with the calls of all of them."""
    alive = [candidate for candidate in candidates if candidate.error is None]
    best = select(alive, preset.select) if alive else candidates[0]
    return replace(best, calls=sum(candidate.calls for candidate in candidates))


@dataclass(frozen=True)
class _Job:
    index: int
    copy: int
    layout: Layout


def _chunks(jobs: list[_Job], together: int) -> Iterator[list[_Job]]:
    """Jobs of one canvas, LANES at a time; the particles of an item stay together."""
    if together > 1:
        yield from (jobs[i : i + together] for i in range(0, len(jobs), together))
        return
    by_canvas: dict[int, list[_Job]] = {}
    for job in jobs:
        by_canvas.setdefault(job.layout.canvas, []).append(job)
    for same in by_canvas.values():
        yield from (same[i : i + LANES] for i in range(0, len(same), LANES))


@dataclass(frozen=True)
class _Run:
    """What the texts of one call have in common."""

    lm: LanguageModel
    controls: Sequence[Control]
    seed: int
    preset: Preset
    on_step: Callable[[int], None]
    trace: Trace | None

    def surviving(self, jobs: list[_Job]) -> list[Sample]:
        """As `samples`, but where a control fails every item tries again by itself, so that only its own failure counts."""
        traced = len(self.trace.moments) if self.trace else 0
        try:
            return self.samples(jobs)
        except UsageError as error:
            if self.trace:
                del self.trace.moments[traced:]
            items = list(dict.fromkeys(job.index for job in jobs))
            if len(jobs) == 1 or self.preset.particles > 1:
                return [Sample("", (), {}, {}, 0.0, self.seed, index, 0, str(error)) for index in items]
        return [sample for job in jobs for sample in self.surviving([job])]

    @torch.no_grad()
    def samples(self, jobs: list[_Job]) -> list[Sample]:
        """Texts of jobs that share a canvas. Rows left over repeat the last job and are thrown away."""
        lm, preset = self.lm, self.preset
        rows = jobs if preset.particles > 1 else jobs + [jobs[-1]] * (LANES - len(jobs))
        generators = [seeded(self.seed, job.index, job.copy, "noise") for job in rows]
        shape = (rows[0].layout.canvas, lm.model.config.dim)

        def noise() -> Tensor:
            return torch.stack([torch.randn(shape, generator=generator) for generator in generators])

        denoiser = Denoiser(lm, [job.layout for job in rows], preset.temperature, preset.clamp, preset.evidence)
        guidance = self._guidance(denoiser, [job.index for job in jobs])
        solver = sampler(preset.sampler)
        solver.start()
        resample_at = list(preset.resample_at) if preset.particles > 1 else []
        x, schedule = noise(), lm.model.schedule
        levels = noise_levels(preset.steps, schedule, preset.spacing)
        stopped: dict[int, Sample] = {}  # by row
        earlier: list[list[int]] = []
        for t, s in zip(levels[:-1], levels[1:], strict=True):
            state = guidance.denoise(x, t)
            if preset.early_stop and t <= STOP_BELOW:
                words = _ids(state)
                steady = {row for row in range(len(jobs)) if earlier and words[row] == earlier[row]} - stopped.keys()
                for row, sample in self._finished(denoiser, state, jobs, steady).items():
                    if sample.passed:
                        stopped[row] = sample
                if len(stopped) == len(jobs):
                    self.on_step(len(jobs) * (preset.steps - denoiser.calls + 1))
                    break
                earlier = words
            if isinstance(solver, DDIM) and guidance.needs_moments:
                mean, deviation = solver.moments(schedule, x, t, s, state.x0)
                x = guidance.after_step(mean + deviation * noise(), mean, deviation, t, s)
            else:
                x = solver.step(schedule, x, t, s, state.x0, noise)
            if resample_at and s <= resample_at[0]:
                resample_at.pop(0)
                survivors = resampled([self._checks(ids) for ids in _ids(state)], generators[0])
                x = x[survivors]
                guidance.keep(survivors)
                solver.keep(survivors)
            self.on_step(len(jobs))
        samples = stopped | self._finished(denoiser, state, jobs, set(range(len(jobs))) - stopped.keys())
        return [samples[row] for row in range(len(jobs))]

    def _guidance(self, denoiser: Denoiser, indices: list[int]) -> Guidance:
        preset = self.preset
        if preset.guidance == "paper":
            return PaperGuidance(denoiser, self.controls, strength=preset.strength)
        guidance = TiltGuidance(denoiser, self.controls, preset.scale, preset.conflict, preset.lagrangian)
        if self.trace is not None:
            self.trace.start(indices)
            guidance.trace = self.trace
        return guidance

    def _checks(self, ids: list[int]) -> dict[str, Check]:
        text = self.lm.tokenizer.join(self.lm.tokenizer.convert_ids_to_tokens(ids))
        return {control.name: control.check(text) for control in self.controls}

    def _finished(self, denoiser: Denoiser, state: State, jobs: list[_Job], wanted: set[int]) -> dict[int, Sample]:
        """The wanted rows of a state as samples."""
        assert state.logits is not None
        if not wanted:
            return {}
        text = denoiser.finished(state.logits.argmax(-1))
        energies = {c.name: c.final_energy(text) for c in self.controls if c.controller.reads is not None and c.weight > 0}
        log_probs, found = state.logits.max(-1).values.sum(-1), {}
        for row, ids in enumerate(_ids(state)):
            if row in wanted:
                words = self.lm.tokenizer.convert_ids_to_tokens(ids)
                found[row] = Sample(
                    text=self.lm.tokenizer.join(words),
                    words=tuple(words),
                    checks=self._checks(ids),
                    energies={name: round(float(energy[row]), 4) for name, energy in energies.items()},
                    log_prob=round(float(log_probs[row]), 4),
                    seed=self.seed,
                    index=jobs[row].index,
                    calls=denoiser.calls,
                )
        return found


def _ids(state: State) -> list[list[int]]:
    """The likeliest words of each row, up to its END."""
    assert state.logits is not None
    return [state.lm.tokenizer.until_end(row) for row in state.logits.argmax(-1).tolist()]
