"""Sampling texts under controls."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dlm_control.controller import Check, State
from dlm_control.denoiser import Denoiser
from dlm_control.guidance import GUIDANCES, Control, Guidance, PaperGuidance
from dlm_control.layout import Layout, Layouts
from dlm_control.presets import Preset
from dlm_control.samplers import DDIM, noise_levels, sampler
from dlm_control.selection import resampled, select

if TYPE_CHECKING:
    from dlm_control.language_model import LanguageModel

LANES = 4  # rows of every network call, whatever is asked for: a text's arithmetic never depends on its neighbours


@dataclass(frozen=True)
class Sample:
    """One finished text.

    Attributes:
        text: as written; `words`: as the model wrote them.
        checks: what each control says of it.
        energies: −log p(control | text) in nats, as the controls' guides judge the finished text.
        log_prob: sum of the words' log-probabilities in the last denoising step, in nats.
        seed, index: with the spec and the preset, they give the same text again, alone or in any batch.
        calls: network calls spent on it.
    """

    text: str
    words: tuple[str, ...]
    checks: dict[str, Check]
    energies: dict[str, float]
    log_prob: float
    seed: int
    index: int
    calls: int

    @property
    def passed(self) -> bool:
        """Every check passed."""
        return all(check.passed for check in self.checks.values())

    def __str__(self) -> str:
        return self.text


def generate(
    lm: LanguageModel,
    controls: Sequence[Control],
    indices: Sequence[int],
    seed: int,
    preset: Preset,
    on_step: Callable[[int], None] = lambda done: None,
) -> list[Sample]:
    """One text for each index.

    Args:
        indices: numbers of the items; each has random numbers of its own, made of (seed, index).
        on_step: told how many lane-steps are done, for a progress bar.

    Raises:
        UsageError: the controls contradict each other.
    """
    plans = [(control.name, control.controller.plan(lm)) for control in controls if control.weight > 0]
    layouts = Layouts(plans, lm.tokenizer, lm.model.config.length_counts, lm.model.config.max_canvas)
    copies = preset.candidates * preset.particles
    jobs = [
        _Job(i, c, layouts.draw(_generator(seed, i, c // preset.particles, "layout"))) for i in indices for c in range(copies)
    ]
    by_item: dict[int, list[Sample]] = {i: [] for i in indices}
    for chunk in _chunks(jobs, preset.particles):
        for job, sample in zip(chunk, _sample(lm, controls, chunk, seed, preset, on_step), strict=True):
            by_item[job.index].append(sample)
    chosen = {i: select(candidates, preset.select) for i, candidates in by_item.items()}
    return [chosen[i] for i in indices]


@dataclass(frozen=True)
class _Job:
    index: int
    copy: int
    layout: Layout


def _generator(seed: int, index: int, copy: int, purpose: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{index}/{copy}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


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


@torch.no_grad()
def _sample(
    lm: LanguageModel,
    controls: Sequence[Control],
    jobs: list[_Job],
    seed: int,
    preset: Preset,
    on_step: Callable[[int], None],
) -> list[Sample]:
    """Texts of jobs that share a canvas. Rows left over repeat the last job and are thrown away."""
    rows = jobs if preset.particles > 1 else jobs + [jobs[-1]] * (LANES - len(jobs))
    generators = [_generator(seed, job.index, job.copy, "noise") for job in rows]
    shape = (rows[0].layout.canvas, lm.model.config.dim)

    def noise() -> Tensor:
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators])

    denoiser = Denoiser(lm, [job.layout for job in rows], preset.temperature, preset.clamp, preset.evidence)
    guidance = _guidance(denoiser, controls, preset)
    solver = sampler(preset.sampler)
    solver.start()
    resample_at = list(preset.resample_at) if preset.particles > 1 else []
    x, schedule = noise(), lm.model.schedule
    levels = noise_levels(preset.steps, schedule, preset.spacing)
    for t, s in zip(levels[:-1], levels[1:], strict=True):
        state = guidance.denoise(x, t)
        if isinstance(solver, DDIM) and guidance.needs_moments:
            mean, deviation = solver.moments(schedule, x, t, s, state.x0)
            x = guidance.after_step(mean + deviation * noise(), mean, deviation, t, s)
        else:
            x = solver.step(schedule, x, t, s, state.x0, noise)
        if resample_at and s <= resample_at[0]:
            resample_at.pop(0)
            survivors = resampled([_checks(controls, lm, ids) for ids in _ids(state)], generators[0])
            x = x[survivors]
            guidance.keep(survivors)
            solver.keep(survivors)
        on_step(len(jobs))
    return _finished(lm, controls, guidance.denoiser, state, [job.index for job in jobs], seed, preset)


def _guidance(denoiser: Denoiser, controls: Sequence[Control], preset: Preset) -> Guidance:
    if preset.guidance == "paper":
        return PaperGuidance(denoiser, controls, strength=preset.strength)
    return GUIDANCES[preset.guidance](denoiser, controls)


def _ids(state: State) -> list[list[int]]:
    """The likeliest words of each row, up to its END."""
    assert state.logits is not None
    return [state.lm.tokenizer.until_end(row) for row in state.logits.argmax(-1).tolist()]


def _checks(controls: Sequence[Control], lm: LanguageModel, ids: list[int]) -> dict[str, Check]:
    text = lm.tokenizer.join(lm.tokenizer.convert_ids_to_tokens(ids))
    return {control.name: control.controller.check(text) for control in controls}


def _finished(
    lm: LanguageModel,
    controls: Sequence[Control],
    denoiser: Denoiser,
    state: State,
    indices: Sequence[int],
    seed: int,
    preset: Preset,
) -> list[Sample]:
    """The first rows of the last state as samples."""
    assert state.logits is not None
    text = denoiser.finished(state.logits.argmax(-1))
    energies = {c.name: c.final_energy(text) for c in controls if c.controller.reads is not None and c.weight > 0}
    log_probs = state.logits.max(-1).values.sum(-1)
    samples = []
    for row, (index, ids) in enumerate(zip(indices, _ids(state), strict=False)):
        words = lm.tokenizer.convert_ids_to_tokens(ids)
        samples.append(
            Sample(
                text=lm.tokenizer.join(words),
                words=tuple(words),
                checks=_checks(controls, lm, ids),
                energies={name: round(float(energy[row]), 4) for name, energy in energies.items()},
                log_prob=round(float(log_probs[row]), 4),
                seed=seed,
                index=index,
                calls=denoiser.calls * preset.candidates * preset.particles,
            )
        )
    return samples
