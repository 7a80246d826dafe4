"""`dlm bench`: what decoding costs and what it buys, measured; one JSON file and one picture a command."""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlm_control.eval.records import Curves, Figure, Point, Scores
from dlm_control.support.errors import UsageError
from dlm_control.support.records import write_record
from dlm_control.tasks.commands import NoInclude
from dlm_control.tasks.includes import announce, refuse

if TYPE_CHECKING:
    from dlm_control.tasks.suite import Suite

bench = typer.Typer(help="Costs and curves, measured; each command writes bench-<name>.json and .svg.", no_args_is_help=True)
_Suite = Annotated[str, typer.Argument(help="Such as pos or spans.")]
_Data = Annotated[Path | None, typer.Option(help="Folder with e2e/ and control_targets/.")]
_Out = Annotated[Path, typer.Option(help="Folder of the files.")]
_Model = Annotated[str, typer.Option(help="Bundled name, folder or hub id.")]
_Limit = Annotated[int, typer.Option(min=1, help="First targets only.")]
_Runs = Annotated[Path, typer.Option(help="Folder of the texts; a run that is there goes on.")]
_Repeats = Annotated[int, typer.Option(min=1, help="Timings of each point; the median counts.")]
_Samples = Annotated[int, typer.Option(min=1, help="Texts of each target.")]


@bench.command()
def length(out: _Out, model: _Model = "e2e", repeats: _Repeats = 5) -> None:
    """Seconds a text against its length: diffusion at 50 and 20 steps, and an autoregressive LM with its cache."""
    from dlm_control.controllers.length import Length
    from dlm_control.pipeline import load

    lm = load(model)
    lengths = (8, 16, 24, 32, 40)
    series: dict[str, list[Point]] = {}
    for steps in (50, 20):
        points = []
        for words in lengths:
            write = partial(lm.generate, [Length(words)], 4, preset="single", steps=steps)
            points.append(Point(words, round(_median(write, repeats) / 4, 4)))
        series[f"diffusion, {steps} steps"] = points
    series["autoregressive (the teacher), cached"] = [
        Point(words, round(_median(partial(_autoregressive, words), repeats) / 4, 4)) for words in lengths
    ]
    ratio = series["diffusion, 50 steps"][-1].y / series["autoregressive (the teacher), cached"][-1].y
    caption = (
        f"Four texts at a time, one candidate each. At {lengths[-1]} words, 50 steps take {ratio:.1f} times as long as the "
        "autoregressive LM."
    )
    _write(out, "length", "Cost of decoding", caption, "words", "seconds a text", series, {"ratio": round(ratio, 2)}, log=True)


@bench.command()
def controls(out: _Out, model: _Model = "e2e", repeats: _Repeats = 5) -> None:
    """Seconds a text against the number of controls."""
    from dlm_control.control.controller import Controller
    from dlm_control.controllers.keyword import Keyword
    from dlm_control.controllers.length import Length
    from dlm_control.controllers.pos import PartsOfSpeech
    from dlm_control.controllers.semantic import Semantic
    from dlm_control.controllers.span import Span
    from dlm_control.pipeline import load

    lm = load(model)
    tags = PartsOfSpeech("PROPN AUX DET ADJ NOUN", position=0)
    stages: list[Controller] = [Length(16), Keyword("riverside"), Semantic("food", "Japanese"), Span([0, 0, "NP"]), tags]
    names = ["length", "keyword", "semantic", "span", "pos"]
    points: list[Point] = []
    for count in range(1, len(stages) + 1):
        seconds = _median(partial(lm.generate, stages[:count], 4), repeats) / 4
        points.append(Point(count, round(seconds, 4), f"+ {names[count - 1]}"))
    ratio = points[-1].y / points[0].y
    caption = f"16 words, default preset, four texts at a time. Five cost {ratio:.2f} times one."
    _write(
        out,
        "controls",
        "Cost of controls",
        caption,
        "controls",
        "seconds a text",
        {"default": points},
        {"ratio": round(ratio, 3)},
    )


@bench.command()
def pooling(out: _Out, model: _Model = "e2e", repeats: _Repeats = 3, samples: _Samples = 1) -> None:
    """Texts a second of sixteen targets that share network calls, against one target at a time, of free and of fixed length."""
    from dlm_control.eval.studies.pooling import measure
    from dlm_control.pipeline import load

    lm = load(model)
    found = measure(lm, repeats, samples)
    series = {
        way: [Point(x, round(1 / each.cpu_seconds_a_text[way], 2), name) for x, (name, each) in enumerate(found.items())]
        for way in ("alone", "together")
    }
    gains = " and ".join(f"{each.gain:.2f} times as many where targets have {name}" for name, each in found.items())
    caption = f"Sixteen targets, default preset. Together they give {gains}."
    figures = {"weights": lm.backbone.weights_digest, "found": {name: each.to_json() for name, each in found.items()}}
    _write(out, "pooling", "Sharing network calls", caption, "", "texts a CPU second", series, figures, joined=False)


@bench.command()
def batch(
    out: _Out,
    model: _Model = "e2e",
    repeats: _Repeats = 2,
    rows: Annotated[int, typer.Option(min=1, help="Of the batch that is compared with one call a row.")] = 48,
    texts: Annotated[int, typer.Option(min=1, help="Rows of the long run, whose time and memory are measured.")] = 1000,
) -> None:
    """Texts a second of a batch of rows against one call a row, then time and memory of a long run from a batch file."""
    from dlm_control.eval.studies.batch import ALONE, BATCH, long_run, measure
    from dlm_control.pipeline import load

    lm = load(model)
    found, long = measure(lm, ("default", "fast"), rows, repeats), long_run(lm, texts, "fast")
    series = {
        way: [Point(x, round(1 / each.cpu_seconds_a_text[way], 2), name) for x, (name, each) in enumerate(found.items())]
        for way in (ALONE, BATCH)
    }
    gains = " and ".join(f"{each.gain:.2f} times as many under the preset {name}" for name, each in found.items())
    caption = (
        f"{rows} rows, each a length and two fields. A batch gives {gains}. {long.texts:,} rows of a file under {long.preset}: "
        f"{long.texts_a_cpu_second:.1f} texts a CPU second, {long.peak_mib} MiB at most."
    )
    figures = {"weights": lm.backbone.weights_digest, "found": {name: each.to_json() for name, each in found.items()}}
    figures["long_run"] = long.to_json()
    _write(out, "batch", "One batch of rows", caption, "", "texts a CPU second", series, figures, joined=False)


@bench.command()
def soft(
    study: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A file such as results/soft/study.yaml.")],
    out: _Out,
    model: Annotated[str | None, typer.Option(help="One of the study's models; all by default.")] = None,
) -> None:
    """Success, flaws and seconds of soft controls, alone and with others; cells that are there are kept."""
    from dlm_control.eval.score.teacher import Teacher
    from dlm_control.eval.studies.soft import SoftScores, cells, kept, read_study
    from dlm_control.pipeline import load

    asked = read_study(study)
    if model is not None and model not in asked.models:
        raise UsageError(f"--model {model}: not among the study's models ({', '.join(asked.models)})")
    _folder(out)
    for name in asked.models if model is None else [model]:
        lm, judge = load(name), Teacher(asked.models[name])
        file = out / f"soft-{Path(name).name}.json"
        found = kept(file, asked, lm, judge)
        for cell in cells(asked, name, lm, judge, found):
            found.append(cell)
            command = " ".join(["dlm", *sys.argv[1:]])
            write_record(file, SoftScores(command, lm.backbone.weights_digest, judge.digest, asked.seed, found))
            typer.echo(
                f"{name}, {cell.control}, {cell.company}: {cell.success:.0%} obey, {cell.all_hold:.0%} all; "
                f"{cell.flaw_rate:.0%} flawed; {cell.cpu_s_a_text:.2f} s a text"
            )


@bench.command()
def scale(
    out: _Out,
    repeats: Annotated[int, typer.Option(min=1, help="Timings of each point; the median counts.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and noise.")] = 0,
) -> None:
    """Cost of a guided step on large vocabularies, in network calls of random models of 10 million parameters: minutes."""
    from dlm_control.eval.studies.scale import measure

    found = measure(repeats=repeats, seed=seed)
    series = {
        f"{each.kind}, {each.words:,} words, {each.positions} positions": [
            Point(x, step.guidance_in_calls, step.controls) for x, step in enumerate(each.steps)
        ]
        for each in found
    }
    most = max(points[2].y for points in series.values())
    tags = max(points[3].y for points in series.values())
    caption = (
        f"Two texts at a time. Keyword, length and infill together cost at most {most:.2f} network calls a step; with tags, "
        f"which speak of every word, in place of infill, {tags:.2f}."
    )
    figures = {"seed": seed, "found": [each.to_json() for each in found]}
    _write(out, "scale", "Cost of guidance", caption, "sets of controls", "network calls", series, figures)


@bench.command()
def steps(
    suite: _Suite,
    out: _Out,
    data: _Data = None,
    model: _Model = "e2e",
    limit: _Limit = 20,
    runs: _Runs = Path("runs/bench"),
    values: Annotated[str, typer.Option(help="Step counts.")] = "5,10,20,50,100",
    no_include: NoInclude = False,
) -> None:
    """Success against fluency for numbers of steps."""
    settings = [{"steps": value} for value in _numbers(values, int)]
    _tradeoff("steps", _read(suite, no_include), data, out, runs, model, limit, settings, lambda s: f"{s['steps']}")


@bench.command()
def strength(
    suite: _Suite,
    out: _Out,
    data: _Data = None,
    model: _Model = "e2e",
    limit: _Limit = 20,
    runs: _Runs = Path("runs/bench"),
    values: Annotated[str, typer.Option(help="Factors of the controls' weights.")] = "0.1,0.25,0.5,1,2,4",
    no_include: NoInclude = False,
) -> None:
    """Success against fluency for strengths of guidance."""
    settings = [{"weight": value} for value in _numbers(values, float)]
    _tradeoff("strength", _read(suite, no_include), data, out, runs, model, limit, settings, lambda s: f"× {s['weight']:g}")


@bench.command()
def quality(
    suite: _Suite,
    out: _Out,
    data: _Data = None,
    model: _Model = "e2e",
    limit: _Limit = 60,
    runs: _Runs = Path("runs/bench"),
    candidates: Annotated[str, typer.Option(help="Numbers of candidates.")] = "1,2,4",
    temperature: Annotated[str, typer.Option(help="Temperatures of the word distributions.")] = "0.5,0.9,1.2",
    steps: Annotated[str, typer.Option(help="Step counts.")] = "10,20,50",
    select: Annotated[str, typer.Option(help="Ways to choose among candidates.")] = "checks,energies,likelihood,mbr",
    no_include: NoInclude = False,
) -> None:
    """Flaw rate against diversity, one setting varied at a time; human text is a point where --data is given."""
    from dlm_control.eval.run.generator import generator
    from dlm_control.eval.run.harness import run_suite

    asked = _read(suite, no_include)
    asked.check_data(data)
    varied: dict[str, list[Any]] = {
        "candidates": _numbers(candidates, int), "temperature": _numbers(temperature, float), "steps": _numbers(steps, int),
        "select": select.split(","),
    }  # fmt: skip
    writers = {(name, value): generator("diffusion", asked, model, {name: value}) for name in varied for value in varied[name]}
    _folder(out)
    curves: dict[str, dict[str, list[Point]]] = {"distinct_3": {}, "self_bleu": {}}
    scores: Scores | None = None
    for (name, value), writer in writers.items():
        scores = run_suite(asked, writer, data, runs / f"quality-{asked.name}-{name}-{value}", samples=4, limit=limit)
        if scores is None:  # another process of `accelerate launch` has them
            continue
        for measure, series in curves.items():
            series.setdefault(name, []).append(_flawed(scores, measure, "", f"{value}"))
    if scores is None:
        return
    caption = f"{scores.targets} targets × 4; the default preset but for the setting that varies."
    for measure, series in curves.items():
        if "flaw_rate_human" in scores.figures:
            series["human text"] = [_flawed(scores, measure, "_human", "")]
        title = f"{asked.name}: flaws against diversity ({measure})"
        weights = {"weights": str(writer.provenance()["weights"])}
        _write(out, f"quality-{asked.name}-{measure}", title, caption, measure, "texts with a flaw, %", series, weights)


def _flawed(scores: Scores, measure: str, side: str, label: str) -> Point:
    """A point of diversity and flaw rate."""
    return _percent(scores.numbers[f"{measure}{side}"], scores.figures[f"flaw_rate{side}"], label)


def _percent(x: float, share: Figure, label: str, texts: int | None = None) -> Point:
    """A point whose height is a share in %."""
    y, low, high = (round(end * 100, 2) for end in (share.mean, share.low, share.high))
    return Point(x, y, label, texts, [low, high])


@bench.command()
def embeddings(out: _Out, model: _Model = "e2e", seed: int = 0) -> None:
    """Learned and random word embeddings by part of speech: t-SNE (Li et al. 2022, Fig. 3), and how often neighbours agree."""
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise UsageError("bench embeddings: scikit-learn is not installed; pip install 'dlm-control[plot]'") from None
    import torch

    from dlm_control.controllers.guides.energies import tag_table
    from dlm_control.controllers.linguistics.trees import UNIVERSAL
    from dlm_control.pipeline import load

    lm = load(model)
    tags = tag_table(lm.backbone, "universal").argmax(-1).cpu()
    plotted = [i for i, word in enumerate(lm.backbone.vocabulary) if i > 2 and word.isalpha() and int(tags[i]) > 0]
    learned = lm.backbone.embeddings[plotted].cpu()
    random = torch.nn.functional.normalize(torch.randn(learned.shape, generator=torch.Generator().manual_seed(seed)), dim=-1)
    agreement = {}
    for name, table in (("learned", learned), ("random", random)):
        near = torch.cdist(table, table).fill_diagonal_(torch.inf).argmin(-1)
        agreement[name] = round(float((tags[plotted] == tags[plotted][near]).float().mean()), 4)
    places = TSNE(random_state=seed, init="pca", perplexity=30).fit_transform(learned.numpy())
    series: dict[str, list[Point]] = {}
    for (x, y), i in zip(places.tolist(), plotted, strict=True):
        series.setdefault(UNIVERSAL[int(tags[i]) - 1], []).append(Point(round(x, 2), round(y, 2)))
    caption = (
        f"{len(plotted)} words by their commonest tag. The nearest neighbour has the same tag for {agreement['learned']:.0%} "
        f"of the learned embeddings and {agreement['random']:.0%} of random ones."
    )
    _write(out, "embeddings", "Learned embeddings, t-SNE", caption, "", "", series, {"agreement": agreement}, joined=False)


def _numbers(values: str, kind: Callable[[str], float]) -> list[float]:
    """Numbers between commas."""
    try:
        found = [kind(value) for value in values.split(",")]
    except ValueError:
        raise UsageError(f"--values: expected numbers with commas between, such as 5,10,20, got {values!r}") from None
    return found


def _read(suite: str, no_include: bool) -> Suite:
    from dlm_control.tasks.suite import read_suite

    return read_suite(suite, refuse if no_include else announce)


def _tradeoff(
    name: str, asked: Suite, data: Path | None, out: Path, runs: Path, model: str, limit: int,
    settings: Sequence[dict[str, Any]], label: Callable[[dict[str, Any]], str],
) -> None:  # fmt: skip
    from dlm_control.eval.run.generator import generator
    from dlm_control.eval.run.harness import run_suite

    if not asked.metrics:
        raise UsageError(
            f"bench {name}: suite {asked.name} has no metric that success could be; take one that has, such as pos"
        )
    metric, points = asked.metrics[0], []
    asked.check_data(data)
    writers = [generator("diffusion", asked, model, changes) for changes in settings]
    _folder(out)
    for changes, writer in zip(settings, writers, strict=True):
        folder = runs / f"{name}-{asked.name}-{next(iter(changes.values()))}"
        scores = run_suite(asked, writer, data, folder, samples=4, limit=limit)
        if scores is None:  # another process of `accelerate launch` has them
            continue
        if "lm_score" not in scores.figures:
            raise UsageError(f"bench {name}: {scores.findings['no_teacher']}")
        figures = scores.figures
        points.append(_percent(figures["lm_score"].mean, figures[metric], label(changes), scores.texts))
    if scores is None:
        return
    caption = f"{scores.targets} targets × 4; the default preset otherwise; labels are {name}."
    title = f"{asked.name}: success against fluency, by {name}"
    _write(
        out,
        f"{name}-{asked.name}",
        title,
        caption,
        "lm-score, nats per word",
        f"{metric}, %",
        {asked.name: points},
        {"weights": str(writer.provenance()["weights"])},
    )


def _autoregressive(words: int) -> None:
    """Four texts of so many words, sampled with the cache of the bundled teacher."""
    import torch

    from dlm_control.eval.score.teacher import Teacher

    if not _teacher:
        _teacher.append(Teacher("e2e-teacher"))
    model, cache = _teacher[0].model, None
    ids = torch.full((4, 1), _teacher[0].tokenizer.eos_token_id, device=model.device)
    with torch.no_grad():
        for _ in range(words + 1):
            out = model(ids, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            ids = out.logits[:, -1].softmax(-1).multinomial(1)


_teacher: list[Any] = []


def _median(run: Callable[[], object], repeats: int) -> float:
    """Median wall time; a first call warms up."""
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be made a folder: {error.strerror}") from None


def _write(
    out: Path, name: str, title: str, caption: str, x: str, y: str, series: dict[str, list[Point]], figures: dict[str, Any],
    joined: bool = True, log: bool = False,
) -> None:  # fmt: skip
    import torch

    from dlm_control.eval.report.plots import draw, svg
    from dlm_control.support.files import write_whole

    _folder(out)
    curves = Curves(
        title=title, caption=caption, command=" ".join(["dlm", *sys.argv[1:]]), figures=figures, x=x, y=y, joined=joined,
        log=log, threads=torch.get_num_threads(), series=series,
        versions={"torch": torch.__version__, "python": platform.python_version()},
    )  # fmt: skip
    write_record(out / f"bench-{name}.json", curves)
    write_whole({out / f"bench-{name}.svg": svg(lambda axes: draw(axes, curves))})
    typer.echo(f"{out / f'bench-{name}.json'}: {caption}")
