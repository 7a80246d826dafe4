"""Python files that a spec includes: the commands name each with its hash before its code runs, or refuse it."""

from __future__ import annotations

from pathlib import Path

import typer

from dlm_control.support.errors import UsageError


def announce(file: Path, digest: str) -> None:
    """Name a Python file that is about to run, on stderr.

    Args:
        file: as the spec gives it, from the current folder.
        digest: sha256 of the code that will run.
    """
    typer.echo(f"runs the included Python file {file} (sha256 {digest})", err=True)


def refuse(file: Path, digest: str) -> None:
    """Keep a Python file from running.

    Args:
        file: as the spec gives it, from the current folder.
        digest: sha256 of its code.

    Raises:
        UsageError: always.
    """
    raise UsageError(
        f"{file} (sha256 {digest}) is Python code, and --no-include refuses it; read the file, and leave out --no-include "
        "if you trust it"
    )
