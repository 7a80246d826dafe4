"""Where the suites of installed packages lie: in a module of its own, for `dlm ls` must not wait for what suites need."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from dlm_control.support.errors import UsageError
from dlm_control.support.registry import installed

GROUP = "dlm_control.suites"


class SuiteFile(NamedTuple):
    """A suite of a package: its file, and the package's name."""

    path: Path
    origin: str


def suites() -> dict[str, SuiteFile]:
    """The suites of this package and of others, by name: each entry point names a package whose folder holds YAML files.

    Raises:
        UsageError: two packages bring a suite of one name, or one is not there.
    """
    found: dict[str, SuiteFile] = {}
    for point, origin in installed(GROUP):
        try:
            spec = find_spec(point.module)
        except ModuleNotFoundError:
            spec = None
        if spec is None or spec.submodule_search_locations is None:
            raise UsageError(
                f"suites of {origin}: {point.module!r} is no package; its entry point names a package with YAML files"
            )
        for path in sorted(file for folder in spec.submodule_search_locations for file in Path(folder).glob("*.yaml")):
            if path.stem in found:
                raise UsageError(f"suite {path.stem!r} comes from both {found[path.stem].origin} and {origin}; uninstall one")
            found[path.stem] = SuiteFile(path, origin)
    return dict(sorted(found.items()))
