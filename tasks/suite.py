"""Benchmark suites: YAML files that say which targets, how many samples, which metrics."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from dlm_control.controllers.fields.domain import Domain
from dlm_control.controllers.fields.lookup import bundled_domains, domain_at
from dlm_control.sampling.presets import preset
from dlm_control.support.errors import ErrorCollector, UsageError, short_repr, suggestion
from dlm_control.support.validation import check_arguments
from dlm_control.support.values import Above, Fits, MisfitError, OneOf, fitted
from dlm_control.support.yaml_file import read_yaml
from dlm_control.tasks.suite_files import suites
from dlm_control.tasks.targets.readers import NEED_NO_FILES, READERS
from dlm_control.tasks.targets.target import WORDS, Guides, Target

_NAME = re.compile(r"[\w+-][\w+. -]*")
_Reader = Annotated[str, OneOf(lambda: READERS)]
_Included = Annotated[list[str], Fits("a list of suites", lambda names: len(names) > 0)]


@dataclass(frozen=True)
class Suite:
    """A benchmark.

    Attributes:
        name, version: of the suite; a change of its meaning raises the version.
        targets: name of a reader and its arguments.
        metrics: names of metrics in `dlm_control.eval.score.metrics`.
        samples: texts per target by default.
        presets: by the name of a preset, what the suite changes of it.
        bundled: the targets' file lies beside the suite's, and no data is needed.
        tuning: the targets are of training sentences, so that settings may be chosen on them.
        corpus: folder, in that of the data, of trainset.csv and devset.csv, whose sentences stand for human text.
        domain: which fields semantic controls have: a domain file in the folder of the data, or a bundled name; by default the
            bundled domain that is called as the corpus, if there is one.
    """

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
        if data is None and not self.bundled and self.targets["reader"] not in NEED_NO_FILES:
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
            data = suites()[self.name].parent
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


def read_suites(source: str, metrics: Collection[str] | None = None, within: tuple[Path, ...] = ()) -> list[Suite]:
    """A suite by name or file, or those that it includes.

    Args:
        source: a bundled suite's name, or a file.
        metrics: names of the metrics that there are; by default they are not checked.
        within: files of the suites that include this one.

    Raises:
        UsageError: unknown, not YAML, or faulty; all faults in one report.
    """
    path = _file(source)
    within = (*within, path.resolve())
    given = read_yaml(path).content
    if "include" not in given:
        return [read_suite(source, metrics)]
    problems = ErrorCollector(path.name)
    for key in given.keys() - {"name", "version", "include"}:
        problems.add(str(key), "a suite that includes others takes name, version and include alone")
    known, names = suites(), []
    try:
        names = fitted(_Included, given["include"], "include")
    except MisfitError as misfit:
        problems.found += misfit.issues
    included = []
    for i, name in enumerate(names):
        beside = path.parent / name
        inner = str(beside) if name not in known and os.path.isfile(beside) else name
        if _file_or_none(inner) in within:
            problems.add(f"include[{i}]", f"{name} includes itself")
            continue
        try:
            included += read_suites(inner, metrics, within)
        except UsageError as error:
            problems.extend(f"include[{i}]", error)
    problems.raise_if_any()
    return included


def read_suite(source: str, metrics: Collection[str] | None = None) -> Suite:
    """A suite by name or file, as `read_suites`, but no including one.

    Raises:
        UsageError: unknown, not YAML, or faulty; all faults in one report.
    """
    path = _file(source)
    given = read_yaml(path).content
    if isinstance(given.get("include"), list):
        raise UsageError(f"suite {source!r}: includes several; expected one of them: {', '.join(map(str, given['include']))}")
    problems = ErrorCollector(path.name)
    found = check_arguments(problems, "", Suite, given)
    _check_presets(found.get("presets", {}), problems)
    if "targets" in found:
        _check_targets(found["targets"], problems)
    for name in (name for name in found.get("metrics", ()) if metrics is not None and name not in metrics):
        problems.add("metrics", f"unknown {name!r}{suggestion(name, metrics or ())}; there are: {', '.join(metrics or ())}")
    if found.get("bundled") and path not in suites().values():
        problems.add("bundled", "only this package's own suites are; leave it out, and --data names the folder of the targets")
    problems.raise_if_any()
    return Suite(**found)


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
        reader = fitted(_Reader, given["reader"], "targets.reader")
    except MisfitError as misfit:
        problems.found += misfit.issues
        return
    check_arguments(problems, "targets", READERS[reader], {k: v for k, v in given.items() if k != "reader"}, 2)


def _file_or_none(source: str) -> Path | None:
    path = suites().get(source, Path(source))
    return path.resolve() if os.path.isfile(path) else None


def _file(source: str) -> Path:
    known = suites()
    path = known.get(source, Path(source))
    if not os.path.isfile(path):
        raise UsageError(
            f"suite {source!r}: neither bundled nor a file{suggestion(source, known)}; bundled: {', '.join(known)}"
        )
    return path
