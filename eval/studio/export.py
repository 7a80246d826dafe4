"""A spec as text to copy: YAML, Python, a command line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dlm_control.controllers
from dlm_control.control.registry import CONTROLLERS, parameters
from dlm_control.eval.studio.fields import flow
from dlm_control.eval.studio.verdict import SOURCE
from dlm_control.tasks.controls import USE, arguments_of
from dlm_control.tasks.spec import KEYS, Spec


def as_yaml(content: Mapping[str, Any]) -> str:
    """Keys and values of a spec as a person writes them: a control a line."""
    ordered = sorted(content, key=lambda key: KEYS.index(key) if key in KEYS else len(KEYS))
    lines = []
    for key in ordered:
        value = content[key]
        if key == "controls" and isinstance(value, list) and value:
            lines.append("controls:")
            lines += [f"  - {_bare(entry)}" for entry in value]
        else:
            lines.append(_bare({key: value}))
    return "\n".join(lines) + "\n"


def _bare(entry: object) -> str:
    """A value in one line, the outer braces of a mapping left out."""
    text = flow(entry)
    if "\n" in text:  # only JSON keeps a text with line ends in one line
        text = json.dumps(entry, ensure_ascii=False, default=str)
    return text[1:-1] if isinstance(entry, Mapping) and entry else text


def as_command(text: str, includes: Sequence[str]) -> str:
    """A shell command that writes a spec and runs it.

    Args:
        text: the spec as YAML.
        includes: Python files that the studio was started with.
    """
    options = "".join(f" --include {shlex.quote(file)}" for file in includes)
    return f"cat > {SOURCE} <<'END'\n{text.rstrip()}\nEND\ndlm generate {SOURCE}{options} --watch\n"


def as_python(spec: Spec, content: Mapping[str, Any]) -> str:
    """A program that writes the same texts.

    Args:
        spec: without faults.
        content: its keys and values as given.
    """
    built_in, imports, plugins, controls, used = set[str](), set[str](), list[str](), list[str](), False
    for entry, control in zip(content.get("controls") or (), spec.controls, strict=True):
        [(name, target)] = entry.items()
        cls = CONTROLLERS.find(name)
        given = arguments_of(name, target, parameters(cls))
        use = {key: given.pop(key) for key in USE if key in given}
        module = str(vars(dlm_control.controllers)["_HOMES"].get(cls.__name__, ""))
        if cls.__module__ == f"dlm_control.controllers.{module}":
            built_in.add(cls.__name__)
        elif Path(CONTROLLERS.entries()[name].origin).suffix == ".py":
            plugins += [f"include({CONTROLLERS.entries()[name].origin!r})", f"{cls.__name__} = CONTROLLERS[{name!r}]"]
        else:
            imports.add(f"from {cls.__module__} import {cls.__qualname__}")
        made = f"{cls.__qualname__}({_arguments(given)})"
        if use:
            used, title = True, use.pop("name", control.name)
            made = f"Control({', '.join([repr(title), made, *([_arguments(use)] if use else [])])})"
        controls.append(f"    {made},\n")
    if built_in:
        imports.add(f"from dlm_control.controllers import {', '.join(sorted(built_in))}")
    if plugins:
        imports |= {"from dlm_control.control.registry import CONTROLLERS", "from dlm_control.support.include import include"}
    head = [f"from dlm_control import {'Control, ' if used else ''}load", *sorted(imports)]
    preset = {} if spec.preset.name == "default" else {"preset": spec.preset.name}
    options = {"num_samples": spec.num_samples, "seed": spec.seed, **preset, **spec.preset.changes}
    options |= {"on_error": "skip"} if spec.on_error == "skip" else {}
    own = "".join(f"{line}\n" for line in dict.fromkeys(plugins))
    return (
        "\n".join(head) + "\n\n" + own + f"lm = load({spec.model!r})\n"
        f"controls = [\n{''.join(controls)}]\n"
        f"for sample in lm.generate(controls, {_arguments(options)}):\n    print(sample.text, sample.passed)\n"
    )


def _arguments(given: Mapping[str, Any]) -> str:
    plain = all(key.isidentifier() for key in given)
    return ", ".join(f"{key}={value!r}" for key, value in given.items()) if plain else f"**{dict(given)!r}"
