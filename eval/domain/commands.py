"""`dlm domain make`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

domain = typer.Typer(help="Models of texts of your own.", no_args_is_help=True)


@domain.callback()
def _domain() -> None:
    """Models of texts of your own."""


@domain.command()
def make(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; docs/own-corpus.md shows one.")],
    corpus: Annotated[list[str] | None, typer.Option(help="In place of the config's files; repeatable.")] = None,
    out: Annotated[str | None, typer.Option(help="In place of the config's folder.")] = None,
    minutes: Annotated[float | None, typer.Option(help="In place of the config's.")] = None,
) -> None:
    """Make a model of a corpus, with guide, teacher and evaluation, in one folder; a run that stopped goes on."""
    from dlm_control.eval.domain.config import DomainConfig
    from dlm_control.eval.domain.make import make_domain

    chosen = DomainConfig.read(config, {"corpus": corpus or None, "out": out, "minutes": minutes})
    typer.echo(make_domain(chosen, lambda line: typer.echo(line, err=True)))
