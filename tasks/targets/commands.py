"""`dlm targets make`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

targets = typer.Typer(help="Targets of benchmark suites.", no_args_is_help=True)


@targets.callback()
def _targets() -> None:
    """Targets of benchmark suites."""


@targets.command()
def make(
    corpus: Annotated[Path, typer.Argument(metavar="CSV", help="A column ref and, for semantic targets, mr or one a field.")],
    controls: Annotated[str, typer.Option(help="Kinds, parted by commas: semantic,pos,tree,span,length,infill,keyword.")],
    out: Annotated[Path, typer.Option(help="The file; a suite reads it with {reader: made, file: …}.")],
    count: Annotated[int, typer.Option(min=1, help="Targets at most.")] = 200,
    fields: Annotated[int, typer.Option(min=1, help="Fields that a semantic target asks for.")] = 1,
    domain: Annotated[
        str | None, typer.Option(help="Which fields there are: a domain file, a bundled name, or a model's folder.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Make targets that human sentences obey: tags by spaCy, trees by benepar, meanings from the corpus."""
    from dlm_control.controllers.fields.lookup import domain_at
    from dlm_control.tasks.run import writable
    from dlm_control.tasks.targets.file import make_targets

    kinds = [kind.strip() for kind in controls.split(",") if kind.strip()]
    found = domain_at(domain) if domain else None
    made = make_targets(corpus, kinds, writable(out, force), count, seed, fields, found)
    typer.echo(f"{out}: {made} targets")
