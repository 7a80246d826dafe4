"""The `dlm` command. Its subcommands are entry points of the group `dlm_control.commands`, so that any package can add one."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup

from dlm_control.support.errors import UsageError
from dlm_control.support.progress import show_progress
from dlm_control.version import __version__

GROUP = "dlm_control.commands"


class _Commands(TyperGroup):
    """Turns a user's mistake into one message and exit code 2; what is no user's mistake keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            typer.secho(str(error), err=True, fg="red" if sys.stderr.isatty() else None)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None


def build() -> typer.Typer:
    """The app with every command that is installed.

    Raises:
        UsageError: two packages claim one command.
    """
    app = typer.Typer(cls=_Commands, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True)

    @app.callback()
    def dlm(
        version: bool = typer.Option(False, "--version", is_eager=True, callback=_version, help="Print the version."),
        progress: bool | None = typer.Option(None, envvar="DLM_PROGRESS", help="Progress bars; by default in a terminal."),
    ) -> None:
        """Text that obeys several constraints at once: a frozen Diffusion-LM steered by composable controllers."""
        show_progress(progress)

    for name, point in _points().items():
        try:
            function = point.load()
        except Exception as error:
            origin = point.dist.name if point.dist else "?"
            typer.echo(f"dlm: the command {name!r} of {origin} does not import and is left out: {error!r}", err=True)
        else:
            if isinstance(function, typer.Typer):  # commands below this one
                app.add_typer(function, name=name)
            else:
                app.command(name)(function)
    return app


def _points() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if point.name in found:
            packages = [each.dist.name if each.dist else "?" for each in (found[point.name], point)]
            raise UsageError(f"dlm: the command {point.name!r} comes from both {' and '.join(packages)}; uninstall one")
        found[point.name] = point
    return found


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run `dlm`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without ✓ or £ shows ?, and no run dies of it
    try:
        app = build()
    except UsageError as error:
        sys.exit(f"{error}")
    app()
