"""What the studio says of a spec while it is written: all faults, as `dlm validate` names them, and the studio's own limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dlm_control.control.registry import CONTROLLERS, parameters
from dlm_control.controllers.fields.lookup import bundled_domains
from dlm_control.eval.studio.folder import MAX_SPEC, Folder
from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.firmness import Firmness
from dlm_control.sampling.presets import NAMES, Preset
from dlm_control.support.errors import ErrorCollector, Issue, UsageError, short_repr
from dlm_control.support.yaml_file import parse_yaml
from dlm_control.tasks.controls import arguments_of
from dlm_control.tasks.preflight import firmness_of, preflight
from dlm_control.tasks.spec import Spec, draft_mapping, spec_place

SOURCE = "spec.yaml"
MOST_SAMPLES, MOST_CONTROLS, MOST_ROWS, MOST_CALLS = 32, 16, 64, 20_000
_OURS = "dlm-control"
_OPENED = {"classifier": "model", "topic": "corpus", "semantic": "domain"}  # of our controllers, the parameters that name files
ModelOf = Callable[[str], LanguageModel]


@dataclass(frozen=True)
class Verdict:
    """What is known of a spec.

    Attributes:
        content: its keys and values.
        text: YAML, as the page gave it.
        spec: the spec, if it has no faults.
        faults: each with its place and message.
        lines: of places.
        firmness: how firmly each control will be held.
        unreadable: the text is no YAML of keys and values; `content` is empty then.
    """

    content: dict[str, Any]
    text: str
    spec: Spec | None = None
    faults: tuple[Issue, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)
    firmness: Mapping[str, Firmness] = field(default_factory=dict)
    unreadable: bool = False

    def line_of(self, place: str) -> int | None:
        """The line of a fault; None where it is not known."""
        return ErrorCollector(SOURCE, self.lines).line_of(place)


def judge(text: str, folder: Folder, model_of: ModelOf) -> Verdict:
    """Everything that is wrong with a spec, or how firmly its controls will be held.

    Args:
        text: YAML, as a page gives it.
        folder: that the studio works in.
        model_of: a loaded model by its name.
    """
    if len(text) > MAX_SPEC:
        long = Issue("", f"{len(text):,} letters; the studio takes specs of at most {MAX_SPEC:,}")
        return Verdict({}, text, faults=(long,), unreadable=True)
    try:
        content, lines = parse_yaml(text, SOURCE)
    except UsageError as error:
        return Verdict({}, text, faults=error.issues, unreadable=True)
    places = {spec_place(place): line for place, line in reversed(lines.items())}
    refused = [*_refused(content, folder)]
    allowed = {key: value for key, value in content.items() if not any(each.place.startswith(key) for each in refused)}
    if "controls" in content and "controls" not in allowed:  # none of them may be made
        return Verdict(content, text, faults=tuple(refused), lines=places)
    try:
        spec, problems = draft_mapping(allowed, SOURCE, folder.root, places)
        problems.found[:0] = refused
        firmness = _preflight(spec, model_of, problems)
    except UsageError as error:
        return Verdict(content, text, faults=error.issues, lines=places)
    return Verdict(content, text, spec, (), places, firmness)


def _preflight(spec: Spec, model_of: ModelOf, problems: ErrorCollector) -> dict[str, Firmness]:
    try:
        lm = model_of(spec.model)
    except UsageError as error:
        problems.add("model", str(error).removeprefix(f"model {spec.model!r}: "))
        problems.raise_if_any()
        raise
    if not problems.found:
        chosen = spec.preset.of(lm.backbone.kind)
        for place, message in _too_much(spec.num_samples, chosen):
            problems.add(place, message)
    preflight(spec, lm, problems)
    return firmness_of(spec, lm)


def _refused(content: Mapping[str, Any], folder: Folder) -> Iterator[Issue]:
    """What a page must not ask for, whatever it means."""
    if "include" in content:
        yield Issue("include", "a page cannot run Python files; start the studio with --include FILE")
    model = content.get("model")
    if isinstance(model, str) and model not in (known := folder.models()):
        yield Issue("model", f"unknown {short_repr(model)}; the studio has: {', '.join(known)}")
    preset = content.get("preset")
    preset = preset.get("name") if isinstance(preset, Mapping) else preset
    if isinstance(preset, str) and preset not in NAMES:
        yield from _outside("preset", preset, folder)
    controls = content.get("controls")
    entries = controls if isinstance(controls, list) else []
    if len(entries) > MOST_CONTROLS:
        yield Issue("controls", f"{len(entries)} controls; the studio takes at most {MOST_CONTROLS}")
    for i, entry in enumerate(entries):
        for name, target in entry.items() if isinstance(entry, Mapping) else ():
            yield from _refused_files(f"controls[{i}]", name, target, folder)


def _refused_files(place: str, name: str, target: object, folder: Folder) -> Iterator[Issue]:
    """What a control must not open: ours open only what lies inside, and a plugin is told of no path that leads outside."""
    known = CONTROLLERS.entries()
    if name not in known:
        return
    if known[name].origin != _OURS:
        for text in _texts_in(target):
            yield from _outside(place, text, folder)
    elif name in _OPENED:
        parameter = _OPENED[name]
        given = arguments_of(name, target, parameters(CONTROLLERS.find(name))).get(parameter)
        if isinstance(given, str) and not (parameter == "domain" and given in bundled_domains()):
            yield from _outside(f"{place}.{parameter}", given, folder, must_exist=True)


def _outside(place: str, text: str, folder: Folder, must_exist: bool = False) -> Iterator[Issue]:
    try:
        if not folder.path(text).exists() and must_exist:  # what is no file may be the name of a model to download
            yield Issue(place, f"{short_repr(text)}: nothing of that name in the studio's folder")
    except UsageError as error:
        yield Issue(place, str(error))


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts_in(each)


def _too_much(samples: int, preset: Preset) -> Iterator[tuple[str, str]]:
    """What is right, but more than a page may ask of the machine."""
    rows, calls = preset.candidates * preset.particles, samples * preset.calls()
    if samples > MOST_SAMPLES:
        yield "num_samples", f"{samples} texts; the studio writes at most {MOST_SAMPLES} at a time, `dlm generate` any number"
    if max(rows, preset.batch_size or 0) > MOST_ROWS:
        yield "preset", f"{max(rows, preset.batch_size or 0)} rows side by side; the studio takes at most {MOST_ROWS}"
    elif calls > MOST_CALLS:
        yield "preset", f"{calls:,} network calls for all texts; the studio spends at most {MOST_CALLS:,}"
