"""Metrics, target readers, judges and suites of one's own: from a file, from a notebook, from a package."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import made_suite
from test_cli import dlm
from test_docs import PLUGINS, fresh
from test_harness import Echo, lengths_suite

from dlm_control import UsageError
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.eval import register_judge, register_metric, register_reader, run_suite
from dlm_control.eval.records import Scores
from dlm_control.eval.score.judges import JUDGES
from dlm_control.support.records import read_record
from dlm_control.tasks.metric import METRICS
from dlm_control.tasks.suite import read_suite, read_suites
from dlm_control.tasks.suite_files import suites
from dlm_control.tasks.targets.reader import READERS
from dlm_control.tasks.targets.target import Target

OWN = """
from dlm_control.controllers import Length
from dlm_control.eval import Target, figure, register_judge, register_metric, register_reader


@register_reader("counts", needs_files=False)
def counts(data, guides, words: list[int]):
    for n in words:
        yield Target(f"{n} words", [Length(n)], {"most": n})


@register_metric("short", wants="most")
def short(text, target):
    return float(len(text.split()) <= target.expected["most"])


@register_judge("letters")
def letters(texts, corpora):
    return {"letters": figure([float(len(text)) for text in texts])}
"""
SUITE = "name: mine\nversion: 1\ntargets: {reader: counts, words: [5, 9]}\nmetrics: [short]\nsamples: 1\n"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A suite that includes a file with all that it needs."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "mine.yaml").write_text(f"include: [own.py]\n{SUITE}")
    return tmp_path / "mine.yaml"


def test_built_in_ones_are_found_as_those_of_packages_are() -> None:
    assert {"tag_match", "slot_accuracy"} <= {*METRICS} and {"made", "lengths"} <= {*READERS} and "smollm2" in JUDGES
    for registry in (METRICS, READERS, JUDGES):
        assert {entry.origin for entry in registry.entries().values()} == {"dlm-control"}
        assert all(thing.name == name for name, thing in registry.items())
    assert {file.origin for file in suites().values()} == {"dlm-control"}


def test_a_suite_includes_the_file_of_its_reader_and_metric(own: Path, tmp_path: Path) -> None:
    done = dlm("eval", own, "--out", tmp_path / "runs", "--set", "steps=2", "--set", "candidates=1", "--judge", "letters")
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith(f"runs the included Python file {tmp_path / 'own.py'} (sha256 ")
    scores = read_record(Scores, tmp_path / "runs" / "mine" / "scores.json")
    assert scores.by_target["short"] == {"5 words": 1.0, "9 words": 1.0} and scores.figures["letters"].n == 2
    assert scores.manifest.included is not None and [f"(sha256 {each})" in done.stderr for each in scores.manifest.included]
    again = dlm("score", tmp_path / "runs" / "mine", "--suite", own, "--json")
    assert again.exit_code == 0 and json.loads(again.stdout).popitem()[1]["short"]["mean"] == 1.0
    (tmp_path / "own.py").write_text(OWN.replace("Length(n)", "Length(n + 1)"))
    other = dlm("eval", own, "--out", tmp_path / "runs")
    assert other.exit_code == 2 and "another" in other.stderr and "included" in other.stderr


@pytest.mark.parametrize("command", ["eval", "score", "tune", "bench steps"])
def test_no_include_keeps_the_files_of_suites_from_running(command: str, own: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    first = (tmp_path, "--suite", own) if command == "score" else (own, "--data", tmp_path, "--out", tmp_path / "out")
    done = dlm(*command.split(), *first, "--no-include")
    assert done.exit_code == 2 and "include[0]: " in done.stderr and "--no-include refuses it" in done.stderr
    assert not (tmp_path / "ran").exists()
    (tmp_path / "all.yaml").write_text("name: all\nversion: 1\ninclude: [mine.yaml]\n")
    done = dlm("eval", tmp_path / "all.yaml", "--out", tmp_path / "x", "--no-include")
    assert done.exit_code == 2 and "include[0].include[0]: " in done.stderr


def test_files_of_the_command_line_run_without_a_question(own: Path, tmp_path: Path) -> None:
    own.write_text(SUITE)
    assert "unknown 'counts'" in dlm("eval", own, "--out", tmp_path / "runs").stderr
    done = dlm("ls", "readers", "--include", tmp_path / "own.py")
    assert re.search(rf"counts +{tmp_path / 'own.py'}", done.stdout)
    [suite] = read_suites(str(own))
    assert suite.included == () and [target.name for target in suite.read_targets(None)] == ["5 words", "9 words"]


def test_a_suite_of_suites_includes_files_for_all_of_them(own: Path, tmp_path: Path) -> None:
    own.write_text(SUITE)
    (tmp_path / "all.yaml").write_text("name: all\nversion: 1\ninclude: [own.py, mine.yaml, length]\n")
    assert [suite.name for suite in read_suites(str(tmp_path / "all.yaml"))] == ["mine", "length"]


def test_names_are_taken_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="metric 'substring': already registered by dlm-control; choose another name"):
        register_metric("substring")(lambda text, target: 1.0)
    with pytest.raises(UsageError, match="register_reader: expected a name of letters"):
        register_reader("two words")
    for name in ("lm_score", "check_length", "short_human"):
        with pytest.raises(UsageError, match="are figures of every run; choose another name"):
            register_metric(name)
    register_judge("mine")(lambda texts, corpora: {})
    with pytest.raises(UsageError, match="--judge: unknown 'min', did you mean 'mine'"):
        JUDGES.find("min", "--judge: unknown")


@pytest.mark.parametrize(("body", "told"), [("1 / 0", "raised ZeroDivisionError"), ("3", "scored 'A pub.' 3, expected 0 to 1")])
def test_a_faulty_metric_is_told_with_its_name(body: str, told: str) -> None:
    metric = register_metric("faulty")(eval(f"lambda text, target: {body}"))
    with pytest.raises(UsageError, match=f"metric faulty: {told}"):
        metric("A pub.", Target("x"))


def test_without_metrics_each_control_is_judged_by_its_own_check(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"name": "a", "controls": [{"length": 9}, {"keyword": "pub"}]},
        {"name": "b", "controls": [{"length": 10}]},
    ]
    scores = run_suite(made_suite(tmp_path, lines, ""), Echo(), tmp_path, tmp_path / "out", teacher="e2e-teacher")
    assert scores is not None
    assert scores.by_target["check_length"] == {"a": 1.0, "b": 0.0} and scores.by_target["check_keyword"] == {"a": 1.0}
    assert scores.figures["check_length"].mean == 0.5 and scores.figures["check_keyword"].n == 1
    assert scores.scorer_overlap["check_length"] == "the control's own check"
    first, second = (json.loads(line) for line in (tmp_path / "out" / "texts.jsonl").read_text().splitlines())
    assert first["check_keyword"] == 1.0 and "check_keyword" not in second and second["check_length"] == 0.0
    with_metrics = run_suite(lengths_suite(tmp_path), Echo(), None, tmp_path / "other", teacher="e2e-teacher")
    assert with_metrics is not None and not [name for name in with_metrics.findings if name.startswith("check_")]


def test_a_check_that_needs_a_missing_tool_gives_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlm_control.control.controller import Check

    monkeypatch.setattr(PartsOfSpeech, "check", lambda self, text: Check(math.nan, "spaCy is not installed"))
    suite = made_suite(tmp_path, [{"name": "a", "controls": [{"length": 9}, {"pos": "DET NOUN"}]}], "")
    scores = run_suite(suite, Echo(), tmp_path, tmp_path / "out", teacher="e2e-teacher")
    assert scores is not None and scores.findings["check_pos"] is None and scores.figures["check_length"].mean == 1.0


def test_references_of_targets_say_what_human_text_reaches(tmp_path: Path) -> None:
    line = {"name": "a", "controls": [{"length": 3}], "reference": "A pub ."}
    scores = run_suite(made_suite(tmp_path, [line], ""), Echo(), tmp_path, tmp_path / "out", teacher="e2e-teacher")
    assert scores is not None
    assert (scores.figures["check_length"].mean, scores.figures["check_length_human"].mean) == (0, 1)


@pytest.fixture(scope="module")
def acrostic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package, as pip installs it."""
    site, source = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("source") / "package"
    subprocess.run(["cp", "-r", PLUGINS / "dlm-control-acrostic", source], check=True)  # pip builds in place
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target", str(site)]
    done = subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return site


def test_a_package_brings_a_control_a_reader_a_metric_and_a_suite(acrostic: Path) -> None:
    with fresh(acrostic):
        listed = json.loads(dlm("ls", "--json").stdout)
        lines = [(kind, line) for kind, of_kind in listed.items() for line in of_kind]
        mine = {kind: line["name"] for kind, line in lines if line["origin"] == "dlm-control-acrostic"}
        assert mine == {"controllers": "acrostic", "suites": "acrostic", "readers": "acrostics", "metrics": "initials"}
        settings = ("--set", "steps=4", "--set", "candidates=1", "--samples", 1, "--limit", 2)
        done = dlm("eval", "acrostic", "--out", "runs", *settings)
        assert done.exit_code == 0, done.output
        scores = read_record(Scores, Path("runs/acrostic/scores.json"))
        assert scores.by_target["initials"] == {"tap": 1.0, "fit": 1.0} == scores.by_target["all_satisfied"]
        assert dlm("score", "runs/acrostic").exit_code == 0  # its suite is found by name


def test_the_package_keeps_every_contract(acrostic: Path) -> None:
    with fresh(acrostic):
        from dlm_control_acrostic import Acrostic, acrostics, initials  # type: ignore[import-not-found]

        from dlm_control import check_controller
        from dlm_control.eval.testing import check_metric, check_reader

        [target] = acrostics(acrostic, None, words=["pin"])
        right, wrong = ["Pubs in New York .", "Pub is near ."], ["A pub ."]
        check_metric(initials, target, right=right, wrong=wrong)
        check_reader(acrostics, acrostic, words=["tap", "fit"], faulty=[{"words": ["t4p"]}, {"words": "tap"}, {}])
        faulty = [lambda: Acrostic(""), lambda: Acrostic("a b"), lambda: Acrostic(3)]
        check_controller(Acrostic("tap"), satisfying=["The average pub ."], violating=["There is a pub ."], faulty=faulty)


def test_suites_of_two_packages_do_not_hide_each_other(acrostic: Path, tmp_path: Path) -> None:
    def package(name: str, points: str) -> None:
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
        (tmp_path / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (tmp_path / f"{name}-1.0.dist-info" / "entry_points.txt").write_text(f"[dlm_control.suites]\n{points}\n")

    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "length.yaml").write_text("# another")
    package("more", "mine = more")
    with fresh(tmp_path), pytest.raises(UsageError, match=r"suite 'length' comes from both .* uninstall one"):
        suites()
    (tmp_path / "more" / "length.yaml").rename(tmp_path / "more" / "own.yaml")
    with fresh(tmp_path):
        assert suites()["own"].origin == "more"
        (tmp_path / "more" / "own.yaml").write_text(SUITE.replace("counts, words: [5, 9]", "made, file: x") + "bundled: true\n")
        with pytest.raises(UsageError, match="bundled: only a package's own suites are, each in a file of its name"):
            read_suite("own")
    package("gone", "mine = gone.suites")
    with fresh(tmp_path), pytest.raises(UsageError, match=r"suites of gone: 'gone\.suites' is no package"):
        suites()


def test_lengths_of_readers_are_checked_before_anything_is_read(own: Path) -> None:
    own.write_text(own.read_text().replace("words: [5, 9]", "words: five"))
    with pytest.raises(UsageError, match=r"targets\.words: expected a list, each a whole number, got 'five'"):
        read_suite(str(own))
