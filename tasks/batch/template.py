"""Specs with variables, such as `length: ${words}`, that a row of a table fills in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dlm_control.control.use import Control, with_unique_names
from dlm_control.support.errors import ErrorCollector, UsageError, short_repr
from dlm_control.support.include import BeforeInclude
from dlm_control.support.yaml_file import read_yaml
from dlm_control.tasks.spec import Spec, draft_spec, read_controls, read_value, spec_place

VARYING = ("controls", "num_samples", "seed")
"""Keys of a spec in which variables may stand; the others are the same for all rows."""
_VARIABLE = re.compile(r"\$(\$?)\{([^{}]*)\}")
_TARGET = re.compile(r"^(controls\[\d+\])\[.*$")  # within a target that is a list, as `span: [0, 2, NP]`
_FIXED = {"controls": [], "unconditional": True, "num_samples": 1, "seed": 0}


class Asked(NamedTuple):
    """What a filled template asks for: each control with its place, how many texts, under which seed of the batch."""

    controls: list[tuple[str, Control]]
    num_samples: int
    seed: int


@dataclass(frozen=True)
class Template:
    """A spec with variables.

    Attributes:
        spec: the model, the preset and what else is the same for all rows; it has no controls.
        varying: the other keys, as the file gives them.
        variables: the names at each place, such as {"controls[0].words": ["words"]}.
        lines: of the file, by place.
    """

    spec: Spec
    varying: Mapping[str, Any]
    variables: Mapping[str, list[str]]
    lines: Mapping[str, int]

    @property
    def names(self) -> list[str]:
        """All variables."""
        return list(dict.fromkeys(name for names in self.variables.values() for name in names))

    @property
    def digest(self) -> str:
        """sha256 of all that it says."""
        text = json.dumps([self.spec.canonical, self.varying], sort_keys=True, default=repr)
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()

    def blamed(self, place: str) -> list[str] | None:
        """The variables whose values may be at fault where a place is; None if the template is, whatever the row."""
        place = place.partition(" (")[0]
        found = [names for other, names in self.variables.items() if _within(other, place) or _within(place, other)]
        if found:
            return list(dict.fromkeys(name for names in found for name in names))
        control = re.match(r"controls\[\d+\]", place)
        return [] if control and any(_within(other, control[0]) for other in self.variables) else None

    def located(self, place: str) -> str:
        """A place with its file and line."""
        bare = place.partition(" (")[0]
        while bare and bare not in self.lines:
            bare = re.sub(r"(^|\.|\[)[^.\[]*$", "", bare)
        return f"{self.spec.source}:{self.lines[bare]}: {place}" if bare else f"{self.spec.source}: {place}"

    def filled(self, values: Mapping[str, Any], problems: ErrorCollector) -> Asked:
        """What a row asks for, as far as it has no faults.

        Args:
            values: by variable, for all variables.
            problems: takes the faults, by their places in the template.
        """
        given = {key: _filled(value, key, values, problems) for key, value in self.varying.items()}
        num_samples, seed = read_value("num_samples", given, 1, problems), read_value("seed", given, 0, problems)
        entries = read_controls(given, problems)
        named = with_unique_names([entry.control for entry in entries.values()])
        return Asked(list(zip(entries, named, strict=True)), num_samples, seed)


def read_template(
    path: Path, overrides: Mapping[str, Any] | None = None, before_include: BeforeInclude | None = None
) -> Template:
    """The template of a file.

    Args:
        path: of a YAML file that is a spec but for its variables.
        overrides: values that replace those of the file; None leaves the file's.
        before_include: as for `read_spec`.

    Raises:
        UsageError: no such file, not YAML, or faults that do not depend on a row, in one report.
    """
    try:
        content, lines = read_yaml(path)
    except UsageError as error:
        hint = '; inside braces and brackets a variable is quoted, as in {words: "${words}"}'
        raise UsageError(f"{error}{hint if 'not plain YAML' in str(error) else ''}") from None
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    content |= given
    spec, problems = draft_spec(path, {**given, **_FIXED}, before_include)
    problems.lines = lines = {spec_place(place): line for place, line in reversed(lines.items())}
    for key in ("on_error", "unconditional"):
        if key in content:
            remedy = "say --bad-rows skip" if key == "on_error" else "give controls with variables"
            problems.add(key, f"has no place where rows fill a template; {remedy}")
    variables: dict[str, list[str]] = {}
    for place, text, is_key in _texts(content):
        names = [name for escaped, name in _VARIABLE.findall(text) if not escaped]
        if names and re.split(r"[.\[]", place)[0] not in VARYING:
            problems.add(place, f"{text!r}: variables stand in {', '.join(VARYING)}; all else is the same for all rows")
        elif names and is_key:
            problems.add(place, "variables stand in values, not in keys")
        elif "" in names:
            problems.add(place, f"{text!r}: a variable without a name")
        elif names:
            variables.setdefault(_TARGET.sub(r"\1", spec_place(place)), []).extend(names)
    if not variables and not problems.found:
        problems.add("", f"no variable, such as ${{words}}, in {', '.join(VARYING)}; without one, give no table")
    problems.raise_if_any()
    return Template(spec, {key: content[key] for key in VARYING if key in content}, variables, lines)


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str, bool]]:
    """Every text below a value with its place, and whether it is a key."""
    if isinstance(value, str):
        yield place, value, False
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            own = f"{place}.{key}" if place else str(key)
            yield own, str(key), True
            yield from _texts(inner, own)
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from _texts(inner, f"{place}[{i}]")


def _filled(value: Any, place: str, values: Mapping[str, Any], problems: ErrorCollector) -> Any:
    """A value with the variables of its texts replaced; a text that is one variable becomes that variable's value."""
    if isinstance(value, Mapping):
        return {key: _filled(inner, f"{place}.{key}", values, problems) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, f"{place}[{i}]", values, problems) for i, inner in enumerate(value)]
    if not isinstance(value, str):
        return value
    whole = _VARIABLE.fullmatch(value)
    if whole and not whole[1]:
        return values[whole[2]]

    def written(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        found = values[match[2]]
        if isinstance(found, (str, int, float)) and not isinstance(found, bool):
            return str(found)
        problems.add(spec_place(place), f"within a text, ${{{match[2]}}} is text or a number, not {short_repr(found)}")
        return ""

    return _VARIABLE.sub(written, value)


def _within(inner: str, outer: str) -> bool:
    return inner == outer or (inner.startswith(outer) and inner[len(outer)] in ".[")
