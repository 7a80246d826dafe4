"""`dlm eval`, `dlm compare` and `dlm ablate`. What is slow to import is imported when a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    suite: Annotated[list[str], typer.Argument(help="Names of bundled suites, or suite files.")],
    data: Annotated[Path, typer.Option(help="Folder with e2e/ and control_targets/.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs; one folder a suite.")],
    model: Annotated[str, typer.Option(help="Bundled name, folder or hub id.")] = "e2e",
    preset: Annotated[str | None, typer.Option(help="Named preset, in place of the suite's.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Texts per target.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="First targets only.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    free: Annotated[bool, typer.Option("--free", help="Leave out all controls, for comparison.")] = False,
) -> None:
    """Run benchmark suites and score them; a killed run goes on where it stopped."""
    from dlm_control.eval.harness import run_suite
    from dlm_control.language_model import load
    from dlm_control.presets import preset as named_preset
    from dlm_control.tasks.suite import read_suite

    suites = [read_suite(name) for name in suite]
    lm = load(model)
    for each in suites:
        chosen = named_preset(preset or "default") if preset or not each.preset else named_preset(**each.preset)
        scores = run_suite(each, lm, chosen, data, out / each.name, samples, limit, seed, free)
        typer.echo(
            f"{each.name}: {scores['targets']} targets, {scores['texts']} texts, {scores['calls_per_text']:g} calls a text"
        )
        for name, value in scores.items():
            if name == "failed_targets":
                for target, error in value.items():
                    typer.echo(f"  {target}: failed, counted as 0: {error.splitlines()[-1].removeprefix('  - ')}")
            elif name == "by_target":
                continue
            elif name == "groups":
                for group, figures in value.items():
                    typer.echo(f"  {group:28} {' '.join(f'{k} {v:.3f}' for k, v in figures.items())}")
            elif isinstance(value, dict):
                typer.echo(f"  {name:28} {value['mean']:.4f}  [{value['low']:.4f}, {value['high']:.4f}]  n={value['n']}")
            elif isinstance(value, float):
                typer.echo(f"  {name:28} {value:.4f}")


def compare(
    one: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run, as `dlm eval` leaves it.")],
    other: Annotated[Path, typer.Argument(metavar="DIR", help="Another run of the same suite.")],
) -> None:
    """Compare two runs of a suite, target by target: differences, intervals, and a paired permutation test."""
    from dlm_control.eval.compare import compared

    typer.echo(f"{'metric':14} {'first':>8} {'second':>8} {'second − first':>28} {'p':>7} {'detectable':>10} {'n':>5}")
    for row in compared(one, other):
        means = f"{row.first:>8.4f} {row.second:>8.4f}"
        difference = f"{row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"
        typer.echo(f"{row.metric:14} {means} {difference:>28} {row.p:>7.4f} {row.detectable:>10.4f} {row.n:>5}")


def ablate(
    ablation: Annotated[Path, typer.Argument(metavar="CONFIG", help="Such as configs/ablation.yaml.")],
    data: Annotated[str, typer.Option(help="Folder with the E2E files, or 'e2e' to download them.")],
    out: Annotated[Path, typer.Option(help="Folder of the result file and its plot.")],
    runs: Annotated[Path, typer.Option(help="Folder for training state.")] = Path("runs/ablation"),
    arm: Annotated[list[str] | None, typer.Option(help="Only this arm; repeatable.")] = None,
) -> None:
    """Compare training choices per CPU minute, by the lm-score of samples."""
    from dlm_control.eval.ablation import Ablation, run_ablation

    run_ablation(Ablation.read(ablation), data, out, runs, arm)
    typer.echo(f"{out / 'ablation.jsonl'}, {out / 'ablation.png'}")
