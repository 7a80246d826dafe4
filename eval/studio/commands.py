"""`dlm studio`: a page in the browser. What is slow to import is imported when it runs."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import typer

from dlm_control.support.errors import UsageError
from dlm_control.support.include import include as include_file
from dlm_control.tasks.commands import Device, Dtype, Guide, Include

Host = Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 opens the page to the network, without a password.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")]


def studio(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="All that the page can read and write.")] = Path(),
    host: Host = "127.0.0.1",
    port: Port = 7860,
    include: Include = None,
    guide: Guide = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Open a page where specs are built from forms, texts form while one watches, and results are browsed."""
    if importlib.util.find_spec("gradio") is None:
        raise UsageError("the studio needs Gradio: pip install 'dlm-control[studio]'")
    for file in include or []:
        include_file(file)
    includes = [str(file.resolve()) for file in include or []]
    from dlm_control.eval.studio.page import build, launch
    from dlm_control.eval.studio.studio import Studio

    made = Studio(folder, includes, guide, device, dtype)
    os.chdir(made.folder.root)  # models and presets of a spec are named from here
    made.model_of("e2e")  # the first visitor should not wait for it
    page = build(made)
    typer.echo(f"{launch(page, host, port)} (folder {made.folder.root}; Ctrl-C ends it)")
    page.block_thread()
