"""Benchmark suites: YAML files that say which targets, how many samples, which metrics."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from dlm_control.errors import Problems, UsageError, suggestion
from dlm_control.tasks.targets import READERS, Target
from dlm_control.yaml_file import read_yaml


@dataclass(frozen=True)
class Suite:
    """A benchmark.

    Attributes:
        name, version: of the suite; a change of its meaning raises the version.
        targets: name of a reader and its arguments.
        metrics: names of metrics in `dlm_control.eval.metrics`.
        samples: texts per target by default.
        preset: how to sample, a named preset and what to change of it; the default preset if empty.
    """

    name: str
    version: int
    targets: dict[str, Any]
    metrics: tuple[str, ...]
    samples: int
    preset: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Hash of all that the suite says."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]

    def read_targets(self, data: Path) -> list[Target]:
        """The targets; `data` is the folder that holds the files they are read from.

        Raises:
            UsageError: a file is missing.
        """
        arguments = {key: value for key, value in self.targets.items() if key != "reader"}
        return list(READERS[self.targets["reader"]](data, **arguments))


def suites() -> dict[str, Path]:
    """The suites inside this package."""
    folder = Path(str(files("dlm_control.tasks"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_suite(source: str) -> Suite:
    """A suite by name or file.

    Raises:
        UsageError: unknown, not YAML, or faulty; all faults in one report.
    """
    known = suites()
    path = known.get(source, Path(source))
    if not path.is_file():
        raise UsageError(
            f"suite {source!r}: neither bundled nor a file{suggestion(source, known)}; bundled: {', '.join(known)}"
        )
    given = read_yaml(path).content
    problems = Problems(path.name)
    wanted = {f.name for f in fields(Suite)}
    for key in given.keys() - wanted:
        problems.add(str(key), f"unknown key{suggestion(str(key), wanted)}; there are: {', '.join(sorted(wanted))}")
    for key in sorted(wanted - given.keys() - {"preset"}):
        problems.add(key, "missing")
    if "preset" in given and not (isinstance(given["preset"], dict) and isinstance(given["preset"].get("name"), str)):
        problems.add("preset", f"expected a mapping such as {{name: paper, strength: 0.1}}, got {given['preset']!r}")
    targets = given.get("targets")
    if "targets" in given and not (isinstance(targets, dict) and targets.get("reader") in READERS):
        problems.add("targets.reader", f"expected one of {', '.join(READERS)}, got {targets!r}")
    elif isinstance(targets, dict):
        accepted = list(inspect.signature(READERS[targets["reader"]]).parameters)[1:]
        for key in sorted({*targets, *accepted} - {"reader"}):
            if key not in accepted or key not in targets:
                problems.add(
                    f"targets.{key}", "missing" if key in accepted else f"unknown; the reader takes {', '.join(accepted)}"
                )
    samples = given.get("samples")
    if "samples" in given and not (isinstance(samples, int) and not isinstance(samples, bool) and samples > 0):
        problems.add("samples", f"expected a whole number above 0, got {samples!r}")
    problems.raise_if_any()
    return Suite(**{**given, "metrics": tuple(given["metrics"])})
