"""Where the bundled suites lie: in a module of its own, for `dlm ls` must not wait for what suites need."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def suites() -> dict[str, Path]:
    """The suites inside this package."""
    folder = Path(str(files("dlm_control.tasks"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
