"""What soft controls reach, alone and with others: success, by another judge too, flaws, and seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from dlm_control.eval.score.flaws import FlawDetector
from dlm_control.eval.score.teacher import Teacher
from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.sample import Sample
from dlm_control.support.errors import ErrorCollector, UsageError
from dlm_control.support.include import include
from dlm_control.support.records import Record, read_record
from dlm_control.support.validation import check_arguments
from dlm_control.support.values import Above, Seed
from dlm_control.support.yaml_file import read_yaml
from dlm_control.tasks.spec import Spec

FREE, JUDGE = "not controlled", "judge"


@dataclass(frozen=True)
class Soft:
    """A soft control as a study asks for it.

    Attributes:
        control: as a spec's `controls` list it.
        preset: as a spec gives it.
        judge: another control, whose check judges the texts as well.
        models: that write the texts; None: all of the study.
        company: controls that it is combined with; None: those of the study.
    """

    control: Mapping[str, Any]
    preset: Mapping[str, Any]
    judge: Mapping[str, Any] | None = None
    models: Sequence[str] | None = None
    company: Mapping[str, Sequence[Mapping[str, Any]]] | None = None


@dataclass(frozen=True)
class Study:
    """A file of `dlm bench soft`.

    Attributes:
        include: Python files of controls and functions, beside it.
        models: that write the texts, each with the teacher whose surprise tells hard words.
        texts: of each cell.
        seed: of all.
        soft: the soft controls, by name.
        company: controls that each is combined with, by name, as a spec lists them.
    """

    models: Mapping[str, str]
    texts: Annotated[int, Above(0)]
    seed: Seed
    soft: Mapping[str, Mapping[str, Any]]
    company: Mapping[str, Sequence[Mapping[str, Any]]]
    include: Sequence[str] = ()

    def softs(self, model: str) -> Iterator[tuple[str, Soft, Mapping[str, Sequence[Mapping[str, Any]]]]]:
        """The soft controls of a model: name, control, and what it is combined with."""
        for name, given in self.soft.items():
            soft = Soft(**given)
            if model in (self.models if soft.models is None else soft.models):
                yield name, soft, self.company if soft.company is None else soft.company


@dataclass(frozen=True)
class Cell(Record):
    """Texts under one soft control and its company.

    Attributes:
        control, company: by name; `not controlled` checks alone.
        texts: how many.
        success: share of texts that obey the soft control.
        judge: share that its other judge passes, where it has one.
        all_hold: share that obeys all controls.
        flaw_rate: share of texts with any flaw.
        cpu_s_a_text: CPU seconds.
        written: the texts.
    """

    control: str
    company: str
    texts: int
    success: float
    judge: float | None
    all_hold: float
    flaw_rate: float
    cpu_s_a_text: float
    written: list[str]


@dataclass(frozen=True)
class SoftScores(Record):
    """`soft-<model>.json`.

    Attributes:
        command: that wrote the last of it.
        weights, teacher: digests.
        seed: of the texts.
        cells: in the order of the study.
    """

    command: str
    weights: str
    teacher: str
    seed: int
    cells: list[Cell]


def read_study(file: Path) -> Study:
    """A study from its file.

    Raises:
        UsageError: it has faults; all in one report.
    """
    content = read_yaml(file).content
    problems = ErrorCollector(str(file))
    found = check_arguments(problems, "", Study, content)
    for name, each in found.get("soft", {}).items():
        soft = check_arguments(problems, f"soft.{name}", Soft, each)
        for model in soft.get("models") or ():
            if model not in found.get("models", {}):
                problems.add(f"soft.{name}.models", f"{model!r} is not among the study's models")
    problems.raise_if_any()
    study = Study(**found)
    for each in study.include:
        include(file.parent / each)
    return study


def kept(file: Path, study: Study, lm: LanguageModel, teacher: Teacher) -> list[Cell]:
    """The cells of an earlier run, which are not written again; none where the file is missing.

    Args:
        file: of that run.
        study, lm, teacher: of this one.

    Raises:
        UsageError: they are of other weights, another teacher or seed, or of another number of texts.
    """
    if not file.exists():
        return []
    known = read_record(SoftScores, file)
    expected = (lm.backbone.weights_digest, teacher.digest, study.seed, study.texts)
    for cell in known.cells:
        found = (known.weights, known.teacher, known.seed, cell.texts)
        if found != expected:
            listed = ["{} weights, teacher {}, seed {}, {} texts a cell".format(*each) for each in (found, expected)]
            raise UsageError(f"{file} holds cells of {listed[0]}; this study asks for {listed[1]}: give another --out")
    return known.cells


def cells(study: Study, model: str, lm: LanguageModel, teacher: Teacher, done: Sequence[Cell] = ()) -> Iterator[Cell]:
    """Each soft control left alone, under control, and under control with each company.

    Args:
        study: what to write.
        model: its name in the study.
        lm: the same, loaded.
        teacher: whose surprise tells hard words.
        done: cells that are there already, which are not written again.

    Raises:
        UsageError: a control is faulty, or fails.
    """
    known = {(cell.control, cell.company) for cell in done}
    asked = []
    for name, soft, company in study.softs(model):
        for label, others in {FREE: [], "alone": [], **company}.items():
            entry = _named(soft.control, name, **({"weight": 0} if label == FREE else {}))
            judge = [] if soft.judge is None else [_named(soft.judge, JUDGE, weight=0)]
            preset = {"candidates": 1} if label == FREE else soft.preset
            spec = Spec.from_mapping({"controls": [entry, *judge, *others], "preset": preset}, f"{name}, {label}")
            asked += [] if (name, label) in known else [(name, label, spec)]
    detector = FlawDetector(teacher)
    for name, label, spec in asked:
        chosen = spec.preset.for_model(lm.backbone)
        lm.generate(spec.controls, 1, study.seed, chosen)  # what is made once does not count
        started = time.process_time()
        samples = lm.generate(spec.controls, study.texts, study.seed, chosen)
        yield _cell(name, label, samples, detector, teacher, (time.process_time() - started) / study.texts)


def _cell(name: str, company: str, samples: Sequence[Sample], detector: FlawDetector, teacher: Teacher, seconds: float) -> Cell:
    texts = [sample.text for sample in samples]
    flawed = [any(detector.flaws(text, nats)) for text, nats in zip(texts, teacher.word_nll(texts), strict=True)]
    judged = [sample.checks[JUDGE].passed for sample in samples if JUDGE in sample.checks]
    asked = [all(check.passed for key, check in sample.checks.items() if key != JUDGE) for sample in samples]
    return Cell(
        control=name, company=company, texts=len(texts), success=_share([sample.checks[name].passed for sample in samples]),
        judge=_share(judged) if judged else None, all_hold=_share(asked), flaw_rate=_share(flawed),
        cpu_s_a_text=round(seconds, 3), written=texts,
    )  # fmt: skip


def _share(found: Sequence[bool]) -> float:
    return round(sum(found) / len(found), 4)


def _named(entry: Mapping[str, Any], name: str, **use: Any) -> dict[str, Any]:
    """A spec's entry with a name and a weight of ours."""
    [(controller, arguments)] = entry.items()
    if not isinstance(arguments, Mapping):
        raise UsageError(f"{controller}: give its arguments by name, such as {{length: {{words: 18}}}}")
    return {controller: {**arguments, "name": name, **use}}
