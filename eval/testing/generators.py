"""Does a generator keep what the harness relies on?"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dlm_control.eval.run.generator import Generator
from dlm_control.support.errors import short_repr
from dlm_control.tasks.targets.target import Target
from dlm_control.testing.report import hold


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
