"""A run survives kills, full disks and strangers' files, and several processes share it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import made_suite, run_manifest
from test_cli import dlm

from dlm_control import UsageError
from dlm_control.eval.report.report import write_report
from dlm_control.eval.run.generator import Generator, Output
from dlm_control.eval.run.harness import run_suite
from dlm_control.eval.run.log import RunLog
from dlm_control.eval.score.scoring import score_run
from dlm_control.support.files import write_whole
from dlm_control.tasks.suite import Suite, read_suite
from dlm_control.tasks.targets.target import Target

SMOKE = "smoke"


class Echo(Generator):
    """Writes the names of targets; fails for some."""

    def __init__(self, fails: str = "", weights: str = "w") -> None:
        self.fails, self.weights = fails, weights

    def texts(self, target: Target, indices: Any, seed: int) -> list[Output]:
        if self.fails and self.fails in target.name:
            raise ZeroDivisionError("no text today")
        return [Output(f"The {target.name} is a pub, number {i}.", 1) for i in indices]

    def provenance(self) -> dict[str, Any]:
        return {"weights": self.weights}


def lengths_suite(folder: Path, high: int = 6) -> Suite:
    file = folder / "tiny.yaml"
    file.write_text(
        f"name: tiny\nversion: 1\ntargets: {{reader: lengths, low: 3, high: {high}}}\nmetrics: [exact_length]\nsamples: 2\n"
    )
    return read_suite(str(file))


def test_a_failing_item_is_recorded_and_counts_as_failed(tmp_path: Path) -> None:
    suite = lengths_suite(tmp_path)
    scores = run_suite(suite, Echo(fails="4"), None, tmp_path / "out", teacher="e2e-teacher")
    assert scores is not None
    assert scores.failed_targets == {"4 words": "ZeroDivisionError: no text today"}
    assert scores.by_target["exact_length"]["4 words"] == 0 and scores.figures["exact_length"].n == 4
    assert "4 words" not in scores.by_target["lm_score"]


def test_a_failing_item_counts_in_its_group_and_references_are_the_human_text(tmp_path: Path) -> None:
    lines = [{"name": f"{group} {i}", "group": group, "controls": [{"length": 10}], "reference": "The Mill is a pub."}
             for group in "ab" for i in (1, 2)]  # fmt: skip
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "own").mkdir()
    for file in ("trainset.csv", "devset.csv"):
        (tmp_path / "own" / file).write_text("mr,ref\n" + "".join(f",It is {word}.\n" for word in ("big", "near", "old")))
    suite_file = tmp_path / "grouped.yaml"
    suite_file.write_text(
        "name: grouped\nversion: 1\ntargets: {reader: made, file: made.jsonl}\nmetrics: [exact_length]\nsamples: 2\n"
        "corpus: own\n"
    )
    scores = run_suite(read_suite(str(suite_file)), Echo(fails="a 2"), tmp_path, tmp_path / "out", teacher="e2e-teacher")
    assert scores is not None and scores.groups is not None
    assert scores.groups["b"].means["length"] == 1 and scores.groups["b"].texts == 4
    assert scores.groups["a"].means["length"] == 0.5
    human = scores.figures["lm_score_human"]
    assert human.n == 4 and human.low == human.high
    assert scores.manifest.corpus and "distinct_3_human" in scores.numbers
    for file in ("trainset.csv", "devset.csv"):
        (tmp_path / "own" / file).unlink()
    without = run_suite(read_suite(str(suite_file)), Echo(fails="a 2"), tmp_path, tmp_path / "none", teacher="e2e-teacher")
    assert without is not None and not without.manifest.corpus
    assert without.figures["lm_score_human"] == human and "distinct_3_human" not in without.numbers


def test_a_domain_without_a_teacher_has_no_lm_score_and_says_so(tmp_path: Path) -> None:
    """No number of another domain's teacher, no NaN; a teacher that is named scores, and scoring again keeps it."""
    out, suite = tmp_path / "out", lengths_suite(tmp_path)
    scores = run_suite(suite, Echo(), None, out)
    assert scores is not None and "has no teacher; `dlm train --kind autoregressive-lm" in str(scores.findings["no_teacher"])
    assert not {"lm_score", "lm_perplexity"} & scores.findings.keys() and scores.too_long_for_teacher is None
    assert "lm_score" not in scores.by_target
    written = (out / "scores.json").read_text()
    assert "NaN" not in written and "teacher" not in json.loads(written)["manifest"]["scorers"]
    assert json.loads((out / "texts.jsonl").read_text().splitlines()[0])["lm_score"] is None
    page = write_report([out], tmp_path / "page.html", False)[1].read_text()
    assert "| – |" in page and "nan" not in page
    named = score_run(out, suite, teacher="e2e-teacher")
    assert named.figures["lm_score"].n == 4 and "no_teacher" not in named.findings
    assert score_run(out, suite).figures["lm_score"] == named.figures["lm_score"]
    with pytest.raises(UsageError, match="teacher 'e2e': not an autoregressive model"):
        score_run(out, suite, teacher="e2e")


def test_scoring_again_gives_the_same(tmp_path: Path) -> None:
    suite = lengths_suite(tmp_path)
    first = run_suite(suite, Echo(), None, tmp_path / "out", seed=3)
    before = (tmp_path / "out" / "scores.json").read_text()
    assert score_run(tmp_path / "out", suite) == first
    assert (tmp_path / "out" / "scores.json").read_text() == before
    lines = [json.loads(line) for line in (tmp_path / "out" / "texts.jsonl").read_text().splitlines()]
    assert len(lines) == 8 and lines[0]["failed"] == ["10 words, expected 3"]


def test_an_items_passing_trouble_is_tried_again_by_the_next_run(tmp_path: Path) -> None:
    suite = lengths_suite(tmp_path)
    run_suite(suite, Echo(fails="4"), None, tmp_path / "out")
    assert 'raise ZeroDivisionError("no text today")' in (tmp_path / "out" / "samples.jsonl").read_text().replace("\\", "")
    again = run_suite(suite, Echo(), None, tmp_path / "out")
    assert again is not None and again.failed_targets == {}
    assert again == run_suite(suite, Echo(), None, tmp_path / "whole")


def test_a_run_belongs_to_its_targets_and_not_to_their_file(tmp_path: Path) -> None:
    before = made_suite(tmp_path, [{"name": "a", "controls": [{"length": 8}]}])
    scores = run_suite(before, Echo(), tmp_path, tmp_path / "out")
    assert scores is not None and scores.figures["exact_length"].mean == 0 and scores.numbers["self_bleu"] == 0  # of one text
    after = made_suite(tmp_path, [{"name": "a", "controls": [{"length": 9}]}])
    with pytest.raises(UsageError, match="another targets_digest"):
        run_suite(after, Echo(), tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match="is a run of other targets than mine has now"):
        score_run(tmp_path / "out", after, tmp_path)


def test_targets_that_cannot_be_told_apart_or_measured_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    twice = made_suite(tmp_path, [{"name": "a", "controls": [{"length": n}]} for n in (5, 6)])
    with pytest.raises(UsageError, match="several targets are called 'a'"):
        run_suite(twice, Echo(), tmp_path, tmp_path / "out")
    unfit = made_suite(tmp_path, [{"name": "a", "controls": [{"length": 5}]}], "exact_length, tag_match")
    with pytest.raises(UsageError, match="tag_match compares texts with a target's tags, and 1 of 1 targets have none"):
        run_suite(unfit, Echo(), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scoring_again_loses_no_figure_and_takes_a_suite_file(tmp_path: Path) -> None:
    lines = [{"name": name, "controls": [{"length": 8}], "reference": "The Mill is a pub."} for name in "ab"]
    suite = made_suite(tmp_path, lines)
    (tmp_path / "e2e").mkdir()
    for file in ("trainset.csv", "devset.csv"):
        (tmp_path / "e2e" / file).write_text("mr,ref\n,It is big.\n,It is near.\n")
    first = run_suite(suite, Echo(), tmp_path, tmp_path / "out", teacher="e2e-teacher")
    assert first is not None and "lm_score_human" in first.figures
    with pytest.raises(UsageError, match=r"'mine': neither installed nor a file.*--suite names the file"):
        score_run(tmp_path / "out", data=tmp_path)
    with pytest.raises(UsageError, match="was scored beside human text; give --data again"):
        score_run(tmp_path / "out", suite)
    assert score_run(tmp_path / "out", suite, tmp_path) == first
    manifest = json.loads((tmp_path / "out" / "scores.json").read_text())["manifest"]
    assert manifest["scorers"]["teacher"].startswith("e2e-teacher ") and manifest["corpus"] and manifest["judges"] == []


def test_human_text_beyond_the_teachers_reach_is_left_out_and_not_nan(tmp_path: Path) -> None:
    lines = [
        {"name": name, "controls": [{"length": 8}], "reference": text} for name, text in (("a", "word " * 300), ("b", "A pub."))
    ]
    (tmp_path / "e2e").mkdir()
    for file in ("trainset.csv", "devset.csv"):
        (tmp_path / "e2e" / file).write_text("mr,ref\n,It is big.\n")
    scores = run_suite(made_suite(tmp_path, lines), Echo(), tmp_path, tmp_path / "out", teacher="e2e-teacher")
    assert scores is not None and scores.figures["lm_score_human"].n == 1
    assert "NaN" not in (tmp_path / "out" / "scores.json").read_text()


def test_a_log_of_another_model_suite_or_shape_is_refused(tmp_path: Path) -> None:
    suite = lengths_suite(tmp_path)
    run_suite(suite, Echo(), None, tmp_path / "out")
    with pytest.raises(UsageError, match=r"another weights \(weights: 'w', now 'v'\)"):
        run_suite(suite, Echo(weights="v"), None, tmp_path / "out")
    with pytest.raises(UsageError, match=r"is a run of suite tiny .*, not of tiny"):
        score_run(tmp_path / "out", lengths_suite(tmp_path, high=5))
    with pytest.raises(UsageError, match=r"no plan\.json"):
        score_run(tmp_path, suite)
    log = tmp_path / "out" / "samples.jsonl"
    log.write_text(log.read_text().split("\n")[0] + "\n[1, 2]\n")
    with pytest.raises(UsageError, match=r"samples\.jsonl:2: no item of a run: .*remove the line"):
        score_run(tmp_path / "out", suite)
    log.write_text(log.read_text().split("\n")[0] + "\n")
    with pytest.raises(UsageError, match="lacks 3 of 4 targets, such as '4 words'"):
        score_run(tmp_path / "out", suite)


WHOLE = {"target": "3 words", "texts": ["A pub .", "A bar ."], "calls": [1, 1]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({**WHOLE, "texts": "A pub ."}, r"samples\.jsonl:1: no item of a run"),
        ({**WHOLE, "texts": [1, None]}, "no item of a run"),
        ({**WHOLE, "calls": []}, "no item of a run"),
        ({**WHOLE, "target": ["food"]}, "no item of a run"),
        ({**WHOLE, "texts": [], "calls": []}, "no item of a run"),  # and no error
        ({**WHOLE, "texts": ["A pub ."], "calls": [1]}, "target '3 words' has 1 texts, expected 2"),
        ({**WHOLE, "target": "9 words"}, "has lines of 1 targets that are none of tiny's, such as '9 words'"),
    ],
)
def test_lines_that_no_run_would_write_are_refused(tmp_path: Path, line: dict[str, Any], message: str) -> None:
    suite = lengths_suite(tmp_path, high=3)
    run_suite(suite, Echo(), None, tmp_path / "out")
    log = tmp_path / "out" / "samples.jsonl"
    if line["target"] != "9 words":
        log.write_text("")
    with open(log, "a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(UsageError, match=message):
        score_run(tmp_path / "out", suite)


def test_texts_without_their_plan_or_at_odds_with_each_other_are_refused(tmp_path: Path) -> None:
    suite = lengths_suite(tmp_path, high=3)
    run_suite(suite, Echo(), None, tmp_path / "out")
    plan, log = tmp_path / "out" / "plan.json", tmp_path / "out" / "samples.jsonl"
    written = log.read_text()
    log.write_text(written + written)  # as two processes leave it that do the same work
    score_run(tmp_path / "out", suite)
    log.write_text(written + json.dumps(WHOLE) + "\n")
    with pytest.raises(UsageError, match="target '3 words' has two lines of different texts"):
        score_run(tmp_path / "out", suite)
    log.write_bytes(written.encode() + '{"target": "é'.encode()[:-1])
    with pytest.raises(UsageError, match=r"samples\.jsonl:2: no item of a run"):
        score_run(tmp_path / "out", suite)
    for broken in ("", "[]", "{}", '{"suite": 5}', plan.read_text()[:50]):
        plan.write_text(broken)
        with pytest.raises(UsageError, match=r"plan\.json: is broken: .*; without it the origin"):
            score_run(tmp_path / "out", suite)
    plan.unlink()
    with pytest.raises(UsageError, match=r"holds texts but no plan\.json"):
        run_suite(suite, Echo(), None, tmp_path / "out", seed=7)


def test_a_run_of_a_version_that_did_not_name_its_targets_goes_on(tmp_path: Path) -> None:
    suite = lengths_suite(tmp_path)
    scores = run_suite(suite, Echo(), None, tmp_path / "out")
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    del plan["targets_digest"]
    (tmp_path / "out" / "plan.json").write_text(json.dumps(plan))
    assert run_suite(suite, Echo(), None, tmp_path / "out") == scores


_KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
from test_harness import Echo, lengths_suite
from dlm_control.eval.run.harness import run_suite
class Slow(Echo):
    def texts(self, *arguments):
        time.sleep(0.05)
        return super().texts(*arguments)
folder = Path({folder!r})
run_suite(lengths_suite(folder, 40), Slow(), None, folder / "out")
"""


def test_kill_9_at_any_moment_costs_one_item(tmp_path: Path) -> None:
    code = _KILLED.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code])
    log = tmp_path / "out" / "samples.jsonl"
    while process.poll() is None and (not log.is_file() or log.read_text().count("\n") < 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = log.read_text()
    assert 3 <= written.count("\n") < 38
    with open(log, "a") as file:
        file.write('{"target": "40 wo')  # as a torn write would leave it
    suite = lengths_suite(tmp_path, 40)
    resumed = run_suite(suite, Echo(), None, tmp_path / "out")
    assert log.read_text().startswith(written)
    assert resumed == run_suite(suite, Echo(), None, tmp_path / "whole")


_FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_harness import Echo, lengths_suite
from dlm_control.eval.run.harness import run_suite
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))
folder = Path({folder!r})
try:
    run_suite(lengths_suite(folder, 40), Echo(), None, folder / "out")
except ValueError as error:
    print(error)
"""


def test_a_full_disk_stops_with_one_error_and_a_whole_log(tmp_path: Path) -> None:
    code = _FULL.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "samples.jsonl: cannot be written" in done.stdout and "make room and run the same command again" in done.stdout
    lines = (tmp_path / "out" / "samples.jsonl").read_text().splitlines()
    assert 1 < len(lines) < 38 and all(json.loads(line)["texts"] for line in lines)


@pytest.mark.slow
def test_two_processes_share_a_suite_and_give_the_numbers_of_one(tmp_path: Path) -> None:
    command = ["eval", SMOKE, "--preset", "fast", "--set", "steps=3", "--samples", "1", "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    # --multi_gpu: without it accelerate 1.15 starts one process on a machine that has no GPU.
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "29511"]
    launch += ["-m", "dlm_control"]
    done = subprocess.run([*launch, *command, str(tmp_path / "two")], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    alone = dlm(*command, tmp_path / "one")
    assert alone.exit_code == 0, alone.output
    two, one = (json.loads((tmp_path / out / SMOKE / "scores.json").read_text()) for out in ("two", "one"))
    assert (tmp_path / "two" / SMOKE / "samples.1.jsonl").read_text().count("\n") == 5
    for scores in (two, one):
        del scores["manifest"]
    assert two == one


def test_a_run_log_takes_no_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/run: cannot be written"):
        RunLog(tmp_path / "file" / "run").start(run_manifest())


def test_a_file_is_written_whole_or_the_reason_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written: Not a directory; nothing was kept"):
        write_whole({tmp_path / "file" / "scores.json": "{}"})
