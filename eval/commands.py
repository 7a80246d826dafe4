"""`dlm eval`, `score`, `compare`, `report`, `tune` and `ablate`. What is slow to import is imported when a command runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dlm_control.support import records
from dlm_control.support.errors import UsageError
from dlm_control.support.include import include as include_file
from dlm_control.tasks.commands import Include, Json, NoInclude
from dlm_control.tasks.includes import announce, refuse

if TYPE_CHECKING:
    from dlm_control.eval.records import Scores

_DATA = typer.Option(exists=True, file_okay=False, help="Folder with e2e/ and control_targets/, where a suite needs them.")
_DIR = typer.Argument(metavar="DIR", help="Folder of a run, as `dlm eval` leaves it.")
_TEACHER = typer.Option(help="Whose surprise is the lm-score: bundled name, folder or hub id; by default the model's own.")
_JUDGE = typer.Option("--judge", help="Such as smollm2: fluency by a model that never saw the corpus. Repeatable.")


def evaluate(
    suite: Annotated[list[str], typer.Argument(help="Names of installed suites, or suite files.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs; one folder a suite.")],
    data: Annotated[Path | None, _DATA] = None,
    generator: Annotated[str, typer.Option(help="diffusion, or a baseline; `dlm ls` names them.")] = "diffusion",
    model: Annotated[str | None, typer.Option(help="Bundled name, folder or hub id; for baselines their folder.")] = None,
    preset: Annotated[str | None, typer.Option(help="Of the diffusion model: a name, or a file that `dlm tune` wrote.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting of the generator, such as steps=20.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Texts per target.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="First targets only.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    unconditional: Annotated[bool, typer.Option("--unconditional", help="Leave out all controls, for comparison.")] = False,
    judge: Annotated[list[str] | None, _JUDGE] = None,
    teacher: Annotated[str | None, _TEACHER] = None,
    guide: Annotated[list[str] | None, typer.Option(help="KIND=PATH: a guide of the diffusion model; repeatable.")] = None,
    device: Annotated[str, typer.Option(help="Where the diffusion model is to lie, such as cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Of the diffusion model's weights: float32, bfloat16 or float16.")] = "float32",
    include: Include = None,
    no_include: NoInclude = False,
    as_json: Json = False,
) -> None:
    """Run benchmark suites and score them; a killed run goes on where it stopped.

    `accelerate launch -m dlm_control eval …` shares the targets among processes.
    """
    from dlm_control.eval.run.generator import generator as made
    from dlm_control.eval.run.harness import run_suite
    from dlm_control.eval.run.settings import read_settings
    from dlm_control.eval.score.judges import check_judges
    from dlm_control.eval.score.teacher import Teacher
    from dlm_control.support.processes import own_device
    from dlm_control.tasks.guided import loaded
    from dlm_control.tasks.suite import read_suites

    for file in include or []:
        include_file(file)
    suites = [each for name in suite for each in read_suites(name, refuse if no_include else announce)]
    check_judges(judge or ())
    given = read_settings(settings or ()) | ({"preset": preset} if preset else {})
    given |= {"unconditional": True} if unconditional else {}
    for each in suites:
        each.check_data(data)
    if teacher:
        Teacher(teacher)  # a refusal should not wait for the texts
    writer_model: Any = model
    if guide or (device, dtype) != ("cpu", "float32"):
        if generator != "diffusion":
            raise UsageError(
                f"--guide, --device and --dtype are the diffusion model's; --generator {generator} has none of them"
            )
        writer_model = loaded(model or "e2e", guide, own_device(device), dtype)
    writers = [made(generator, each, writer_model, given) for each in suites]
    found = {}
    for each, writer in zip(suites, writers, strict=True):
        scores = run_suite(each, writer, data, out / each.name, samples, limit, seed, generator, judge or (), teacher)
        if scores is not None:
            found[each.name] = scores
            if not as_json:
                _print(each.name, scores)
    if as_json and found:
        typer.echo(records.as_json(found))


def score(
    run: Annotated[list[Path] | None, typer.Argument(metavar="DIR...", help="Folders of runs.")] = None,
    data: Annotated[Path | None, _DATA] = None,
    suite: Annotated[str | None, typer.Option(help="The suite file of the runs, where it is your own.")] = None,
    judge: Annotated[list[str] | None, _JUDGE] = None,
    teacher: Annotated[str | None, _TEACHER] = None,
    texts: Annotated[list[Path] | None, typer.Option(help="Instead of runs: a file of texts, one a line. Repeatable.")] = None,
    human: Annotated[Path | None, typer.Option(help="With --texts: human texts to compare with, lines or a CSV file.")] = None,
    include: Include = None,
    no_include: NoInclude = False,
    as_json: Json = False,
) -> None:
    """Score finished runs again, from their logs; or plain files of texts: a JSON line each."""
    if texts:
        _score_texts(texts, human, teacher)
    if not run:
        if not texts:
            raise UsageError("score: nothing given; expected folders of runs, or --texts FILE")
        return
    from dlm_control.eval.score.judges import check_judges
    from dlm_control.eval.score.scoring import score_run
    from dlm_control.tasks.suite import read_suite

    for file in include or []:
        include_file(file)
    asked = None if suite is None else read_suite(suite, refuse if no_include else announce)
    check_judges(judge or ())
    found = {}
    for folder in run:
        found[str(folder)] = score_run(folder, asked, data, judges=judge or (), teacher=teacher)
        if not as_json:
            _print(str(folder), found[str(folder)])
    if as_json:
        typer.echo(records.as_json(found))


def _score_texts(files: Sequence[Path], human: Path | None, teacher: str | None) -> None:
    from dlm_control.eval.score.teacher import Teacher
    from dlm_control.eval.score.text_file import read_texts, score_texts
    from dlm_control.support.records import Record

    sides, judge = [(file, read_texts(file)) for file in files], Teacher(teacher or "e2e-teacher")
    theirs = [] if human is None else read_texts(human)
    for file, given in sides:
        typer.echo(json.dumps({"file": str(file), **score_texts(given, theirs, teacher=judge)}, default=Record.to_json))


def calibrate(
    corpus: Annotated[Path, typer.Argument(metavar="CSV", help="Training texts of the teacher, in a column ref.")],
    teacher: Annotated[str, typer.Option(help="Bundled name, folder or hub id.")] = "e2e-teacher",
    fields: Annotated[
        bool, typer.Option(help="Texts give values of the fields in the model's fields.yaml, which can contradict each other.")
    ] = False,
) -> None:
    """Write flaws.json into a teacher's folder: how many nats make a word hard, measured on human training texts."""
    from dlm_control.eval.score.flaws import FILE
    from dlm_control.eval.score.flaws import calibrate as threshold
    from dlm_control.eval.score.teacher import Teacher
    from dlm_control.eval.score.text_file import read_texts
    from dlm_control.support.records import write_record

    read, texts = Teacher(teacher), read_texts(corpus)
    found = threshold(read, texts, corpus, fields)
    write_record(read.folder / FILE, found)
    typer.echo(f"{read.folder / FILE}: a word is hard above {found.hard_nats:g} nats")


def _print(title: str, scores: Scores) -> None:
    typer.echo(f"{title}: {scores.targets} targets, {scores.texts} texts, {scores.calls_per_text:g} calls a text")
    for target, error in scores.failed_targets.items():
        typer.echo(f"  {target}: failed, counted as 0: {error.splitlines()[-1].removeprefix('  - ')}")
    for name, value in scores.figures.items():
        typer.echo(f"  {name:32} {value.mean:.4f}  [{value.low:.4f}, {value.high:.4f}]  n={value.n}")
    for name, number in scores.numbers.items():
        typer.echo(f"  {name:32} {number:.4f}")
    for name in (name for name, found in scores.findings.items() if found is None):
        typer.echo(f"  {name:32} could not be counted")
    for title, group in (scores.groups or {}).items():
        means = " ".join(f"{name} {mean:.3f}" for name, mean in group.means.items())
        typer.echo(f"  {title:32} {means} texts {group.texts}")
    if "no_teacher" in scores.findings:
        typer.echo(f"  {scores.findings['no_teacher']}")
    for name, judged in scores.scorer_overlap.items():
        typer.echo(f"  {name} is judged by {judged}")


def compare(
    one: Annotated[Path, _DIR],
    other: Annotated[Path, typer.Argument(metavar="DIR", help="Another run of the same suite.")],
    as_json: Json = False,
) -> None:
    """Compare two runs of a suite, target by target: differences, intervals, and a paired permutation test."""
    from dlm_control.eval.report.compare import compared

    found = compared(one, other)
    if as_json:
        typer.echo(records.as_json(found))
        return
    typer.echo(f"{'metric':14} {'first':>8} {'second':>8} {'second − first':>28} {'p':>7} {'detectable':>10} {'n':>5}")
    for metric, row in found.items():
        means = f"{row.first:>8.4f} {row.second:>8.4f}"
        difference = f"{row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"
        detectable = "–" if isnan(row.detectable) else f"{row.detectable:.4f}"
        typer.echo(f"{metric:14} {means} {difference:>28} {row.p:>7.4f} {detectable:>10} {row.n:>5}")


def report(
    run: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of runs, or folders of such folders.")],
    out: Annotated[Path, typer.Option(help="The page; the same as Markdown lies beside it.")] = Path("report.html"),
    force: Annotated[bool, typer.Option("--force", help="Replace a page that exists.")] = False,
) -> None:
    """Write one self-contained page: our tables with the printed ones of 2022, curves, every text, and the manifests."""
    from dlm_control.eval.report.report import write_report

    for file in write_report(run, out, force):
        typer.echo(str(file))


def export(
    run: Annotated[Path, _DIR],
    out: Annotated[Path, typer.Option(help="The file.")],
    format: Annotated[
        Literal["inspect"], typer.Option(help="inspect: a JSON log that the viewer of inspect_ai opens.")
    ] = "inspect",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write a run, its figures and every text, in the format of another tool."""
    from dlm_control.eval.report.inspect_log import write_inspect_log
    from dlm_control.tasks.run import writable

    write_inspect_log(run, writable(out, force))
    typer.echo(str(out))


def tune(
    suite: Annotated[list[str], typer.Argument(help="Suites whose targets are made from training sentences, such as `tune`.")],
    data: Annotated[Path, _DATA],
    out: Annotated[Path, typer.Option(help="The preset file; every trial lies beside it as <out>.trials.jsonl.")],
    space: Annotated[
        Path | None, typer.Option(help="YAML of keys and the values to try; by default the project's own.")
    ] = None,
    model: Annotated[str, typer.Option(help="Bundled name, folder or hub id.")] = "e2e",
    flaws: Annotated[
        float, typer.Option(help="By how much more texts may have a flaw than human ones, as a share of all.")
    ] = 0.1,
    diversity: Annotated[float, typer.Option(min=0, help="Least distinct-3, as a share of that of human texts.")] = 0.8,
    calls: Annotated[int, typer.Option(min=1, help="Network calls a text may cost.")] = 64,
    trials: Annotated[int, typer.Option(min=1, help="Presets to try.")] = 24,
    limit: Annotated[int, typer.Option(min=1, help="Targets of each group in the search.")] = 8,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    teacher: Annotated[str | None, _TEACHER] = None,
    include: Include = None,
    no_include: NoInclude = False,
) -> None:
    """Search presets on targets made from training sentences, under a budget of flaws and a floor of diversity; needs optuna.

    A search that was stopped goes on when the command is given again; processes that are given the same command share it.
    """
    from dlm_control.eval.studies.tuning import Tuning, tune_presets

    for file in include or []:
        include_file(file)
    asked = Tuning(
        suites=suite, data=data, model=model, flaws=flaws, diversity=diversity, calls=calls, trials=trials, limit=limit,
        seed=seed, space=space, teacher=teacher,
    )  # fmt: skip
    chosen = tune_presets(asked, out, force=force, progress_to=typer.echo, before_include=refuse if no_include else announce)
    typer.echo(f"{out}: {chosen.changes}: success {chosen.success:.3f}, flaw rate {chosen.flaw_rate:.3f}")


def ablate(
    ablation: Annotated[Path, typer.Argument(metavar="CONFIG", help="Such as configs/ablation.yaml.")],
    data: Annotated[str, typer.Option(help="Folder with the E2E files, or 'e2e' to download them.")],
    out: Annotated[Path, typer.Option(help="Folder of the result file and its plot.")],
    runs: Annotated[Path, typer.Option(help="Folder for training state.")] = Path("runs/ablation"),
    arm: Annotated[list[str] | None, typer.Option(help="Only this arm; repeatable.")] = None,
    teacher: Annotated[str | None, typer.Option(help="Whose surprise is the lm-score; by default the corpus's.")] = None,
) -> None:
    """Compare training choices per CPU minute, by the lm-score of samples."""
    from dlm_control.eval.studies.ablation import Ablation, run_ablation

    run_ablation(Ablation.read(ablation), data, out, runs, arm, teacher)
    typer.echo(f"{out / 'ablation.jsonl'}, {out / 'ablation.png'}")
