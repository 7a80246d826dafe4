"""Training ablations: what each choice gains per CPU minute, by the lm-score of samples."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from dlm_control.eval.score.metrics import distinct
from dlm_control.eval.score.statistics import figure
from dlm_control.eval.score.teacher import Teacher, teacher_of_words, train_a_teacher
from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.presets import preset
from dlm_control.support.errors import ErrorCollector, UsageError, suggestion
from dlm_control.support.records import Record, parse_record, record_text
from dlm_control.support.validation import check_arguments
from dlm_control.support.values import Above
from dlm_control.support.yaml_file import read_yaml
from dlm_control.training.trainer import TrainConfig, Trainer


@dataclass(frozen=True)
class Ablation:
    """Training runs that differ from one base.

    Attributes:
        base: a training config without `out`.
        arms: by name, what each changes of it; nested values are merged.
        marks: how often each run is sampled.
        samples: texts at each mark.
        sampling: values of the default preset to change.
    """

    base: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    marks: Annotated[int, Above(0)]
    samples: Annotated[int, Above(0)]
    sampling: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Ablation:
        """An ablation file.

        Raises:
            UsageError: it is missing, or its keys are not those above.
        """
        given, lines = read_yaml(path)
        problems = ErrorCollector(str(path), lines)
        found = check_arguments(problems, "", cls, given)
        for name, changes in found.get("arms", {}).items():
            settings = {"data": "", "out": "", **merged(found.get("base", {}), changes)}
            try:
                TrainConfig.checked(settings, str(path))
            except UsageError as error:
                problems.extend(f"arms.{name}", error)
        try:
            preset("default", **found.get("sampling", {}))
        except UsageError as error:
            problems.extend("sampling", error)
        problems.raise_if_any()
        return cls(**found)


@dataclass(frozen=True)
class Mark(Record):
    """A line of `ablation.jsonl`: an arm at one of its marks.

    Attributes:
        arm: its name.
        step: of the training.
        cpu_s: seconds of training so far.
        lm_score: of samples, nats per word.
        low, high: 95 % bootstrap interval of the lm-score.
        n: samples that have an lm-score.
        distinct_3: share of trigrams of the samples that are new among them.
        seed: of the training.
    """

    arm: str
    step: int
    cpu_s: float
    lm_score: float
    low: float
    high: float
    n: int
    distinct_3: float
    seed: int


def run_ablation(
    ablation: Ablation, data: str, out: Path, runs: Path, only: list[str] | None = None, teacher: str | None = None
) -> None:
    """Train and score each arm that the result file lacks; one JSON line for each mark.

    Args:
        ablation: the arms, and how they are sampled.
        data: the corpus.
        out: folder of `ablation.jsonl` and `ablation.png`.
        runs: folder for the training state.
        only: names of arms; all by default.
        teacher: whose surprise is the lm-score; by default the bundled one of the corpus's words.

    Raises:
        UsageError: there is no such arm, or no teacher.
    """
    problems = ErrorCollector("--arm")
    for name in only or ():
        if name not in ablation.arms:
            problems.add("", f"unknown {name!r}{suggestion(name, ablation.arms)}; there are: {', '.join(ablation.arms)}")
    problems.raise_if_any()
    out.mkdir(parents=True, exist_ok=True)
    results = out / "ablation.jsonl"
    done = {mark.arm for mark in read_marks(results)} if results.is_file() else set()
    judge = Teacher(teacher) if teacher else None
    for name in only or ablation.arms:
        if name in done:
            continue
        settings = merged(ablation.base, ablation.arms[name])
        trainer = Trainer(
            TrainConfig(**settings, data=data, out=str(runs / name.replace(" ", "-")), eval_every=10**6, save_every=10**6)
        )
        judge = judge or _judge_of(trainer)
        lines = []
        for mark in range(1, ablation.marks + 1):
            trainer.run(until=math.ceil(settings["steps"] * mark / ablation.marks))
            lines.append(record_text(_mark(name, trainer, judge, ablation)))
        with open(results, "a", encoding="utf-8") as file:
            file.write("".join(lines))
    plot(results, out / "ablation.png")


def _judge_of(trainer: Trainer) -> Teacher:
    """The bundled teacher of the words that a run has read from its corpus."""
    recipe: Any = trainer.recipe
    source = teacher_of_words(recipe.tokenizer)
    if source is None:
        raise UsageError(
            f"ablate: lm-score needs a teacher, and no bundled one is of the words of {trainer.config.data}; "
            f"{train_a_teacher(None)}"
        )
    return Teacher(source)


def _mark(arm: str, trainer: Trainer, teacher: Teacher, ablation: Ablation) -> Mark:
    recipe: Any = trainer.recipe
    model: Any = copy.deepcopy(trainer.average)
    lm = LanguageModel(recipe.backbone(model, recipe.tokenizer))
    chosen = preset("default", **ablation.sampling)
    texts = [sample.text for sample in lm.generate(num_samples=ablation.samples, preset=chosen)]
    nll = [score for score in teacher.nats_per_word(texts) if not math.isnan(score)]
    fluency = figure(nll)
    return Mark(
        arm, trainer.step, round(trainer.seconds, 1), fluency.mean, fluency.low, fluency.high, fluency.n,
        round(distinct(texts, 3), 4), trainer.config.seed,
    )  # fmt: skip


def read_marks(results: Path) -> list[Mark]:
    """The lines of `ablation.jsonl`.

    Raises:
        UsageError: a line is none of an ablation's; it is named.
    """
    lines = results.read_text(encoding="utf-8").splitlines()
    return [parse_record(Mark, line, f"{results}:{number}") for number, line in enumerate(lines, start=1)]


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, merged where both hold mappings."""
    both = {k: merged(base[k], v) for k, v in changes.items() if isinstance(v, dict) and isinstance(base.get(k), dict)}
    return {**base, **changes, **both}


def plot(results: Path, picture: Path) -> None:
    """lm-score against CPU minutes, one line an arm.

    Raises:
        UsageError: matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError:
        raise UsageError("plots need matplotlib: pip install 'dlm-control[plot]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    arms: dict[str, list[Mark]] = {}
    for mark in read_marks(results):
        arms.setdefault(mark.arm, []).append(mark)
    drawing, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    for number, (name, marks) in enumerate(sorted(arms.items(), key=lambda arm: arm[1][-1].lm_score)):
        minutes, scores = [mark.cpu_s / 60 for mark in marks], [mark.lm_score for mark in marks]
        axes.plot(
            minutes,
            scores,
            "os^Dv"[number % 5] + ("--" if name.startswith("paper") else "-"),
            label=f"{name} ({scores[-1]:.2f})",
            ms=4,
        )
    axes.set(xlabel="CPU minutes of training (one core)", ylabel="lm-score of samples, nat/word (lower is better)")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.grid(alpha=0.3)
    drawing.savefig(picture, dpi=120)
