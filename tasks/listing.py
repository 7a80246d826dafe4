"""What `dlm ls` shows: everything that a spec or `dlm eval` can name."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dlm_control.control.registry import CONTROLLERS, signature
from dlm_control.diffusion.samplers import SAMPLERS, Sampler
from dlm_control.sampling.presets import PRESETS, Preset
from dlm_control.support.errors import UsageError, suggestion
from dlm_control.support.hub import bundled
from dlm_control.support.registry import Registry
from dlm_control.tasks.suite_files import suites


class Line(NamedTuple):
    """One thing that a spec can name."""

    name: str
    origin: str
    takes: str
    says: str


def listing(kind: str | None = None) -> dict[str, list[Line]]:
    """The things of every kind, or of one.

    Raises:
        UsageError: an unknown kind.
    """
    if kind is not None and kind not in _KINDS:
        raise UsageError(f"ls: unknown {kind!r}{suggestion(kind, _KINDS)}; there are: {', '.join(_KINDS)}")
    return {name: list(lines()) for name, lines in _KINDS.items() if kind in (None, name)}


def _controllers() -> Iterator[Line]:
    for name, entry in CONTROLLERS.entries().items():
        try:
            cls = entry.load()
        except UsageError as error:
            yield Line(name, entry.origin, "", str(error))  # one broken plugin must not hide the others
        else:
            yield Line(name, entry.origin, signature(cls), _first_line(cls))


def _models() -> Iterator[Line]:
    for name, folder in bundled().items():
        kind = json.loads((folder / "config.json").read_text()).get("model_type", "?")
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6
        yield Line(name, "bundled", kind, f"{size:.1f} MB of weights in {_relative(folder)}")


def _presets() -> Iterator[Line]:
    plain = Preset()
    for kind, presets in PRESETS.items():
        for name, preset in presets.items():
            own = {key: value for key, value in vars(preset).items() if value is not None}
            if preset != plain:
                own = {key: value for key, value in own.items() if value != getattr(plain, key)}
            takes = ", ".join(f"{key}={list(value) if isinstance(value, tuple) else value}" for key, value in own.items())
            rest = "" if preset == plain else "; the rest as in default of gaussian models"
            yield Line(name, f"for {kind} models", f"{takes}{rest}", "")


def _samplers() -> Iterator[Line]:
    for name, entry in SAMPLERS.entries().items():
        sampler: Sampler = entry.load()()
        nature = "stochastic" if sampler.stochastic else "deterministic"
        yield Line(name, entry.origin, "", f"{nature}, order {sampler.order}")


def _suites() -> Iterator[Line]:
    for name, file in suites().items():
        comment = file.path.read_text(encoding="utf-8").partition("\n")[0]
        yield Line(name, file.origin, "", comment.removeprefix("# "))


def _unloaded(kind: str) -> Callable[[], Iterator[Line]]:
    """Of things whose loading would take seconds."""

    def lines() -> Iterator[Line]:
        for name, entry in Registry[object](kind, f"dlm_control.{kind}s", kind, bool).entries().items():
            yield Line(name, entry.origin, entry.code, "" if entry.code else "registered there")

    return lines


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _relative(folder: Path) -> str:
    try:
        return str(folder.relative_to(Path.cwd()))
    except ValueError:
        return str(folder)


_KINDS: dict[str, Callable[[], Iterator[Line]]] = {
    "controllers": _controllers,
    "models": _models,
    "presets": _presets,
    "samplers": _samplers,
    "suites": _suites,
    "readers": _unloaded("reader"),
    "metrics": _unloaded("metric"),
    "judges": _unloaded("judge"),
    "generators": _unloaded("generator"),
}
