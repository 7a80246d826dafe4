"""Which domain a model's texts are of: `fields.yaml` in its folder, or the bundled one that its config names."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dlm_control.controllers.fields.domain import Domain
from dlm_control.controllers.fields.file import read_domain
from dlm_control.support.errors import UsageError, suggestion

if TYPE_CHECKING:
    from dlm_control.diffusion.backbone import Backbone

FILE = "fields.yaml"  # in the folder of a model
KEY = "fields"  # in its config.json


def bundled_domains() -> dict[str, Path]:
    """The domain files inside this package, by name."""
    return {file.stem: file for file in sorted(Path(__file__).parent.glob("*.yaml"))}


def domain_at(source: str | Path) -> Domain:
    """A domain that is named.

    Args:
        source: a bundled name (`e2e`), a domain file, or a folder with a `fields.yaml`, such as a model's.

    Raises:
        UsageError: there is none, or the file is faulty.
    """
    known = bundled_domains()
    if str(source) in known:
        return _read(known[str(source)], 0)
    path = Path(source).expanduser()
    if path.is_dir():
        path = path / FILE
    if not path.is_file():
        raise UsageError(
            f"domain {str(source)!r}: neither bundled nor a file{suggestion(str(source), known)}; "
            f"bundled: {', '.join(known)}; docs/own-corpus.md shows how to write one"
        )
    return _read(path, path.stat().st_mtime_ns)


def domain_in(folder: Path) -> Domain | None:
    """The domain of a model or a teacher, or None where its folder says none.

    Raises:
        UsageError: the folder's file is faulty, or its config names a domain that there is not.
    """
    if (folder / FILE).is_file():
        return domain_at(folder)
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get(KEY)
    except (OSError, ValueError, AttributeError):
        return None  # what is no config has its own error where the model is loaded
    return domain_at(named) if isinstance(named, str) else None


def domain_of(lm: Backbone) -> Domain:
    """The domain of a model.

    Raises:
        UsageError: it has none, or a faulty one.
    """
    return lm.once("domain", lambda: domain_of_model(lm.home, lm.source))


def domain_of_model(home: Path | None, source: str) -> Domain:
    """The domain of a model that need not be loaded.

    Args:
        home: its folder, or None where it has none.
        source: what to call it.

    Raises:
        UsageError: as `domain_of`.
    """
    found = domain_in(home) if home else None
    if found is None:
        place = f"write {home / FILE}" if home else f"save the model, and write {FILE} into its folder"
        raise UsageError(
            f"the model {source!r} says no fields; {place} (docs/own-corpus.md shows one), or give a domain file or a bundled "
            f"name as `domain`: {', '.join(bundled_domains())}"
        )
    return found


@cache
def _read(path: Path, changed: int) -> Domain:
    return read_domain(path)
