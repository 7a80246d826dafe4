"""What a batch of rows costs against one call a row, and how long and how large a long run is."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlm_control.control.controller import Controller
from dlm_control.controllers.length import Length
from dlm_control.controllers.semantic import Semantic
from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.batch import RowSeeds
from dlm_control.tasks.batch.run import run_batch
from dlm_control.tasks.batch.template import read_template

_FOODS = ("Japanese", "Indian", "French", "Italian", "Chinese", "English", "Fast food")
_AREAS = ("riverside", "city centre")
_TEMPLATE = """\
preset: {preset}
controls:
  - length: ${{words}}
  - semantic: {{field: food, value: "${{food}}"}}
  - semantic: {{field: area, value: "${{area}}"}}
"""


def made_rows(count: int) -> list[dict[str, Any]]:
    """Rows that ask for a length, a food and an area; no two of the first 126 alike."""
    return [
        {"words": 10 + i % 9, "food": _FOODS[i % len(_FOODS)], "area": _AREAS[(i // 63) % 2]} for i in range(count)
    ]  # fmt: skip


def measure(lm: LanguageModel, presets: Sequence[str], rows: int = 48, rounds: int = 2) -> dict[str, dict[str, Any]]:
    """CPU seconds a text of a batch, and of one call of `LanguageModel.generate` a row, by preset.

    The two ways take turns, so that what else the machine does burdens both alike, and write the same texts.

    Args:
        lm: the model.
        presets: names.
        rows: of the batch.
        rounds: of turns; each way's fastest counts.
    """
    return {preset: _paired(lm, made_rows(rows), rounds, preset) for preset in presets}


def _paired(lm: LanguageModel, rows: Sequence[dict[str, Any]], rounds: int, preset: str) -> dict[str, Any]:
    def alone() -> list[str]:
        seeds = RowSeeds()
        asked = [seeds.request(_controls(row), row) for row in rows]
        return [lm.generate(each.controls, 1, each.seed, preset, each.indices)[0].text for each in asked]

    def batch() -> list[str]:
        return [row.samples[0].text for row in lm.generate_batch(rows, _controls, preset=preset)]

    ways: dict[str, Callable[[], list[str]]] = {"one call a row": alone, "batch": batch}
    best, texts = dict.fromkeys(ways, float("inf")), dict[str, list[str]]()
    for _ in range(rounds):
        for name, write in ways.items():
            started = time.process_time()
            texts[name] = write()
            best[name] = min(best[name], time.process_time() - started)
    return {
        "rows": len(rows), "cpu_seconds_a_text": {name: round(value / len(rows), 4) for name, value in best.items()},
        "same_texts": texts["one call a row"] == texts["batch"], "gain": round(best["one call a row"] / best["batch"], 2),
    }  # fmt: skip


def _controls(row: Mapping[str, Any]) -> list[Controller]:
    return [Length(row["words"]), Semantic("food", row["food"]), Semantic("area", row["area"])]


def long_run(lm: LanguageModel, texts: int, preset: str) -> dict[str, Any]:
    """Time and peak memory of a batch file, from the reading of its rows to the writing of its texts.

    Args:
        lm: the model.
        texts: rows of the file.
        preset: name.
    """
    with tempfile.TemporaryDirectory() as folder:
        spec, table = Path(folder) / "template.yaml", Path(folder) / "rows.jsonl"
        spec.write_text(_TEMPLATE.format(preset=preset))
        table.write_text(_lines(made_rows(texts)))
        before, wall, cpu = _peak(), time.perf_counter(), time.process_time()
        report = run_batch(read_template(spec), table, lm, Path(folder) / "texts.jsonl")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert report is not None
    return {
        "texts": report.texts, "obey_all": report.obey_all, "preset": preset, "wall_s": round(wall, 1), "cpu_s": round(cpu, 1),
        "texts_a_cpu_second": round(report.texts / cpu, 2), "peak_mib": _peak(), "peak_mib_before": before,
    }  # fmt: skip


def _lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _peak() -> int:
    """The most memory that this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
