"""`dlm generate`, `dlm explain`, `dlm validate` and `dlm ls`. What is slow to import is imported when a command runs."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dlm_control.support import records
from dlm_control.support.errors import UsageError
from dlm_control.support.include import include as include_file
from dlm_control.tasks.includes import announce, refuse

Include = Annotated[
    list[Path] | None,
    typer.Option("--include", metavar="FILE", help="A Python file with controllers, metrics, … of your own; repeatable."),
]
NoInclude = Annotated[
    bool, typer.Option("--no-include", help="Refuse what includes Python files itself; those of --include still run.")
]
Guide = Annotated[
    list[str] | None,
    typer.Option("--guide", metavar="KIND=PATH", help="A guide in place of the model's own, such as structure=runs/mine."),
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")]
Device = Annotated[str, typer.Option(help="Where the model is to lie, such as cuda.")]
Dtype = Annotated[str, typer.Option(help="Of the model's weights: float32, bfloat16 or float16.")]


def generate(
    source: Annotated[
        Path,
        typer.Argument(metavar="SPEC|ROWS", help="A YAML file; with --spec rows: .jsonl, .csv, .parquet or a folder."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write texts, checks and energies here as JSON lines; with --spec also as parquet.")
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="A YAML file with variables such as ${food}, filled by each row.")] = None,
    bad_rows: Annotated[
        Literal["stop", "skip"], typer.Option(help="With --spec: rows that cannot be asked end the run, or are reported.")
    ] = "stop",
    keep: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="With --spec: a column that no variable uses; repeatable.")
    ] = None,
    num_samples: Annotated[int | None, typer.Option(help="How many texts, in place of the spec's number.")] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the spec's.")] = None,
    model: Annotated[str | None, typer.Option(help="Bundled name, folder or hub id, in place of the spec's.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="A name or a preset file, in place of all that the spec says of it.")
    ] = None,
    include: Include = None,
    no_include: NoInclude = False,
    guide: Guide = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the texts as they form, words in the colour of the control that holds them.")
    ] = False,
) -> None:
    """Write texts that obey every control of a spec; with --spec, of a spec that the rows of a table fill.

    `accelerate launch -m dlm_control generate ROWS --spec …` shares the rows among processes.
    """
    for file in include or []:
        include_file(file)
    overrides = {"num_samples": num_samples, "seed": seed, "model": model, "preset": preset}
    if spec is not None:
        if watch:
            raise UsageError("--watch: shows the texts of one spec as they form, not those of a table; leave it out")
        _generate_batch(source, spec, overrides, out, bad_rows, keep or [], no_include, guide, device, dtype, force)
        return
    if bad_rows != "stop" or keep or source.suffix in (".jsonl", ".csv", ".parquet"):
        raise UsageError(f"{source}: rows of a table fill a spec with variables; give it, such as --spec template.yaml")
    from dlm_control.sampling.trace import Trace
    from dlm_control.tasks.explain import warnings
    from dlm_control.tasks.guided import loaded
    from dlm_control.tasks.report import show, show_warnings
    from dlm_control.tasks.run import run_spec, writable
    from dlm_control.tasks.spec import read_spec
    from dlm_control.tasks.watch import Watch

    expected = read_spec(source, overrides, refuse if no_include else announce)
    if out is not None:
        writable(out, force)  # a refusal should not wait for the model
    lm = loaded(expected.model, guide, device, dtype)
    chosen, started = expected.preset.for_model(lm.backbone), time.perf_counter()
    names = [control.name for control in expected.controls]
    trace = Watch(names, expected.num_samples, chosen.candidates * chosen.particles) if watch else Trace()
    with trace if isinstance(trace, Watch) else nullcontext():
        samples = run_spec(expected, lm, out, force, callback_on_step=trace)
    show(samples, time.perf_counter() - started, out)
    show_warnings(warnings(expected.controls, trace, samples) if chosen.guidance == "tilt" else [])


def _generate_batch(
    table: Path, spec: Path, overrides: dict[str, Any], out: Path | None, bad_rows: str, keep: list[str],
    no_include: bool, guide: list[str] | None, device: str, dtype: str, force: bool,
) -> None:  # fmt: skip
    from dlm_control.support.processes import own_device
    from dlm_control.tasks.batch.run import run_batch
    from dlm_control.tasks.batch.template import read_template
    from dlm_control.tasks.guided import loaded
    from dlm_control.tasks.report import show_batch
    from dlm_control.tasks.run import writable

    if out is None:
        raise UsageError("--out: missing; the texts of rows go to a file, such as --out texts.jsonl")
    writable(out, force)  # a refusal should not wait for the model
    template = read_template(spec, overrides, refuse if no_include else announce)
    lm = loaded(template.spec.model, guide, own_device(device), dtype)
    report = run_batch(template, table, lm, out, bad_rows, keep, force)
    if report is not None:
        show_batch(report, out)


def explain(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="A YAML file.")],
    picture: Annotated[Path | None, typer.Option(help="Draw the trace here (PNG or SVG; needs matplotlib).")] = None,
    film: Annotated[Path | None, typer.Option(help="Show here how the texts form (GIF, or HTML with a slider).")] = None,
    num_samples: Annotated[int | None, typer.Option(help="How many texts, in place of the spec's number.")] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the spec's.")] = None,
    model: Annotated[str | None, typer.Option(help="Bundled name, folder or hub id, in place of the spec's.")] = None,
    include: Include = None,
    no_include: NoInclude = False,
    guide: Guide = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Show what every control of a spec does at every noise level, and which one holds each word of the texts."""
    for file in include or []:
        include_file(file)
    from dlm_control.sampling.trace import Trace
    from dlm_control.tasks.explain import draw, drawable, explanations, holders, rows, sentence, thinned, traceable, warnings
    from dlm_control.tasks.film import film as film_of
    from dlm_control.tasks.film import filmable, write_film
    from dlm_control.tasks.guided import loaded
    from dlm_control.tasks.report import show_holders, show_trace
    from dlm_control.tasks.run import run_spec, writable
    from dlm_control.tasks.spec import read_spec

    if picture is not None:
        drawable(writable(picture, force=True, option="--picture"))  # a refusal should not wait for the texts
    if film is not None:
        filmable(writable(film, force=True, option="--film"))
    overrides = {"num_samples": num_samples, "seed": seed, "model": model}
    expected, trace = read_spec(spec, overrides, refuse if no_include else announce), Trace()
    lm = loaded(expected.model, guide, device, dtype)
    traceable(expected.preset.for_model(lm.backbone))
    samples = run_spec(expected, lm, callback_on_step=trace)
    controls = expected.controls
    found, lost, said = rows(trace), warnings(controls, trace, samples), sentence(controls, trace, samples)
    held = [holders(trace, sample) for sample in samples if sample.error is None]
    if as_json:
        typer.echo(records.as_json({"rows": found, "warnings": lost, "sentence": said, "words": held}))
    else:
        show_trace(thinned(found), lost, said)
        for name, explanation in explanations(controls, lm).items():
            typer.echo(f"{name} {explanation}")
        show_holders(held)
    if picture is not None:
        draw(trace, picture, f"{spec.name}: {len(samples)} texts")
        typer.echo(f"{picture}", err=as_json)
    if film is not None:
        write_film(film_of(expected, trace, samples), film)
        typer.echo(f"{film}", err=as_json)


def validate(
    specs: Annotated[list[Path], typer.Argument(metavar="SPEC...", help="YAML files.")],
    model: Annotated[str | None, typer.Option(help="Check against this model, in place of the spec's.")] = None,
    probe: Annotated[bool, typer.Option("--probe", help="Sample four texts too, and warn of controls that lose.")] = False,
    include: Include = None,
    no_include: NoInclude = False,
    guide: Guide = None,
) -> None:
    """Report all faults of specs, contradictions included, or how firmly controls are held; with --probe, what is unlikely."""
    for file in include or []:
        include_file(file)
    from dlm_control.tasks.preflight import validator
    from dlm_control.tasks.report import show_warnings

    faultless = validator(probe, guide, refuse if no_include else announce)
    issues = 0
    for spec in specs:
        try:
            validated = faultless(spec, model)
        except UsageError as error:
            issues += 1
            typer.echo(str(error), err=True)
        else:
            held = ", ".join(f"{name} {firmness}" for name, firmness in validated.firmness.items())
            typer.echo(f"{spec}: ok{held and f'; {held}'}")
            show_warnings(validated.warnings)
    if issues:
        raise typer.Exit(2)


def ls(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND",
            help="controllers, models, presets, samplers, suites, readers, metrics, judges or generators; all by default.",
        ),
    ] = None,
    include: Include = None,
    as_json: Json = False,
) -> None:
    """List everything that a spec, a suite or `dlm eval` can name."""
    for file in include or []:
        include_file(file)
    from dlm_control.tasks.listing import listing
    from dlm_control.tasks.report import show_listing

    if as_json:
        typer.echo(records.as_json(listing(kind)))
    else:
        show_listing(listing(kind))


def schema(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="spec, suite, training or fields (a domain file).")] = "spec",
    include: Include = None,
) -> None:
    """Print a JSON schema of specs, suites, training configs or domain files, by which an editor completes and checks them."""
    import json

    for file in include or []:
        include_file(file)
    from dlm_control.tasks.schema import schema as schema_of

    typer.echo(json.dumps(schema_of(kind), indent=1, ensure_ascii=False))
