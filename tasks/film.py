"""`dlm explain --film`: a run as pictures that follow each other, a page or a GIF."""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dlm_control.sampling.sample import Sample
from dlm_control.sampling.trace import Draft, Trace
from dlm_control.support.errors import UsageError
from dlm_control.tasks.spec import Spec
from dlm_control.text.words import space_after

FILMS = (".gif", ".html")


@dataclass(frozen=True)
class Control:
    """A control as a film names it.

    Attributes:
        name: of the control.
        target: what it asks for, in words.
        highest: its highest energy in the film, nats; at least 1. The bars are drawn on this scale.
    """

    name: str
    target: str
    highest: float


@dataclass(frozen=True)
class Word:
    """One word of one frame.

    Attributes:
        text: of the word, with the space behind it.
        prob: p(word), in [0, 1].
        control: number of the control that holds it, or None.
    """

    text: str
    prob: float
    control: int | None


@dataclass(frozen=True)
class Frame:
    """One text at one noise level.

    Attributes:
        words: as they stand.
        energies: of each control, nats; None where it does not act.
    """

    words: tuple[Word, ...]
    energies: tuple[float | None, ...]


@dataclass(frozen=True)
class Scene:
    """How one text came about.

    Attributes:
        frames: one for each noise level of the film.
        text: as it was finished.
        passed: of each control, whether the text obeys; None where that could not be judged.
    """

    frames: tuple[Frame, ...]
    text: str
    passed: tuple[bool | None, ...]


@dataclass(frozen=True)
class Film:
    """How the texts of a spec came about: of each text, the candidate that was chosen.

    Attributes:
        title: of the spec.
        controls: in the order of the spec.
        levels: noise levels in [0, 1], which fall.
        scenes: one for each text.
    """

    title: str
    controls: tuple[Control, ...]
    levels: tuple[float, ...]
    scenes: tuple[Scene, ...]


def film(spec: Spec, trace: Trace, samples: Sequence[Sample]) -> Film:
    """The film of a run.

    Args:
        spec: of the run.
        trace: of the run.
        samples: the texts; those that failed are not in the film.

    Raises:
        UsageError: no text is finished.
    """
    chosen = [(sample, trace.drafts_of(sample.index, sample.words)) for sample in samples if sample.error is None]
    if not chosen:
        raise UsageError(f"--film: no text of {spec.source} is finished, the first because: {samples[0].error}")
    names = [control.name for control in spec.controls]
    highest = dict.fromkeys(names, 1.0)
    for draft in (draft for _, drafts in chosen for draft in drafts.values()):
        for name, effect in draft.effects.items():
            highest[name] = max(highest[name], effect.energy)
    levels = tuple(sorted({t for _, drafts in chosen for t in drafts}, reverse=True))
    controls = tuple(Control(name, target, highest[name]) for name, target in zip(names, targets(spec), strict=True))
    return Film(Path(spec.source).name, controls, levels, tuple(_scene(*each, names, levels) for each in chosen))


def filmable(file: Path) -> None:
    """
    Raises:
        UsageError: the file's ending is none of a film's, or what draws it is missing.
    """
    if file.suffix not in FILMS:
        raise UsageError(f"--film {file}: expected a name that ends with {' or '.join(FILMS)}")
    if file.suffix == ".gif" and importlib.util.find_spec("matplotlib") is None:
        raise UsageError("a film as GIF needs Pillow and the fonts of matplotlib: pip install 'dlm-control[plot]'")


def write_film(made: Film, file: Path) -> None:
    """Write a film: a page with a slider, or a GIF.

    Raises:
        UsageError: as `filmable`.
    """
    filmable(file)
    if file.suffix == ".gif":
        from dlm_control.tasks.film_gif import write_gif

        write_gif(made, file)
    else:
        file.write_text(page(made), encoding="utf-8")


def page(made: Film) -> str:
    """A film as an HTML page that needs nothing else."""
    from importlib.resources import files

    from jinja2 import Environment

    template = (files("dlm_control.tasks") / "templates" / "film.html.j2").read_text(encoding="utf-8")
    data = json.dumps(asdict(made), ensure_ascii=False).replace("<", "\\u003c")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template).render(film=made, data=data)


def _scene(sample: Sample, drafts: dict[float, Draft], names: Sequence[str], levels: Sequence[float]) -> Scene:
    """A text in all frames; one that was finished early stays as it is."""
    frames, draft = list[Frame](), next(iter(drafts.values()))
    for t in levels:
        draft = drafts.get(t, draft)
        frames.append(frame(draft, names))
    checks = [sample.checks[name] for name in names]
    return Scene(tuple(frames), sample.text, tuple(check.passed if check.judged else None for check in checks))


def frame(draft: Draft, names: Sequence[str]) -> Frame:
    """A draft as a frame.

    Args:
        draft: of a text.
        names: of the controls, in the order of the film.
    """
    spaces = space_after(draft.words)
    words = [
        Word(word + " " * spaces[i], round(draft.probs[i], 3), names.index(draft.held[i]) if i in draft.held else None)
        for i, word in enumerate(draft.words)
    ]
    energies = [round(draft.effects[name].energy, 3) if name in draft.effects else None for name in names]
    return Frame(tuple(words), tuple(energies))


def targets(spec: Spec) -> list[str]:
    """What each control asks for: the arguments that the spec gives."""
    found = []
    for control, written in zip(spec.controls, json.loads(spec.canonical)["controls"], strict=True):
        parameters = inspect.signature(type(control.controller)).parameters
        given: dict[str, Any] = {
            key: value
            for key, value in written["arguments"].items()
            if key not in parameters or value != parameters[key].default
        }
        found.append(", ".join(str(value) for value in given.values()))
    return found
