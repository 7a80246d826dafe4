"""Sampling texts under controls."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from dlm_control.control.controller import Check, Controller
from dlm_control.control.use import BoundControl, Control, with_unique_names
from dlm_control.diffusion.backbone import Backbone, Draws, Latents, Prediction, Process
from dlm_control.sampling.firmness import firmness
from dlm_control.sampling.guidance import Group, Guidance, Guided, PaperGuidance, TiltGuidance, finished_state
from dlm_control.sampling.layout import Layout, Layouts
from dlm_control.sampling.particles import Particles, Population, drawn, final_twist
from dlm_control.sampling.presets import Preset, check_kind
from dlm_control.sampling.sample import Sample
from dlm_control.sampling.selection import select
from dlm_control.sampling.trace import Recorder, Step
from dlm_control.support.errors import UsageError
from dlm_control.support.seeds import seeded

T = TypeVar("T")

STOP_BELOW = 0.5  # noise level from which an item may stop early
CPU_ROWS, DEVICE_ROWS = 4, 64  # of a network call, where the preset does not say


@dataclass(frozen=True)
class Request:
    """Texts under one set of controls.

    Attributes:
        controls: controllers, or Controls where a weight, an interval or a name is wanted.
        indices: numbers of the texts; each has random numbers of its own, made of (seed, index).
        seed: of the request.
    """

    controls: Sequence[Controller | Control]
    indices: Sequence[int] = (0,)
    seed: int = 0


Run = Generator[Step, bool | None, T]  # yields steps, is sent True to stop


def generate(
    lm: Backbone, requests: Sequence[Request], preset: Preset, skip_errors: bool = False, record: bool = False
) -> Run[list[list[Sample]]]:
    """A text for each index of each request. Requests share network calls, and no text depends on its company.

    Args:
        lm: the model.
        requests: what to write.
        preset: how.
        skip_errors: an item for which a control fails becomes a sample with an `error`, and the others live.
        record: put drafts into the steps; their indices are those of the request, so there should be one.

    Yields:
        Each step when it is done. Who sends True back stops the run: a text none of whose candidates is finished becomes a
        sample with an `error`.

    Raises:
        UsageError: the controls contradict each other or the model, a control fails, or the preset is for models of another
            kind.
    """
    run, tasks, copies = yield from _written(lm, requests, preset, skip_errors, record)
    return [[run.chosen(task, number, task.copies(copies, number)) for number in task.request.indices] for task in tasks]


def populate(lm: Backbone, request: Request, preset: Preset) -> Run[Population]:
    """All particles of the first text of a request, with their weights.

    Raises:
        UsageError: as `generate`.
    """
    _, [task], copies = yield from _written(lm, [request], preset, skip_errors=False, record=False)
    return Population(tuple(task.copies(copies, request.indices[0])))


def _written(
    lm: Backbone, requests: Sequence[Request], preset: Preset, skip_errors: bool, record: bool
) -> Run[tuple[_Run, list[_Task], _Copies]]:
    """Every candidate and particle of every text."""
    check_kind(preset, lm.kind, lm.settings)
    jobs, tasks = [], [_Task.of(lm, request, preset) for request in requests]
    for task in tasks:
        for index in task.request.indices:
            for candidate in range(preset.candidates):
                layout = task.layouts.draw(seeded(task.request.seed, index, candidate, "layout"))
                first = candidate * preset.particles
                jobs += [_Job(task, index, copy, layout) for copy in range(first, first + preset.particles)]
    run, copies = _Run(lm, preset, record), _Copies()
    for batch in _batches(jobs, run.rows, preset.particles):
        if run.stopped:
            samples = [job.failed(run.stopped) for job in batch]
        else:
            samples = yield from (run.surviving(batch) if skip_errors else run.samples(batch))
        for job, sample in zip(batch, samples, strict=True):  # they are done in an order that their company decides
            copies.setdefault((id(job.task), job.index), {})[job.copy] = sample
    return run, tasks, copies


def rows_of_call(lm: Backbone, preset: Preset) -> int:
    """How many texts, or candidates of texts, share a network call."""
    return preset.batch_size or (CPU_ROWS if lm.device.type == "cpu" else DEVICE_ROWS)


def row_steps(requests: Sequence[Request], preset: Preset) -> int:
    """The work of requests, as steps count it (`Step.done`)."""
    return sum(len(request.indices) for request in requests) * preset.calls()


_Copies = dict[tuple[int, int], dict[int, Sample]]  # by task and index, then by number of the copy


@dataclass(frozen=True, eq=False)
class _Task:
    """A request resolved for a model."""

    request: Request
    controls: Sequence[BoundControl]
    layouts: Layouts

    @classmethod
    def of(cls, lm: Backbone, request: Request, preset: Preset) -> _Task:
        controls = [under(preset, control).bind(lm) for control in with_unique_names(request.controls)]
        plans = [(control.control.name, control.plan) for control in controls if control.control.weight > 0]
        return cls(request, controls, Layouts(plans, lm.tokenizer, lm.length_counts, lm.max_seq_len))

    def copies(self, found: _Copies, index: int) -> list[Sample]:
        """The candidates of one of its texts, in order."""
        return [sample for _, sample in sorted(found[id(self), index].items())]

    def checks(self, text: str) -> dict[str, Check]:
        """What every control says of a text."""
        return {control.control.name: control.control.check(text) for control in self.controls}


@dataclass(frozen=True)
class _Job:
    task: _Task
    index: int
    copy: int
    layout: Layout

    @cached_property
    def given(self) -> dict[int, str]:
        """By position, the control that fixed the word before sampling."""
        return self.task.layouts.given(self.layout)

    def failed(self, why: str) -> Sample:
        """In place of a text, what went wrong with it."""
        return Sample("", (), {}, {}, None, self.task.request.seed, self.index, 0, error=why)


def under(preset: Preset, control: Control) -> Control:
    """A control with the weight and the interval that a preset leaves it."""
    (low, high), (least, most) = control.interval, preset.interval
    interval = (max(low, least), min(high, most))
    if interval[0] >= interval[1]:
        raise UsageError(
            f"control {control.name}: its interval {list(control.interval)} and the preset's {list(preset.interval)} have no "
            "noise level in common; widen one"
        )
    return replace(control, weight=control.weight * preset.weight, interval=interval)


def _batches(jobs: Sequence[_Job], rows: int, particles: int) -> Iterator[list[_Job]]:
    """Jobs of one sequence length, so many at a time; the particles of an item stay together."""
    if particles > 1:
        yield from (list(jobs[i : i + particles]) for i in range(0, len(jobs), particles))
        return
    by_seq_len: dict[int, list[_Job]] = {}
    for job in jobs:
        by_seq_len.setdefault(job.layout.seq_len, []).append(job)
    for same in by_seq_len.values():
        yield from (same[i : i + rows] for i in range(0, len(same), rows))


class _RowDraws(Draws):
    """Random numbers of rows, drawn on the CPU: the same on every device."""

    def __init__(self, jobs: Sequence[_Job], device: torch.device) -> None:
        self.generators = [seeded(job.task.request.seed, job.index, job.copy, "noise") for job in jobs]
        self.device = device

    def normal(self, *shape: int) -> Tensor:
        return torch.stack([torch.randn(shape, generator=generator) for generator in self.generators]).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        return torch.stack([torch.rand(shape, generator=generator) for generator in self.generators]).to(self.device)


@dataclass
class _Run:
    """What the texts of one call have in common.

    Attributes:
        lm, preset, record: as `generate`.
        stopped: where it was stopped, in words.
        rows: of a network call.
    """

    lm: Backbone
    preset: Preset
    record: bool
    stopped: str = ""
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.rows = rows_of_call(self.lm, self.preset)

    def chosen(self, task: _Task, index: int, copies: list[Sample]) -> Sample:
        """One of an item's candidates that did not fail, with its checks and the calls of all."""
        candidates, size = copies, self.preset.particles
        if size > 1:
            groups = [copies[start : start + size] for start in range(0, len(copies), size)]
            seed = task.request.seed
            candidates = [drawn(group, seeded(seed, index, number, "particle")) for number, group in enumerate(groups)]
        alive = [candidate for candidate in candidates if candidate.error is None]
        best = select(alive, self.preset.select) if alive else candidates[0]
        if best.error is None and not best.checks:
            best = replace(best, checks=task.checks(best.text))
        held = {control.control.name: firmness(control, self.preset) for control in task.controls}
        return replace(best, calls=sum(copy.calls for copy in copies), firmness=held)

    def surviving(self, jobs: list[_Job]) -> Generator[Step, bool | None, list[Sample]]:
        """As `samples`, but where a control fails every item tries again by itself, so that only its own failure counts."""
        try:
            return (yield from self.samples(jobs))
        except UsageError as error:
            if len(jobs) == 1 or self.preset.particles > 1:
                return [job.failed(str(error)) for job in jobs]
        alone = []
        for job in jobs:
            alone += [job.failed(self.stopped)] if self.stopped else (yield from self.surviving([job]))
        return alone

    @torch.no_grad()
    def samples(self, jobs: list[_Job]) -> Generator[Step, bool | None, list[Sample]]:
        """Texts of jobs of one sequence length. Rows left over repeat the last job and are thrown away.

        With particles all jobs are of one item.
        """
        preset, device = self.preset, self.lm.device
        rows = jobs if preset.particles > 1 else jobs + [jobs[-1]] * (self.rows - len(jobs))
        draws, process, groups = _RowDraws(rows, device), self._process(), _groups(rows)
        recorder = Recorder(self.lm.tokenizer, [job.given for job in rows]) if self.record else None
        guidance = self._guidance(process, groups, recorder)
        latents = process.start(
            torch.stack([job.layout.allowed for job in rows]).to(device),
            torch.tensor([job.layout.words for job in rows], device=device),
            draws,
        )
        particles = self._particles(jobs)
        log_ratio = torch.zeros(len(rows), device=device)  # of the last step, for particles
        finished: dict[int, Sample] = {}  # by row
        earlier: list[list[int]] = []
        for number, (t, s) in enumerate(zip(process.levels[:-1], process.levels[1:], strict=True), 1):
            guided, latents = guidance.predict(latents, t)
            if particles and isinstance(guided, Guided):
                particles.weigh(log_ratio, guided.twist, self._texts(process, latents, guided), share=1 - t)
                survivors = particles.survivors()
                if survivors is not None:
                    survivors = survivors.to(device)
                    latents, guided = latents.rows(survivors), guided.rows(survivors)
                    if recorder:
                        recorder.follow(survivors)
            standing, open_rows = process.words(latents, guided), [row for row in range(len(jobs)) if row not in finished]
            if preset.early_stop and t <= STOP_BELOW:
                words = self._words(process, latents, guided)
                steady = {row for row in open_rows if earlier and words[row] == earlier[row]}
                for row, sample in self._finished(process, latents, guided, groups, jobs, steady).items():
                    sample = replace(sample, checks=jobs[row].task.checks(sample.text))
                    if sample.passed:
                        finished[row] = sample
                earlier = words
            steps_done = 1 if len(finished) < len(jobs) else 1 + preset.steps - number
            if len(finished) < len(jobs):
                before, latents = latents, guidance.step(latents, guided, t, s, draws)
                if particles and isinstance(guided, Guided):
                    log_ratio = process.log_ratio(before, latents, guided.free, guided, t, s)
            drafts = []
            if recorder:
                ids = process.words(latents, guided)
                ids[list(finished)] = standing[list(finished)]
                drafts = recorder.drafts({row: (jobs[row].index, jobs[row].copy) for row in open_rows}, ids, guided.log_probs)
            if (yield Step(number, preset.steps, t, len(jobs) * steps_done, drafts)):
                self.stopped = f"stopped after step {number} of {preset.steps}"
            if len(finished) == len(jobs) or (self.stopped and number < preset.steps):
                break
        else:
            left = set(range(len(jobs))) - finished.keys()
            finished |= self._finished(process, latents, guided, groups, jobs, left)
            if particles:
                done = [finished[row] for row in range(len(jobs))]
                twist = final_twist([sample.energies for sample in done], jobs[0].task.controls)
                particles.weigh(log_ratio, twist, [sample.text for sample in done], share=1.0)
                weights = enumerate(particles.log_weights)
                finished = {row: replace(finished[row], log_weight=weight) for row, weight in weights}
        return [finished[row] if row in finished else job.failed(self.stopped) for row, job in enumerate(jobs)]

    def _particles(self, jobs: Sequence[_Job]) -> Particles | None:
        """The weights of jobs that are an item's particles."""
        if self.preset.particles == 1:
            return None
        job = jobs[0]
        generator = seeded(job.task.request.seed, job.index, job.copy // self.preset.particles, "resampling")
        return Particles(len(jobs), self.preset.resample_below, generator, job.task.controls)

    def _process(self) -> Process:
        settings = {name: getattr(self.preset, name) for name in self.lm.settings}
        return self.lm.process(self.preset.steps, **settings)

    def _guidance(self, process: Process, groups: Sequence[Group], recorder: Recorder | None) -> Guidance:
        preset = self.preset
        if preset.guidance == "paper":
            return PaperGuidance(self.lm, process, groups, fluency_weight=preset.fluency_weight)
        return TiltGuidance(self.lm, process, groups, preset.scale, preset.conflict, preset.lagrangian, recorder)

    def _words(self, process: Process, latents: Latents, guided: Prediction) -> list[list[int]]:
        """The words of each row as they stand, up to its END."""
        return [self.lm.tokenizer.until_end(row) for row in process.words(latents, guided).tolist()]

    def _texts(self, process: Process, latents: Latents, guided: Prediction) -> list[str]:
        """The text of each row as it stands."""
        return [self._text(ids) for ids in self._words(process, latents, guided)]

    def _text(self, ids: list[int]) -> str:
        return self.lm.tokenizer.join(self.lm.tokenizer.convert_ids_to_tokens(ids))

    def _finished(
        self,
        process: Process,
        latents: Latents,
        guided: Prediction,
        groups: Sequence[Group],
        jobs: list[_Job],
        expected: set[int],
    ) -> dict[int, Sample]:
        """The expected rows as samples; checks are asked where the choice needs them."""
        if not expected:
            return {}
        ids = process.words(latents, guided)
        energies = self._energies(ids, latents, groups)
        nats, calls = None, process.calls
        if self.preset.select == "likelihood":
            nats, calls = self.lm.nats_per_word(ids, latents.length).tolist(), calls + self.lm.likelihood_calls
        found = {}
        for row, each in enumerate(self._words(process, latents, guided)):
            if row in expected:
                text = self._text(each)
                found[row] = Sample(
                    text=text,
                    words=tuple(self.lm.tokenizer.convert_ids_to_tokens(each)),
                    checks=jobs[row].task.checks(text) if self.preset.select == "checks" else {},
                    energies=energies[row],
                    nats_per_word=None if nats is None else round(nats[row], 4),
                    seed=jobs[row].task.request.seed,
                    index=jobs[row].index,
                    calls=calls,
                )
        return found

    def _energies(self, ids: Tensor, latents: Latents, groups: Sequence[Group]) -> list[dict[str, float]]:
        """−log p(control | text) of each row, by the controls' guides."""
        text = finished_state(self.lm, ids, latents.length)
        found: list[dict[str, float]] = [{} for _ in ids]
        for group in groups:
            own = text if len(groups) == 1 else text.rows(group.filled(len(ids), ids.device))
            for control in group.controls:
                if control.judges:
                    for row, energy in zip(group.rows, control.final_energy(own).tolist(), strict=False):
                        found[row][control.control.name] = round(energy, 4)
        return found


def _groups(jobs: Sequence[_Job]) -> list[Group]:
    """Rows by task."""
    by_task: dict[int, list[int]] = {}
    for row, job in enumerate(jobs):
        by_task.setdefault(id(job.task), []).append(row)
    return [Group(jobs[rows[0]].task.controls, rows) for rows in by_task.values()]
