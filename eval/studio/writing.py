"""Runs as a page shows them: after every step the texts as they stand, and at the end what became of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import fmean

from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.presets import Preset
from dlm_control.sampling.sample import Sample
from dlm_control.sampling.trace import Draft, Trace
from dlm_control.tasks.explain import Row, rows, sentence, warnings
from dlm_control.tasks.film import Control, Film, Frame, film, frame, targets
from dlm_control.tasks.spec import Spec


@dataclass(frozen=True)
class Text:
    """One text at one moment.

    Attributes:
        number: of the text, from 1.
        frame: its words and energies.
        note: which candidate is being written; empty where there is one.
        sample: the text when the run is over.
    """

    number: int
    frame: Frame
    note: str = ""
    sample: Sample | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run leaves.

    Attributes:
        samples: the texts.
        film: of those that are finished; None where none is.
        rows: of the trace, averaged over texts.
        sentence, warnings: of `dlm explain`; empty where the guidance leaves no trace.
        seconds: that it took.
        stopped: before its end.
    """

    samples: Sequence[Sample]
    film: Film | None
    rows: Sequence[Row]
    sentence: str
    warnings: Sequence[str]
    seconds: float
    stopped: bool

    @property
    def obeying(self) -> int:
        """How many texts obey all controls."""
        return sum(sample.passed for sample in self.samples)


@dataclass(frozen=True)
class View:
    """What a page shows of a run.

    Attributes:
        controls: with the scale of their energies.
        texts: those that have begun.
        done: share of the work, in [0, 1].
        status: where the run is, in words.
        outcome: when it is over.
    """

    controls: tuple[Control, ...]
    texts: tuple[Text, ...]
    done: float
    status: str
    outcome: Outcome | None = None


def write(spec: Spec, lm: LanguageModel, stopped: Callable[[], bool]) -> Iterator[View]:
    """A run, step by step.

    Args:
        spec: without faults.
        lm: the spec's model.
        stopped: is asked after each step; True ends the run.

    Raises:
        UsageError: a control fails.
    """
    chosen, started, trace = spec.preset.for_model(lm.backbone), time.perf_counter(), Trace()
    names, wanted = [control.name for control in spec.controls], targets(spec)
    highest, last, done, ended = dict.fromkeys(names, 1.0), dict[int, Draft](), 0, False
    stream = lm.stream(spec.controls, spec.num_samples, spec.seed, chosen, on_error=spec.on_error)
    for step in stream:
        trace(step)
        done += step.done
        for draft in reversed(step.drafts):  # of several candidates in one call, the first is shown
            last[draft.index] = draft
            for name, effect in draft.effects.items():
                highest[name] = max(highest[name], effect.energy)
        controls = tuple(Control(name, target, highest[name]) for name, target in zip(names, wanted, strict=True))
        texts = tuple(Text(index + 1, frame(last[index], names), _note(last[index], chosen)) for index in sorted(last))
        yield View(
            controls, texts, min(1.0, done / (spec.num_samples * chosen.calls())), f"Writing, at noise level {step.t:.2f}"
        )
        if stopped():
            ended = True
            stream.stop()
    yield _end(spec, chosen, trace, stream.samples, time.perf_counter() - started, ended)


def side_by_side(
    specs: tuple[Spec, Spec], lm_of: Callable[[str], LanguageModel], stopped: Callable[[], bool]
) -> Iterator[tuple[View | None, View | None]]:
    """Two runs, step by step in turn; a run that is over stays as it is."""
    runs = [write(spec, lm_of(spec.model), stopped) for spec in specs]
    one: View | None = None
    other: View | None = None
    for first, second in zip_longest(*runs):
        one, other = first or one, second or other
        yield one, other


def seen_at(view: View, level: int) -> View:
    """A finished run at a noise level of its film; the last is the run as it is.

    Args:
        view: the run's last.
        level: from 0.
    """
    outcome = view.outcome
    if outcome is None or outcome.film is None or level >= len(outcome.film.levels) - 1:
        return view
    numbers = [sample.index + 1 for sample in outcome.samples if sample.error is None]
    scenes = zip(numbers, outcome.film.scenes, strict=True)
    texts = tuple(Text(number, scene.frames[level]) for number, scene in scenes)
    share = (level + 1) / len(outcome.film.levels)
    return View(view.controls, texts, share, f"As it was at noise level {outcome.film.levels[level]:.2f}")


def contrasted(one: Outcome, other: Outcome) -> list[tuple[str, str, str]]:
    """What two runs are compared by: a name, and the figure of each."""
    lines = [("texts that obey all controls", *(f"{each.obeying} of {len(each.samples)}" for each in (one, other)))]
    names = dict.fromkeys(name for each in (one, other) for sample in each.samples for name in sample.checks)
    for name in names:
        lines.append((f"{name}: obeyed", *(_passing(each.samples, name) for each in (one, other))))
        energies = [_mean([s.energies[name] for s in each.samples if name in s.energies]) for each in (one, other)]
        if not all(math.isnan(energy) for energy in energies):
            lines.append((f"{name}: energy, nats", *("–" if math.isnan(each) else f"{each:.2f}" for each in energies)))
    lines.append(("network calls a text", *(f"{_mean([s.calls for s in each.samples]):.0f}" for each in (one, other))))
    lines.append(("seconds", *(f"{each.seconds:.1f}" for each in (one, other))))
    return [(label, first, second) for label, first, second in lines]


def _passing(samples: Sequence[Sample], name: str) -> str:
    checks = [sample.checks[name] for sample in samples if name in sample.checks]
    return f"{sum(check.passed for check in checks)} of {len(checks)}"


def _end(spec: Spec, chosen: Preset, trace: Trace, samples: Sequence[Sample], seconds: float, ended: bool) -> View:
    names, traced = [control.name for control in spec.controls], chosen.guidance == "tilt"
    made = film(spec, trace, samples) if any(sample.error is None for sample in samples) else None
    scenes = iter(made.scenes if made else ())
    empty = Frame((), (None,) * len(names))
    texts = [Text(s.index + 1, empty if s.error else next(scenes).frames[-1], sample=s) for s in samples]
    said = sentence(spec.controls, trace, samples) if traced else ""
    found = Outcome(samples, made, rows(trace), said, warnings(spec.controls, trace, samples) if traced else [], seconds, ended)
    controls = made.controls if made else tuple(Control(*each, 1.0) for each in zip(names, targets(spec), strict=True))
    status = f"{found.obeying} of {len(samples)} texts obey all controls, in {seconds:.0f} s"
    return View(controls, tuple(texts), 1.0, f"Stopped: {status}" if ended else status, found)


def _note(draft: Draft, chosen: Preset) -> str:
    several = chosen.candidates * chosen.particles
    return f"candidate {draft.candidate + 1} of {several}" if several > 1 else ""


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan
