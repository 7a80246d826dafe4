"""What a batch of rows costs against one call a row, and how long and how large a long run is."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm_control.control.controller import Controller
from dlm_control.controllers.length import Length
from dlm_control.controllers.semantic import Semantic
from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.batch import RowSeeds
from dlm_control.support.records import Record
from dlm_control.tasks.batch.run import run_batch
from dlm_control.tasks.batch.template import read_template

ALONE, BATCH = "one call a row", "batch"
_FOODS = ("Japanese", "Indian", "French", "Italian", "Chinese", "English", "Fast food")
_AREAS = ("riverside", "city centre")
_TEMPLATE = """\
preset: {preset}
controls:
  - length: ${{words}}
  - semantic: {{field: food, value: "${{food}}"}}
  - semantic: {{field: area, value: "${{area}}"}}
"""


@dataclass(frozen=True)
class Gain(Record):
    """What a batch gives against one call of `LanguageModel.generate` a row.

    Attributes:
        rows: of the batch, a text each.
        cpu_seconds_a_text: `one call a row` and `batch`.
        same_texts: do both ways write the same texts?
        gain: texts a second of the batch, by those of one call a row.
    """

    rows: int
    cpu_seconds_a_text: dict[str, float]
    same_texts: bool
    gain: float


@dataclass(frozen=True)
class LongRun(Record):
    """A batch file, from the reading of its rows to the writing of its texts.

    Attributes:
        texts: how many, a row each.
        obey_all: those that obey all controls.
        preset: name.
        wall_s, cpu_s: seconds.
        texts_a_cpu_second: their ratio.
        peak_mib, peak_mib_before: the most memory that the process has held, at the end and before.
    """

    texts: int
    obey_all: int
    preset: str
    wall_s: float
    cpu_s: float
    texts_a_cpu_second: float
    peak_mib: int
    peak_mib_before: int


def made_rows(count: int) -> list[dict[str, Any]]:
    """Rows that ask for a length, a food and an area; no two of the first 126 alike."""
    return [{"words": 10 + i % 9, "food": _FOODS[i % len(_FOODS)], "area": _AREAS[i // 63 % len(_AREAS)]} for i in range(count)]


def measure(lm: LanguageModel, presets: Sequence[str], rows: int, rounds: int) -> dict[str, Gain]:
    """CPU seconds a text of a batch, and of one call a row, by preset.

    The two ways take turns, so that what else the machine does burdens both alike, and write the same texts.

    Args:
        lm: the model.
        presets: names.
        rows: of the batch.
        rounds: of turns; each way's fastest counts.
    """
    return {preset: _paired(lm, made_rows(rows), rounds, preset) for preset in presets}


def _paired(lm: LanguageModel, rows: Sequence[dict[str, Any]], rounds: int, preset: str) -> Gain:
    def alone() -> list[str]:
        seeds = RowSeeds()
        asked = [seeds.request(_controls(row), row) for row in rows]
        return [lm.generate(each.controls, 1, each.seed, preset, each.indices)[0].text for each in asked]

    def batch() -> list[str]:
        return [row.samples[0].text for row in lm.generate_batch(rows, _controls, preset=preset)]

    ways: dict[str, Callable[[], list[str]]] = {ALONE: alone, BATCH: batch}
    best, texts = dict.fromkeys(ways, float("inf")), dict[str, list[str]]()
    for _ in range(rounds):
        for name, write in ways.items():
            started = time.process_time()
            texts[name] = write()
            best[name] = min(best[name], time.process_time() - started)
    seconds = {name: round(value / len(rows), 4) for name, value in best.items()}
    return Gain(len(rows), seconds, texts[ALONE] == texts[BATCH], round(best[ALONE] / best[BATCH], 2))


def _controls(row: Mapping[str, Any]) -> list[Controller]:
    return [Length(row["words"]), Semantic("food", row["food"]), Semantic("area", row["area"])]


def long_run(lm: LanguageModel, texts: int, preset: str) -> LongRun:
    """Time and peak memory of a batch file.

    Args:
        lm: the model.
        texts: rows of the file.
        preset: name.
    """
    with tempfile.TemporaryDirectory() as folder:
        spec, table = Path(folder) / "template.yaml", Path(folder) / "rows.jsonl"
        spec.write_text(_TEMPLATE.format(preset=preset))
        table.write_text("".join(json.dumps(row) + "\n" for row in made_rows(texts)))
        before, wall, cpu = _peak(), time.perf_counter(), time.process_time()
        report = run_batch(read_template(spec), table, lm, Path(folder) / "texts.jsonl")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert report is not None
    rate = round(report.texts / cpu, 2)
    return LongRun(report.texts, report.obey_all, preset, round(wall, 1), round(cpu, 1), rate, _peak(), before)


def _peak() -> int:
    """The most memory that this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
