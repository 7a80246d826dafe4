"""The package in its installed shape, as a tree of links, for tools that read source files and do not import.

The folders controllers/, tasks/ and eval/ are the packages dlm_control.controllers, dlm_control.tasks and dlm_control.eval
(`tool.setuptools.package-dir`), which such tools cannot see in the source tree.
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def packages(root: Path = ROOT) -> dict[str, str]:
    """Folder in a checkout of each package, by dotted name, as its pyproject.toml says."""
    with open(root / "pyproject.toml", "rb") as file:
        folders: dict[str, str] = tomllib.load(file)["tool"]["setuptools"]["package-dir"]
    return folders


def link_packages(tree: Path, root: Path = ROOT) -> Path:
    """Make a folder of links to the source files of a checkout, in the shape of the installed package.

    Args:
        tree: the folder; what it held is removed.
        root: of the checkout.

    Returns:
        The folder.
    """
    shutil.rmtree(tree, ignore_errors=True)
    for name, folder in sorted(packages(root).items()):
        inside = tree / name.replace(".", "/")
        for file in (root / folder).rglob("*"):
            if file.suffix in (".py", ".pyi", ".typed"):
                link = inside / file.relative_to(root / folder)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file)
    return tree
