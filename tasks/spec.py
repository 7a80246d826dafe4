"""Specs: what to generate, read from YAML or given as a mapping, checked whole before anything runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from dlm_control.control.registry import include
from dlm_control.control.use import Control
from dlm_control.pipeline import named
from dlm_control.sampling.presets import PRESETS, Preset, named_preset, preset
from dlm_control.support.errors import Problems, UsageError, shown, suggestion
from dlm_control.support.yaml_file import read_yaml
from dlm_control.tasks.controls import Entry, read_control

KEYS = ("model", "preset", "num_samples", "seed", "include", "controls", "unconditional", "on_error")
MOST_SAMPLES = 100_000


@dataclass(frozen=True)
class Spec:
    """What to generate.

    Attributes:
        model: bundled name, folder or hub id.
        preset: how to sample.
        num_samples, seed: of the texts; text i is a function of the controls, the preset, the seed and i.
        controls: what the texts must obey, with unique names.
        on_error: `raise`, or `skip`: a control that fails costs one text, not all.
        source: the file it was read from, or what its giver calls it.
        canonical: the same as JSON in which equal specs are equal: defaults written out, keys sorted, included files hashed.
        places, lines: where each control stands, such as `controls[1]`, and the line of each place in the file; for reports.
    """

    model: str
    preset: Preset
    num_samples: int
    seed: int
    controls: tuple[Control, ...] = field(compare=False)
    on_error: Literal["raise", "skip"]
    source: str
    canonical: str = field(repr=False)
    places: tuple[str, ...] = field(repr=False)
    lines: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)

    @property
    def digest(self) -> str:
        """sha256 of the canonical form."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], where: str = "spec") -> Spec:
        """A spec of the keys and values that a file would hold; included files are looked up from the current folder.

        Raises:
            UsageError: every fault, in one report headed by `where`.
        """
        spec, problems = _draft(mapping, where, Path(), {})
        problems.raise_if_any()
        return spec


def read_spec(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Spec:
    """A spec file.

    Args:
        path: of the file.
        overrides: values that replace those of the file, such as {"seed": 1}; None leaves the file's.

    Raises:
        UsageError: no such file, not YAML, or every fault in one report, each with its line and place.
    """
    spec, problems = draft_spec(path, overrides)
    problems.raise_if_any()
    return spec


def draft_spec(path: str | Path, overrides: Mapping[str, Any] | None = None) -> tuple[Spec, Problems]:
    """As `read_spec`, but faults are returned beside what could be made of the spec, so that preflight can add its own.

    Raises:
        UsageError: no such file, or not a YAML file of keys and values.
    """
    content, lines = read_yaml(Path(path))
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    places = {_place(place): line for place, line in reversed(lines.items()) if re.split(r"[.\[]", place)[0] not in given}
    return _draft({**content, **given}, str(path), Path(path).parent, places)


def _place(path: str) -> str:
    """`controls[1].weight` for the place `controls[1].keyword.weight` of a file."""
    return re.sub(r"^(controls\[\d+\])\.[^.\[]+", r"\1", path)


def _draft(given: Mapping[str, Any], source: str, folder: Path, lines: Mapping[str, int]) -> tuple[Spec, Problems]:
    problems = Problems(source, lines)
    if not isinstance(given, Mapping):
        raise UsageError(f"{source}: expected keys and values, got {type(given).__name__}")
    for key in given:
        if key not in KEYS:
            problems.add(str(key), f"unknown key{suggestion(str(key), KEYS)}; there are: {', '.join(KEYS)}")
    model = given.get("model", "e2e")
    if not isinstance(model, str) or not model.strip():
        problems.add("model", f"expected a bundled name, a folder or a hub id, got {shown(model)}")
        model = "e2e"
    sampling = _preset(given.get("preset", "default"), folder, problems)
    num_samples = _whole("num_samples", given.get("num_samples", 1), 1, MOST_SAMPLES, problems)
    seed = _whole("seed", given.get("seed", 0), 0, 2**63 - 1, problems)
    on_error = given.get("on_error", "raise")
    if on_error not in ("raise", "skip"):
        problems.add("on_error", f"expected raise or skip, got {shown(on_error)}")
    included = _include(given.get("include", []), folder, problems)
    entries = _controls(given, problems)
    canonical = {
        "model": model, "preset": asdict(sampling), "num_samples": num_samples, "seed": seed, "include": included,
        "on_error": on_error, "controls": [entry.canonical for entry in entries.values()],
    }  # fmt: skip
    text = json.dumps(canonical, sort_keys=True, ensure_ascii=False, default=repr)
    controls = tuple(named([entry.control for entry in entries.values()]))
    return Spec(model, sampling, num_samples, seed, controls, on_error, source, text, tuple(entries), lines), problems


def _whole(key: str, given: object, least: int, most: int, problems: Problems) -> int:
    if isinstance(given, int) and not isinstance(given, bool) and least <= given <= most:
        return given
    problems.add(key, f"expected a whole number from {least} to {most}, got {shown(given)}")
    return least


def _preset(given: object, folder: Path, problems: Problems) -> Preset:
    if isinstance(given, str) and given not in PRESETS and (folder / given).is_file():
        given = str(folder / given)
    try:
        changes = (
            dict(given) if isinstance(given, Mapping) else named_preset(given) if isinstance(given, str) else {"name": given}
        )
    except UsageError as error:
        problems.adopt("preset", error)
        return Preset()
    name = changes.pop("name", "default")
    if not isinstance(name, str) or not all(isinstance(key, str) for key in changes):
        names = ", ".join(PRESETS)
        problems.add(
            "preset",
            f"expected one of {names}, a preset file, or a mapping such as {{name: fast, steps: 30}}, got {shown(given)}",
        )
        return Preset()
    try:
        return preset(name, **changes)
    except UsageError as error:
        problems.adopt("preset", error)
        return Preset()


def _include(given: object, folder: Path, problems: Problems) -> list[str]:
    """Run the files; their hashes, since what they say decides the texts."""
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        problems.add("include", f"expected a list of Python files, got {shown(given)}")
        return []
    hashes = []
    for i, name in enumerate(given):
        try:
            include(folder / name)
            hashes.append(hashlib.sha256((folder / name).read_bytes()).hexdigest())
        except UsageError as error:
            problems.adopt(f"include[{i}]", error)
    return hashes


def _controls(given: Mapping[str, Any], problems: Problems) -> dict[str, Entry]:
    """The entries without faults, by place."""
    controls, free = given.get("controls"), given.get("unconditional", False)
    if not isinstance(free, bool):
        problems.add("unconditional", f"expected true or false, got {shown(free)}")
    if not controls and (controls is None or isinstance(controls, (list, tuple))):
        if free is False:
            state = "empty" if "controls" in given else "missing"
            wanted = "give at least one, such as `- length: 18` (`dlm ls` lists them), or say `unconditional: true`"
            problems.add("controls", f"{state}; {wanted}")
        return {}
    if not isinstance(controls, (list, tuple)):
        problems.add("controls", f"expected a list with an entry `- controller: target` for each, got {shown(controls)}")
        return {}
    if free is True:
        problems.add("unconditional", f"true, but there are {len(controls)} controls; remove one or the other")
    read = {f"controls[{i}]": read_control(entry, f"controls[{i}]", problems) for i, entry in enumerate(controls)}
    _clashes(controls, problems)
    return {place: entry for place, entry in read.items() if entry is not None}


def _clashes(controls: list[Any] | tuple[Any, ...], problems: Problems) -> None:
    """Names that were given must be no other control's."""
    chosen: dict[str, int] = {}
    automatic: dict[str, int] = {}
    for i, entry in enumerate(controls):
        for kind, target in entry.items() if isinstance(entry, Mapping) else ():
            explicit = target.get("name") if isinstance(target, Mapping) else None
            if not isinstance(explicit, str):
                automatic.setdefault(str(kind), i)
            elif explicit in chosen:
                problems.add(f"controls[{i}].name", f"{explicit!r} is the name of controls[{chosen[explicit]}] already")
            else:
                chosen[explicit] = i
    for name, i in chosen.items():
        if name in automatic:
            problems.add(f"controls[{i}].name", f"{name!r} is the name of controls[{automatic[name]}] already")
