"""Do metrics, target readers, judges and generators keep what the harness relies on?"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dlm_control.control.use import with_unique_names
from dlm_control.eval.records import Figure, Findings
from dlm_control.eval.run.generator import Generator
from dlm_control.eval.score.judges import JUDGES, Judge
from dlm_control.support.errors import ErrorCollector, UsageError, short_repr
from dlm_control.support.validation import check_arguments
from dlm_control.tasks.metric import METRICS, Metric
from dlm_control.tasks.targets.reader import READERS, TargetReader
from dlm_control.tasks.targets.target import WORDS, Target, digest_of
from dlm_control.testing.report import hold

ODD_TEXTS = ("", ".", "É\u2028ß — 99 %", "word " * 300)  # a generator may write such ones
_MOST = 50  # targets that are looked at


@dataclass(frozen=True)
class _OfMetric:
    metric: Metric
    target: Target
    right: Sequence[str]
    wrong: Sequence[str]


def check_metric(metric: Metric, target: Target, *, right: Sequence[str], wrong: Sequence[str]) -> None:
    """Hold a metric to every rule of a metric.

    Args:
        metric: a function under `@register_metric`.
        target: that texts are written for.
        right: texts that score 1; at least one.
        wrong: texts that score less; at least one.

    Raises:
        ConformanceError: rules are broken; all in one report.
        ValueError: no right or no wrong text.
    """
    if not right or not wrong:
        raise ValueError("check_metric needs at least one right and one wrong text")
    hold(f"metric {metric.name}", METRIC_RULES, _OfMetric(metric, target, right, wrong))


def _scores(case: _OfMetric) -> Iterator[str]:
    """Right texts score 1, wrong ones less; every text from 0 to 1, odd ones too."""
    for text in (*case.right, *case.wrong, *ODD_TEXTS):
        score = case.metric(text, case.target)
        if math.isnan(score):
            yield f"{short_repr(text)} could not be judged; install what the metric needs"
        elif (text in case.right and score < 1) or (text in case.wrong and score >= 1):
            yield f"{short_repr(text)} scored {score:g}, expected {'1' if text in case.right else 'less than 1'}"


def _scores_again(case: _OfMetric) -> Iterator[str]:
    """A score depends on text and target alone, and the target stays as it was."""
    before = digest_of([case.target])
    for text in (*case.right, *case.wrong):
        first, second = case.metric(text, case.target), case.metric(text, case.target)
        if first != second:
            yield f"{short_repr(text)} scored {first:g}, and {second:g} the second time"
    if digest_of([case.target]) != before:
        yield "it changes the target"


def _is_of_its_target(case: _OfMetric) -> Iterator[str]:
    """The target has what the metric wants."""
    if not case.metric.is_of(case.target):
        yield f"wants {case.metric.wants!r}, and the target expects {', '.join(case.target.expected) or 'nothing'}"


def _metric_is_found(case: _OfMetric) -> Iterator[str]:
    """Its name leads to it."""
    yield from _found(METRICS, case.metric)


METRIC_RULES = {
    "is found": _metric_is_found, "is of its target": _is_of_its_target, "scores": _scores, "scores again": _scores_again,
}  # fmt: skip


@dataclass(frozen=True)
class _OfReader:
    reader: TargetReader
    data: Path
    arguments: Mapping[str, Any]
    faulty: Sequence[Mapping[str, Any]]

    def targets(self) -> list[Target]:
        return list(islice(self.reader(self.data, WORDS, **self.arguments), _MOST))


def check_reader(reader: TargetReader, data: Path, *, faulty: Sequence[Mapping[str, Any]] = (), **arguments: Any) -> None:
    """Hold a target reader to every rule of a reader; its first fifty targets are looked at.

    Args:
        reader: a function under `@register_reader`.
        data: folder of its files.
        faulty: arguments with a mistake, as a suite may give them, each of which must be told.
        **arguments: as a suite gives them.

    Raises:
        ConformanceError: rules are broken; all in one report.
    """
    hold(f"reader {reader.name}", READER_RULES, _OfReader(reader, data, arguments, faulty))


def _reads(case: _OfReader) -> Iterator[str]:
    """There are targets, and names tell them apart."""
    targets = case.targets()
    if not targets:
        yield "yields no target"
    strange = next((each for each in targets if not isinstance(each, Target)), None)
    if strange is not None:
        yield f"yields {short_repr(strange)}, expected a Target"
    elif len({target.name for target in targets}) < len(targets):
        yield "two targets have one name"


def _reads_again(case: _OfReader) -> Iterator[str]:
    """The same arguments give the same targets."""
    if digest_of(case.targets()) != digest_of(case.targets()):
        yield "gives other targets the second time; draw from random.Random(seed), with a seed among its arguments"


def _references_obey(case: _OfReader) -> Iterator[str]:
    """Human texts of targets pass the checks of their controls."""
    for target in case.targets():
        for control in with_unique_names(target.controls) if target.reference else ():
            check = control.check(str(target.reference))
            if check.judged and not check.passed:
                yield f"target {target.name!r}: its reference does not obey {control.name}: {check.why}"


def _tells_mistakes(case: _OfReader) -> Iterator[str]:
    """A missing file and faulty arguments are UsageErrors."""
    if case.reader.needs_files:
        with TemporaryDirectory() as empty:
            try:
                list(case.reader(Path(empty), WORDS, **case.arguments))
            except UsageError:
                pass
            except Exception as error:
                yield f"a missing file raised {type(error).__name__}, expected a UsageError that names the file"
            else:
                yield "reads no file; say needs_files=False"
    for given in case.faulty:
        problems = ErrorCollector("")
        check_arguments(problems, "", case.reader.function, given, 2)
        try:
            if not problems.found:
                list(case.reader(case.data, WORDS, **given))
        except UsageError:
            continue
        except Exception as error:
            yield f"{short_repr(dict(given))} raised {type(error).__name__}, expected a UsageError"
        else:
            if not problems.found:
                yield f"{short_repr(dict(given))} raised nothing, expected a UsageError"


def _reader_is_found(case: _OfReader) -> Iterator[str]:
    """Its name leads to it."""
    yield from _found(READERS, case.reader)


READER_RULES = {
    "is found": _reader_is_found, "reads": _reads, "reads again": _reads_again, "references obey": _references_obey,
    "tells mistakes": _tells_mistakes,
}  # fmt: skip


@dataclass(frozen=True)
class _OfJudge:
    judge: Judge
    texts: Sequence[str]
    human: Sequence[str]


def check_judge(judge: Judge, texts: Sequence[str], human: Sequence[str]) -> None:
    """Hold a judge to every rule of a judge.

    Args:
        judge: a function under `@register_judge`.
        texts: of a run.
        human: sentences of a corpus.

    Raises:
        ConformanceError: rules are broken; all in one report.
    """
    hold(f"judge {judge.name}", JUDGE_RULES, _OfJudge(judge, texts, human))


def _judges(case: _OfJudge) -> Iterator[str]:
    """With and without human text there are figures, their names begin with the judge's, and their numbers are finite."""
    for corpora in (None, (case.human, case.human)):
        found: Findings = case.judge(case.texts, corpora)
        if not found:
            yield "gives no figure"
        for name, value in found.items():
            if not name.startswith(case.judge.name):
                yield f"figure {name!r}: expected a name that begins with {case.judge.name!r}"
            number = value.mean if isinstance(value, Figure) else value
            if isinstance(number, float) and not math.isfinite(number):
                yield f"figure {name!r} is {number}, expected a finite number"


def _judges_again(case: _OfJudge) -> Iterator[str]:
    """The same texts give the same figures."""
    if case.judge(case.texts, None) != case.judge(case.texts, None):
        yield "gives other figures the second time"


def _judge_is_found(case: _OfJudge) -> Iterator[str]:
    """Its name leads to it."""
    yield from _found(JUDGES, case.judge)


JUDGE_RULES = {"is found": _judge_is_found, "judges": _judges, "judges again": _judges_again}


@dataclass(frozen=True)
class _OfGenerator:
    generator: Generator
    targets: Sequence[Target]


def check_generator(generator: Generator, targets: Sequence[Target]) -> None:
    """Hold a generator to every rule of a generator.

    Args:
        generator: that writes texts of suites.
        targets: that it can write for; at least two.

    Raises:
        ConformanceError: rules are broken; all in one report.
        ValueError: fewer than two targets.
    """
    if len(targets) < 2:
        raise ValueError("check_generator needs at least two targets")
    hold(f"generator {type(generator).__name__}", GENERATOR_RULES, _OfGenerator(generator, targets))


def _writes(case: _OfGenerator) -> Iterator[str]:
    """One text for each index, with the network calls that it took."""
    found = case.generator.texts(case.targets[0], [0, 1, 2], 0)
    if len(found) != 3:
        yield f"wrote {len(found)} texts for 3 indices"
    for output in found:
        if not isinstance(output.text, str) or not math.isfinite(output.calls):
            yield f"wrote {short_repr(output)}, expected a text and a number of calls"


def _writes_again(case: _OfGenerator) -> Iterator[str]:
    """A text depends on target, index and seed alone: not on company, on order, or on what was written before."""
    alone = [case.generator.texts(target, [i], 3)[0].text for i, target in enumerate(case.targets)]
    if alone != [case.generator.texts(target, [i], 3)[0].text for i, target in enumerate(case.targets)]:
        yield "writes another text the second time; draw from a generator that is seeded with seed and index"
    together = case.generator.texts_of_many(case.targets, [[i] for i in range(len(case.targets))], 3)
    if alone != [each[0].text for each in together]:
        yield "writes another text in company of other targets"
    if [each.text for each in case.generator.texts(case.targets[0], [0, 1], 3)][:1] != alone[:1]:
        yield "writes another text in company of other indices"


def _says_what_texts_depend_on(case: _OfGenerator) -> Iterator[str]:
    """Its provenance is JSON, and the same each time."""
    said = case.generator.provenance()
    if json.loads(json.dumps(said)) != json.loads(json.dumps(case.generator.provenance())):
        yield "gives another provenance the second time; a run could not go on"


GENERATOR_RULES = {"writes": _writes, "writes again": _writes_again, "says what texts depend on": _says_what_texts_depend_on}


def _found(registry: Mapping[str, Any], thing: Any) -> Iterator[str]:
    if registry.get(thing.name) != thing:
        yield f"the name {thing.name!r} leads to {'another one' if thing.name in registry else 'nothing'}; is it registered?"
