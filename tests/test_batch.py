"""Texts for the rows of a table: the same in any company, whole after a kill, and faulty rows by choice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from test_batch_rows import ROW, TEMPLATE, table, template
from test_cli import dlm

from dlm_control.control.controller import Controller
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.pipeline import LanguageModel
from dlm_control.support.errors import UsageError
from dlm_control.tasks.batch.run import BatchReport, run_batch

ROWS: list[dict[str, Any]] = [
    {"words": 6 + 3 * (i % 4), "place": ["riverside", "pub", "river"][i % 3], "id": i} for i in range(30)
]


def controls(row: Mapping[str, Any]) -> list[Controller]:
    return [Length(row["words"]), Keyword(row["place"])]


def texts(lm: LanguageModel, rows: Sequence[Mapping[str, Any]], **changes: Any) -> list[list[str]]:
    return [[sample.text for sample in row.samples] for row in lm.generate_batch(rows, controls, steps=3, **changes)]


def run(lm: LanguageModel, folder: Path, rows: Path, out: str = "out.jsonl", **options: Any) -> BatchReport:
    report = run_batch(template(folder), rows, lm, folder / out, keep=["id"], **options)
    assert report is not None
    return report


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_text_depends_on_its_row_alone(tiny_lm: LanguageModel) -> None:
    rows = [{"words": row["words"], "place": row["place"]} for row in ROWS[:12]]
    together = texts(tiny_lm, rows)
    assert texts(tiny_lm, rows[::-1]) == together[::-1]
    assert texts(tiny_lm, rows[5:7]) == together[5:7]
    assert texts(tiny_lm, rows[3:4], seed=1) != together[3:4]
    [again] = tiny_lm.generate_batch(rows[:1], controls, steps=3)
    [alone] = tiny_lm.generate(controls(rows[0]), seed=again.samples[0].seed, indices=[again.samples[0].index], steps=3)
    assert [alone.text] == together[0]


def test_rows_that_say_the_same_have_the_texts_of_one_with_more_samples(tiny_lm: LanguageModel) -> None:
    one, two, three = texts(tiny_lm, [ROW] * 3, num_samples=2)
    [all_of_them] = texts(tiny_lm, [ROW], num_samples=6)
    assert [*one, *two, *three] == all_of_them and len({*all_of_them}) == 6


def test_bad_rows_in_python_stop_or_are_skipped(tiny_lm: LanguageModel) -> None:
    rows = [ROW, {"words": -1, "place": "pub"}, {"words": 40, "place": "pub"}, ROW]
    with pytest.raises(UsageError) as caught:
        tiny_lm.generate_batch(rows, controls)
    assert [fault.place for fault in caught.value.issues] == ["row 2.words", "row 3.controls"]
    first, second, third, last = tiny_lm.generate_batch(rows, controls, bad_rows="skip", steps=3)
    assert (first.error, last.error) == (None, None) and first.samples[0].text != last.samples[0].text
    assert second.error == "words: expected a whole number above 0, got -1" and "no text can obey" in str(third.error)
    assert not third.samples[0].text and not third.samples[0].passed
    with pytest.raises(UsageError, match="row 1: expected plain values"):
        tiny_lm.generate_batch([{**ROW, "what": object()}], controls)


class Moody(Controller):
    """Fails for texts of seven words."""

    reads = "log_probs"

    def energy(self, state: Any) -> Any:
        assert not (state.length == 7).any(), "seven"
        return -state.log_probs[:, 0].logsumexp(-1)

    def check(self, text: str) -> Any:
        return Length(at_least=1).check(text)


def test_a_control_that_fails_names_the_row_or_costs_it_alone(tiny_lm: LanguageModel) -> None:
    rows = [{"words": words} for words in (6, 7, 6, 8)]

    def moody(row: Mapping[str, Any]) -> list[Controller]:
        return [Length(row["words"]), Moody()]

    with pytest.raises(UsageError, match=r"^row 2: control moody: .* seven"):
        list(tiny_lm.generate_batch(rows, moody, steps=2))
    found = list(tiny_lm.generate_batch(rows, moody, bad_rows="skip", steps=2))
    assert [bool(row.error) for row in found] == [False, True, False, False]
    assert all(row.samples[0].text for row in found if not row.error)


def test_a_run_writes_a_line_each_text_in_the_order_of_the_rows(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    report = run(tiny_lm, tmp_path, table(tmp_path, *ROWS[:5]))
    found = lines(tmp_path / "out.jsonl")
    assert [(line["row"], line["variables"]) for line in found] == [(i + 1, ROWS[i]) for i in range(5)]
    assert all(
        len(line["words"]) == line["variables"]["words"] and set(line["checks"]) == {"length", "keyword"} for line in found
    )
    assert (report.rows, report.texts, report.failed) == (5, 5, {})
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert (manifest["rows"], manifest["texts"], manifest["template"]["controls"][0]) == (5, 5, {"length": "${words}"})
    assert not (tmp_path / "out.jsonl.parts").exists()
    with pytest.raises(UsageError, match="exists; --force replaces it"):
        run(tiny_lm, tmp_path, tmp_path / "rows.jsonl")


def test_parquet_holds_what_json_lines_hold(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    rows = table(tmp_path, *ROWS[:3], "nothing")
    for name in ("out.jsonl", "out.parquet"):
        run(tiny_lm, tmp_path, rows, name, bad_rows="skip")
    found = parquet.read_table(tmp_path / "out.parquet").to_pylist(maps_as_pydicts="strict")
    expected = lines(tmp_path / "out.jsonl")
    assert [line | {"variables": line["variables"] or None} for line in expected] == found
    mixed = table(tmp_path, {**ROW, "id": 1}, {**ROW, "id": "b"})
    with pytest.raises(UsageError, match=r"parquet wants one type a column .*; write \.jsonl"):
        run(tiny_lm, tmp_path, mixed, "other.parquet")
    with pytest.raises(UsageError, match=r"expected a name that ends with \.jsonl or \.parquet"):
        run(tiny_lm, tmp_path, mixed, "out.csv")


def test_bad_rows_are_refused_together_or_reported_one_by_one(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    rows = table(tmp_path, ROWS[0], {**ROWS[1], "words": 0}, "{", ROWS[3])
    with pytest.raises(UsageError, match="2 problems; --bad-rows skip"):
        run(tiny_lm, tmp_path, rows)
    assert not (tmp_path / "out.jsonl.parts").exists()
    report = run(tiny_lm, tmp_path, rows, bad_rows="skip")
    assert report.texts == 2 and [*report.failed] == [2, 3]
    assert report.failed[2] == "${words} (controls[0].words): expected a whole number above 0, got 0"
    assert [line["error"] is None for line in lines(tmp_path / "out.jsonl")] == [True, False, False, True]
    with pytest.raises(UsageError, match="words"):
        run(tiny_lm, tmp_path, table(tmp_path, {**ROWS[1], "words": 0}), force=True, bad_rows="skip")


def arguments(folder: Path, model: Path, out: str) -> list[str]:
    rows, spec = table(folder, *ROWS), folder / "template.yaml"
    spec.write_text(TEMPLATE)
    options = ["--spec", spec, "--model", model, "--keep", "id", "--out", folder / out]
    return [str(each) for each in ("generate", rows, *options)]


_SLOW = """
import sys, time
from dlm_control.sampling import batch
made = batch.generate
batch.CALLS = 4
batch.generate = lambda *given, **named: time.sleep(0.2) or made(*given, **named)
from dlm_control.cli import main
sys.argv = ["dlm", *sys.argv[1:]]
main()
"""


@pytest.mark.slow
def test_kill_9_costs_only_the_rows_at_work(tmp_path: Path, tiny_folder: Path) -> None:
    command = arguments(tmp_path, tiny_folder, "out.jsonl")
    process = subprocess.Popen([sys.executable, "-c", _SLOW, *command])
    log = tmp_path / "out.jsonl.parts" / "samples.jsonl"
    while process.poll() is None and (not log.is_file() or log.read_text().count("\n") < 6):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = log.read_text()
    assert 6 <= written.count("\n") < 30 and not (tmp_path / "out.jsonl").exists()
    with open(log, "a") as file:
        file.write('{"row": 30, "te')  # as a torn write would leave it
    done = dlm(*command, "--seed", "3")
    assert done.exit_code == 2 and "holds a run with another template" in done.stderr
    assert "finish that one with its own command, or remove the folder" in done.stderr
    log.write_text(log.read_text().replace('"text": "', '"text": "kept ', 1))  # a mark that only what was kept can leave
    done = dlm(*command)
    assert done.exit_code == 0, done.output
    whole = dlm(*arguments(tmp_path, tiny_folder, "whole.jsonl"))
    assert whole.exit_code == 0 and "30 rows: " in whole.stdout
    expected = (tmp_path / "whole.jsonl").read_text().replace('"text": "', '"text": "kept ', 1)
    assert (tmp_path / "out.jsonl").read_text() == expected


@pytest.mark.slow
def test_two_processes_write_the_file_of_one(tmp_path: Path, tiny_folder: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    # --multi_gpu: without it accelerate 1.15 starts one process on a machine that has no GPU.
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "29512"]
    launch += ["-m", "dlm_control", *arguments(tmp_path, tiny_folder, "two.jsonl")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(launch, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("30 rows: ") == 1
    assert dlm(*arguments(tmp_path, tiny_folder, "one.jsonl")).exit_code == 0
    assert (tmp_path / "two.jsonl").read_text() == (tmp_path / "one.jsonl").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "rows of a table fill a spec with variables; give it, such as --spec template.yaml"),
        (["--spec", "template.yaml"], "--out: missing; the texts of rows go to a file"),
    ],
)
def test_a_table_needs_a_template_and_an_output(tmp_path: Path, options: list[str], message: str) -> None:
    done = dlm("generate", table(tmp_path, ROW), *options)
    assert done.exit_code == 2 and message in done.stderr
