"""Benchmark suites: YAML files that say which targets, how many samples, which metrics."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from dlm_control.controllers.fields.domain import Domain
from dlm_control.controllers.fields.lookup import bundled_domains, domain_at
from dlm_control.sampling.presets import preset
from dlm_control.support.errors import ErrorCollector, UsageError, short_repr, suggestion
from dlm_control.support.include import BeforeInclude, include
from dlm_control.support.validation import check_arguments
from dlm_control.support.values import Above, Fits, MisfitError, OneOf, fitted
from dlm_control.support.yaml_file import read_yaml
from dlm_control.tasks.metric import METRICS
from dlm_control.tasks.suite_files import suites
from dlm_control.tasks.targets.reader import READERS
from dlm_control.tasks.targets.target import WORDS, Guides, Target

_NAME = re.compile(r"[\w+-][\w+. -]*")
_Reader = Annotated[str, OneOf(lambda: READERS)]
_Included = Annotated[list[str], Fits("a list of suites, or of Python files", lambda names: len(names) > 0)]


@dataclass(frozen=True)
class Suite:
    """A benchmark.

    Attributes:
        included: hashes of the Python files that it includes.
        name, version: of the suite; a change of its meaning raises the version.
        targets: name of a reader and its arguments.
        metrics: names of metrics; without any, the check of each control is one.
        samples: texts per target by default.
        presets: by the name of a preset, what the suite changes of it.
        bundled: of a package; the targets' file lies beside the suite's, and no data is needed.
        tuning: the targets are of training sentences, so that settings may be chosen on them.
        corpus: folder, in that of the data, of trainset.csv and devset.csv, whose sentences stand for human text.
        domain: which fields semantic controls have: a domain file in the folder of the data, or a bundled name; by default the
            bundled domain that is called as the corpus, if there is one.
    """

    included: tuple[str, ...]
    name: Annotated[str, Fits("a name that a folder can have, such as my-suite", _NAME.fullmatch)]
    version: Annotated[int, Above(0)]
    targets: dict[str, Any]
    metrics: Annotated[tuple[str, ...], Fits("a list of names")]
    samples: Annotated[int, Above(0)]
    presets: Annotated[dict[str, dict[str, Any]], Fits("presets and what to change of them")] = field(default_factory=dict)
    bundled: bool = False
    tuning: bool = False
    corpus: str = "e2e"
    domain: str | None = None

    @property
    def digest(self) -> str:
        """Hash of what is asked for; how it is sampled and scored is not part of it."""
        return hashlib.sha256(repr((self.name, self.version, sorted(self.targets.items()))).encode()).hexdigest()[:12]

    def check_data(self, data: Path | None) -> None:
        """
        Raises:
            UsageError: the suite reads files, and no folder of them is given.
        """
        if data is None and not self.bundled and READERS[self.targets["reader"]].needs_files:
            raise UsageError(f"suite {self.name}: needs --data, the folder with its files; `smoke` needs none")

    def read_targets(self, data: Path | None, guides: Guides = WORDS) -> list[Target]:
        """The targets.

        Args:
            data: the folder that holds the files they are read from.
            guides: of their controls; their domain, where it is given, in place of the suite's.

        Raises:
            UsageError: a file is missing, or of another format.
        """
        self.check_data(data)
        if self.bundled:
            data = suites()[self.name].path.parent
        guides = guides._replace(domain=guides.domain or self._domain_in(data or Path()))
        arguments = {key: value for key, value in self.targets.items() if key != "reader"}
        targets = list(READERS[self.targets["reader"]](data or Path(), guides, **arguments))
        if not targets:
            hint = "expected a count above 0, and no range that ends before it begins"
            raise UsageError(
                f"suite {self.name}: {short_repr(arguments)} gives no targets{f' of {data}' if data else ''}; {hint}"
            )
        twice = [name for name, count in Counter(target.name for target in targets).items() if count > 1]
        if twice:
            more = f" and {len(twice) - 1} other names" if len(twice) > 1 else ""
            raise UsageError(f"suite {self.name}: several targets are called {twice[0]!r}{more}; names tell them apart")
        return targets

    def _domain_in(self, data: Path) -> Domain | None:
        known = bundled_domains()
        if (self.domain or self.corpus) in known:
            return domain_at(self.domain or self.corpus)
        return domain_at(data / self.domain) if self.domain else None


def read_suites(source: str, before_include: BeforeInclude | None = None, within: tuple[Path, ...] = ()) -> list[Suite]:
    """A suite by name or file, or those that it includes.

    The Python files that it includes run, so read only suites that you trust, or give `before_include`.

    Args:
        source: the name of a suite of a package, or a file.
        before_include: called with each included Python file and its sha256 before the file runs; a UsageError that it raises
            keeps the file from running and is one of the suite's faults.
        within: files of the suites that include this one.

    Raises:
        UsageError: unknown, not YAML, or faulty; all faults in one report.
    """
    path = _file(source)
    within = (*within, path.resolve())
    given = read_yaml(path).content
    problems = ErrorCollector(path.name)
    files, names = _included(given, problems)
    problems.raise_if_any()
    if not names:
        return [read_suite(source, before_include)]
    for key in given.keys() - {"name", "version", "include"}:
        problems.add(str(key), "a suite that includes others takes name, version and include alone")
    _run(files, path.parent, before_include, problems)
    known, found = suites(), []
    for i, name in names.items():
        beside = path.parent / name
        inner = str(beside) if name not in known and os.path.isfile(beside) else name
        if _file_or_none(inner) in within:
            problems.add(f"include[{i}]", f"{name} includes itself")
            continue
        try:
            found += read_suites(inner, before_include, within)
        except UsageError as error:
            problems.extend(f"include[{i}]", error)
    problems.raise_if_any()
    return found


def read_suite(source: str, before_include: BeforeInclude | None = None) -> Suite:
    """A suite by name or file, as `read_suites`, but none that includes others.

    Raises:
        UsageError: unknown, not YAML, or faulty; all faults in one report.
    """
    path = _file(source)
    given = read_yaml(path).content
    problems = ErrorCollector(path.name)
    files, names = _included(given, problems)
    if names:
        raise UsageError(f"suite {source!r}: includes several; expected one of them: {', '.join(names.values())}")
    hashes = _run(files, path.parent, before_include, problems)
    found = check_arguments(problems, "", Suite, {key: given[key] for key in given if key != "include"}, 1)
    _check_presets(found.get("presets", {}), problems)
    if "targets" in found:
        _check_targets(found["targets"], problems)
    for name in found.get("metrics", ()):
        try:
            METRICS.find(name, "unknown")
        except UsageError as error:
            problems.add("metrics", str(error))
    if found.get("bundled") and getattr(suites().get(found.get("name", "")), "path", None) != path:
        problems.add(
            "bundled",
            "only a package's own suites are, each in a file of its name; leave it out, and --data names the folder of targets",
        )
    problems.raise_if_any()
    return Suite(hashes, **found)


def _included(given: Mapping[str, Any], problems: ErrorCollector) -> tuple[dict[int, str], dict[int, str]]:
    """The Python files and the suites that a suite includes, by their places in its list."""
    try:
        listed = enumerate(fitted(_Included, given["include"], "include") if "include" in given else ())
    except MisfitError as misfit:
        problems.found += misfit.issues
        return {}, {}
    both: tuple[dict[int, str], dict[int, str]] = {}, {}
    for i, name in listed:
        both[not name.endswith(".py")][i] = name
    return both


def _run(
    files: Mapping[int, str], folder: Path, before_include: BeforeInclude | None, problems: ErrorCollector
) -> tuple[str, ...]:
    """Run the Python files that a suite includes; their hashes."""
    hashes = []
    for i, name in files.items():
        try:
            hashes.append(include(folder / name, before_include))
        except UsageError as error:
            problems.extend(f"include[{i}]", error)
    return tuple(hashes)


def _check_presets(given: dict[str, dict[str, Any]], problems: ErrorCollector) -> None:
    for name, changes in given.items():
        try:
            preset(name, **changes)
        except UsageError as error:
            problems.extend(f"presets.{name}", error)


def _check_targets(given: dict[str, Any], problems: ErrorCollector) -> None:
    if "reader" not in given:
        problems.add("targets.reader", f"missing; there are: {', '.join(READERS)}")
        return
    try:
        reader = READERS.find(fitted(_Reader, given["reader"], "targets.reader"))
    except MisfitError as misfit:
        problems.found += misfit.issues
    except UsageError as error:
        problems.extend("targets.reader", error)
    else:
        check_arguments(problems, "targets", reader.function, {k: v for k, v in given.items() if k != "reader"}, 2)


def _file_or_none(source: str) -> Path | None:
    path = _path(source)
    return path.resolve() if os.path.isfile(path) else None


def _file(source: str) -> Path:
    path = _path(source)
    if not os.path.isfile(path):
        known = suites()
        raise UsageError(
            f"suite {source!r}: neither installed nor a file{suggestion(source, known)}; installed: {', '.join(known)}"
        )
    return path


def _path(source: str) -> Path:
    known = suites()
    return known[source].path if source in known else Path(source)
