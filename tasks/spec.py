"""Specs: what to generate, read from YAML or given as a mapping, checked whole before anything runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from dlm_control.control.use import Control, with_unique_names
from dlm_control.sampling.presets import NAMES, PRESETS, PresetChoice, named_preset
from dlm_control.support.errors import ErrorCollector, UsageError, short_repr, suggestion
from dlm_control.support.include import BeforeInclude, include
from dlm_control.support.values import Between, Fits, MisfitError, Seed, fitted
from dlm_control.support.yaml_file import read_yaml
from dlm_control.tasks.controls import Entry, read_control

KEYS = ("model", "preset", "num_samples", "seed", "include", "controls", "unconditional", "on_error")
MOST_SAMPLES = 100_000
NumSamples = Annotated[int, Between(1, MOST_SAMPLES)]
TYPES: dict[str, Any] = {  # of the keys; `preset` and the entries of `controls` are read by themselves
    "model": Annotated[str, Fits("a bundled name, a folder or a hub id", lambda name: bool(name.strip()))],
    "num_samples": NumSamples,
    "seed": Seed,
    "include": Annotated[list[str], Fits("a list of Python files")],
    "controls": Annotated[Sequence[Any], Fits("a list with an entry `- controller: target` for each")],
    "unconditional": bool,
    "on_error": Annotated[Literal["raise", "skip"], Fits("raise or skip")],
}


@dataclass(frozen=True)
class Spec:
    """What to generate.

    Attributes:
        model: bundled name, folder or hub id.
        preset: how to sample, whatever the kind of the model.
        num_samples, seed: of the texts; text i is a function of the controls, the preset, the seed and i.
        controls: what the texts must obey, with unique names.
        on_error: `raise`, or `skip`: a control that fails costs one text, not all.
        source: the file it was read from, or what its giver calls it.
        canonical: the same as JSON in which equal specs are equal: defaults written out, keys sorted, included files hashed.
        places, lines: where each control stands, such as `controls[1]`, and the line of each place in the file; for reports.
    """

    model: str
    preset: PresetChoice
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
        return hashlib.sha256(self.canonical.encode(errors="surrogatepass")).hexdigest()

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], where: str = "spec") -> Spec:
        """A spec of the keys and values that a file would hold; included files are looked up from the current folder.

        Raises:
            UsageError: every fault, in one report headed by `where`.
        """
        spec, problems = draft_mapping(mapping, where, Path(), {})
        problems.raise_if_any()
        return spec


def read_spec(
    path: str | Path, overrides: Mapping[str, Any] | None = None, before_include: BeforeInclude | None = None
) -> Spec:
    """A spec file. The Python files that it includes run, so read only specs that you trust, or give `before_include`.

    Args:
        path: of the file.
        overrides: values that replace those of the file, such as {"seed": 1}; None leaves the file's.
        before_include: called with each included file and its sha256 before the file runs; a UsageError that it raises keeps
            the file from running and is one of the spec's faults.

    Raises:
        UsageError: no such file, not YAML, or every fault in one report, each with its line and place.
    """
    spec, problems = draft_spec(path, overrides, before_include)
    problems.raise_if_any()
    return spec


def draft_spec(
    path: str | Path, overrides: Mapping[str, Any] | None = None, before_include: BeforeInclude | None = None
) -> tuple[Spec, ErrorCollector]:
    """As `read_spec`, but returns the faults with what could be read of the spec, so that preflight can add its own.

    Raises:
        UsageError: no such file, or not a YAML file of keys and values.
    """
    content, lines = read_yaml(Path(path))
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    places = {spec_place(place): line for place, line in reversed(lines.items()) if re.split(r"[.\[]", place)[0] not in given}
    return draft_mapping({**content, **given}, str(path), Path(path).parent, places, before_include)


def spec_place(path: str) -> str:
    """`controls[1].weight` for the place `controls[1].keyword.weight` of a file."""
    return re.sub(r"^(controls\[\d+\])\.[^.\[]+", r"\1", path)


def draft_mapping(
    given: Mapping[str, Any],
    source: str,
    folder: Path,
    lines: Mapping[str, int],
    before_include: BeforeInclude | None = None,
) -> tuple[Spec, ErrorCollector]:
    """As `draft_spec`, of keys and values that are at hand.

    Args:
        given: keys and values of a spec.
        source: what to call it in reports.
        folder: that included files and preset files are looked up from.
        lines: of each place, as `spec_place` writes it.
        before_include: is asked before an included file runs; see `draft_spec`.

    Raises:
        UsageError: `given` is no mapping.
    """
    problems = ErrorCollector(source, lines)
    if not isinstance(given, Mapping):
        raise UsageError(f"{source}: expected keys and values, got {type(given).__name__}")
    for key in given:
        if key not in KEYS:
            name = key if isinstance(key, str) else short_repr(key)
            problems.add(name, f"unknown key{suggestion(name, KEYS)}; there are: {', '.join(KEYS)}")
    model = read_value("model", given, "e2e", problems)
    num_samples = read_value("num_samples", given, 1, problems)
    seed = read_value("seed", given, 0, problems)
    on_error = read_value("on_error", given, "raise", problems)
    included = _include(read_value("include", given, [], problems), folder, before_include, problems)
    sampling = _preset(given.get("preset", "default"), folder, problems)  # its sampler may be of an included file
    entries = read_controls(given, problems)
    canonical = {
        "model": model, "preset": {kind: asdict(sampling.of(kind)) for kind in PRESETS}, "num_samples": num_samples,
        "seed": seed, "include": included,
        "on_error": on_error, "controls": [entry.canonical for entry in entries.values()],
    }  # fmt: skip
    text = json.dumps(_with_text_keys(canonical), sort_keys=True, ensure_ascii=False, default=repr)
    controls = tuple(with_unique_names([entry.control for entry in entries.values()]))
    return Spec(model, sampling, num_samples, seed, controls, on_error, source, text, tuple(entries), lines), problems


def read_value(key: str, given: Mapping[str, Any], default: Any, problems: ErrorCollector) -> Any:
    """The value of a key, or its default where it has faults.

    Args:
        key: of a spec.
        given: keys and values.
        default: of the key.
        problems: takes the faults.
    """
    try:
        return fitted(TYPES[key], given.get(key, default), key)
    except MisfitError as misfit:
        problems.found += misfit.issues
        return default


def _with_text_keys(value: object) -> object:
    """A value whose mappings JSON can write and sort."""
    if isinstance(value, Mapping):
        textual = all(isinstance(key, str) for key in value)
        return {key if textual else repr(key): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, (list, tuple)) else value


def _preset(given: object, folder: Path, problems: ErrorCollector) -> PresetChoice:
    if isinstance(given, str) and given not in NAMES and os.path.isfile(folder / given):
        given = str(folder / given)
    try:
        changes = (
            dict(given) if isinstance(given, Mapping) else named_preset(given) if isinstance(given, str) else {"name": given}
        )
    except UsageError as error:
        problems.extend("preset", error)
        return PresetChoice()
    name = changes.pop("name", "default")
    if not isinstance(name, str) or not all(isinstance(key, str) for key in changes):
        names = ", ".join(NAMES)
        problems.add(
            "preset",
            f"expected one of {names}, a preset file, or a mapping such as {{name: fast, steps: 30}}, got {short_repr(given)}",
        )
        return PresetChoice()
    try:
        choice = PresetChoice(name, changes)
        for kind in PRESETS:
            choice.of(kind)
        return choice
    except UsageError as error:
        problems.extend("preset", error)
        return PresetChoice()


def _include(given: list[str], folder: Path, before: BeforeInclude | None, problems: ErrorCollector) -> list[str]:
    """Run the files; their hashes, since what they say decides the texts."""
    hashes = []
    for i, name in enumerate(given):
        try:
            hashes.append(include(folder / name, before))
        except UsageError as error:
            problems.extend(f"include[{i}]", error)
    return hashes


def read_controls(given: Mapping[str, Any], problems: ErrorCollector) -> dict[str, Entry]:
    """The controls without faults, by place; the faults go to `problems`."""
    free = read_value("unconditional", given, False, problems)
    before = len(problems.found)
    controls = [] if given.get("controls") is None else read_value("controls", given, [], problems)
    if len(problems.found) > before:
        return {}
    if len(controls) == 0:
        if free is False and given.get("unconditional", False) is False:
            state = "empty" if "controls" in given else "missing"
            expected = "give at least one, such as `- length: 18` (`dlm ls` lists them), or say `unconditional: true`"
            problems.add("controls", f"{state}; {expected}")
        return {}
    if free is True:
        problems.add("unconditional", f"true, but there are {len(controls)} controls; remove one or the other")
    read = {f"controls[{i}]": read_control(entry, f"controls[{i}]", problems) for i, entry in enumerate(controls)}
    _clashes(controls, problems)
    return {place: entry for place, entry in read.items() if entry is not None}


def _clashes(controls: Sequence[Any], problems: ErrorCollector) -> None:
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
