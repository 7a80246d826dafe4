"""`dlm train`, `dlm convert` and `dlm doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

_MEASURED = 4  # steps that the estimate is the mean of
_CONFIG = typer.Argument(metavar="CONFIG", help="A YAML file; without one, what --kind says is trained on --data.")
_KIND = typer.Option(help="Without CONFIG: diffusion-lm, autoregressive-lm (a teacher), structure-guide, syntax-guide, …")
_LM = typer.Option(help="The model that a guide is for; a guide goes to <its folder>/guides/<kind> unless --out is given.")
_DATA = typer.Option(help="'e2e', a folder with the E2E files, a .csv, or a .txt of one sentence a line.")
_OUT = typer.Option(help="Folder of the model and its state; a run that stopped goes on from there.")
_CHECKPOINT = typer.Argument(metavar="FILE.pt", help="Weights of the 2022 release; vocab.json lies beside them.")
_TABLE = typer.Option(help="Of which table: lm_head (the release decodes with it) or word_embedding (averaged in ema_*.pt).")
_LENGTHS = typer.Option(help="Training texts, as for `dlm train`; lengths are drawn as there. Without, all are as likely.")


def train(
    config: Annotated[Path | None, _CONFIG] = None,
    data: Annotated[str | None, _DATA] = None,
    out: Annotated[str | None, _OUT] = None,
    steps: Annotated[int | None, typer.Option(help="Length of the run.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the sentences; 'text' for a .txt.")] = None,
    kind: Annotated[str | None, _KIND] = None,
    lm: Annotated[str | None, _LM] = None,
    until: Annotated[int | None, typer.Option(min=1, help="Stop after this step; the same command goes on later.")] = None,
) -> None:
    """Train a model, or go on where a run was stopped."""
    from dlm_control.support.errors import UsageError
    from dlm_control.training.estimate import duration, seconds_per_step
    from dlm_control.training.recipe import recipe_class
    from dlm_control.training.trainer import TrainConfig, Trainer

    if config is None and (data is None or (out is None and lm is None)):
        raise UsageError(
            "train: give a config file (ours lie in configs/), or --data and --out for a text of your own, or --kind, --lm "
            "and --data for a guide"
        )
    if config is not None and kind is not None:
        raise UsageError(f"train: {config} says what is trained; leave out --kind")
    recipe = _given({"text_column": text_column, "lm": lm})
    if config is None and text_column is None and data is not None and Path(data).suffix == ".txt":
        recipe["text_column"] = "text"
    overrides = {"data": data, "out": out, "steps": steps, "recipe": recipe}
    if config:
        chosen = TrainConfig.read(config, overrides)
    else:
        usual = {"kind": kind or "diffusion-lm", **recipe_class(kind or "diffusion-lm").usual}
        overrides["recipe"] = {**usual.get("recipe", {}), **recipe}
        chosen = TrainConfig.checked({**usual, **_given(overrides)}, "dlm train")
    trainer = Trainer(chosen)
    left = min(chosen.steps, until or chosen.steps) - trainer.step
    main = trainer.accelerator.is_main_process
    if left <= 0:
        raise UsageError(f"{chosen.out}: at step {trainer.step} of {chosen.steps} already; raise --until or give another --out")
    seconds = seconds_per_step(trainer, min(_MEASURED, left))
    if main:
        typer.echo(
            f"{chosen.kind}: {left:,} steps to go, {seconds:.2g} s each on this machine: about {duration(left * seconds)}, "
            f"evaluations not counted; {chosen.out} is saved every {chosen.save_every} steps",
            err=True,
        )
    try:
        trainer.run(until)
    except KeyboardInterrupt:
        if main:
            typer.echo(f"{chosen.out}: stopped at step {trainer.step}; the same command goes on from the last save", err=True)
        raise
    if main:
        typer.echo(f"{chosen.out}: step {trainer.step} of {chosen.steps}")


def _given(overrides: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in overrides.items() if value is not None}


def convert(
    checkpoint: Annotated[Path, _CHECKPOINT],
    out: Annotated[Path, typer.Option(help="Folder of the converted model.")],
    table: Annotated[str, _TABLE] = "lm_head",
    data: Annotated[str | None, _LENGTHS] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the texts; 'text' for a .txt, otherwise 'ref'.")] = None,
) -> None:
    """Convert a checkpoint of the Diffusion-LM release of 2022; `load` and `--model` read the folder."""
    from dlm_control.diffusion.paper_backbone import PaperBackbone
    from dlm_control.diffusion.paper_checkpoint import read_paper_checkpoint
    from dlm_control.support.errors import UsageError
    from dlm_control.support.progress import hush
    from dlm_control.training.data import read_split

    hush()
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"--out {out}: is there already and not empty; give another folder")
    found = read_paper_checkpoint(checkpoint, table)
    lm = PaperBackbone(found.model, found.tokenizer, str(out))
    if data is not None:
        column = text_column or ("text" if Path(data).suffix == ".txt" else "ref")
        words = [len(found.tokenizer.words(text)) for text in read_split(data, "train", [column])[column]]
        found.model.config.length_counts = [words.count(n) for n in range(lm.max_seq_len)]
    else:
        found.model.config.length_counts = [0] + [1] * (lm.max_seq_len - 1)
    found.model.save_pretrained(out)
    found.tokenizer.save_pretrained(out)
    for note in found.notes:
        typer.echo(note, err=True)
    typer.echo(f"{out}: {lm}")


def doctor(json: Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")] = False) -> None:
    """Report versions, extras, plugins, models, device and disk, and for all that is missing the command that installs it."""
    from dlm_control.support.doctor import diagnose, render

    findings = diagnose()
    typer.echo(render(findings, json))
    if any(finding.broken for finding in findings):
        raise typer.Exit(1)
