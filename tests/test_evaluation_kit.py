"""The conformance kit of evaluation sees what is broken, and results are read as tables."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import run_manifest
from test_harness import Echo

from dlm_control import UsageError
from dlm_control.controllers import Length
from dlm_control.eval import (
    read_run,
    read_samples,
    register_generator,
    register_judge,
    register_metric,
    register_reader,
    to_dataset,
)
from dlm_control.eval.records import Figure, Scores, TextRecord
from dlm_control.eval.run.generator import GENERATORS, Output
from dlm_control.eval.testing import check_generator, check_judge, check_metric, check_reader
from dlm_control.support.records import record_text, write_record
from dlm_control.tasks.metric import METRICS
from dlm_control.tasks.targets.reader import READERS
from dlm_control.tasks.targets.target import WORDS, Target
from dlm_control.testing import ConformanceError


def broken(error: ConformanceError) -> dict[str, str]:
    return {issue.place: issue.message for issue in error.issues}


def test_built_in_metrics_and_readers_keep_the_rules(tmp_path: Path) -> None:
    check_metric(METRICS["exact_length"], Target("x", expected={"words": 2}), right=["A pub"], wrong=["A", "A pub ."])
    tags = Target("x", expected={"tags": ("DET", "NOUN")})
    check_metric(METRICS["tags_strict"], tags, right=["The pub"], wrong=["The"])
    check_reader(READERS["lengths"], tmp_path, low=3, high=5, faulty=[{"low": 3}, {"low": "x", "high": 4}])
    (tmp_path / "made.jsonl").write_text(json.dumps({"controls": [{"length": 3}], "reference": "A pub ."}) + "\n")
    check_reader(READERS["made"], tmp_path, file="made.jsonl", faulty=[{"file": "none.jsonl"}])
    check_generator(Echo(), [Target("a"), Target("b")])


def test_what_a_metric_breaks_comes_in_one_report() -> None:
    seen: list[str] = []

    @register_metric("odd", wants="words")
    def odd(text: str, target: Target) -> float:
        seen.append(text)
        return 5.0 if text == "." else len(seen) % 2

    with pytest.raises(ConformanceError, match=r"^metric odd breaks 3 of 4 rules") as error:
        check_metric(odd, Target("x"), right=["A pub"], wrong=["A"])
    found = broken(error.value)
    assert found["is of its target"] == "wants 'words', and the target expects nothing"
    assert found["scores"] == "metric odd: scored '.' 5, expected 0 to 1"
    assert "the second time" in found["scores again"]


def test_what_a_reader_breaks_comes_in_one_report(tmp_path: Path) -> None:
    @register_reader("odd")
    def odd(data: Path, guides: Any, file: str, count: int = 1) -> Iterator[Target]:
        words = int((data / file).read_text())
        for _ in range(count):
            yield Target("one", [Length(words)], {"words": random.randrange(10**9)}, "A pub .")

    (tmp_path / "words").write_text("5")
    (tmp_path / "text").write_text("five")
    with pytest.raises(ConformanceError, match=r"^reader odd breaks 4 of 5 rules") as error:
        check_reader(odd, tmp_path, file="words", count=2, faulty=[{"file": "text"}, {"file": "words"}])
    found = broken(error.value)
    assert found["reads"] == "two targets have one name" and "draw from random.Random(seed)" in found["reads again"]
    assert found["references obey"] == "target 'one': its reference does not obey length: 3 words, expected 5"
    told = [issue.message for issue in error.value.issues if issue.place == "tells mistakes"]
    assert "a missing file raised FileNotFoundError" in told[0] and "{'file': 'text'} raised ValueError" in told[1]
    assert told[2] == "{'file': 'words'} raised nothing, expected a UsageError"
    assert [target.name for target in odd(tmp_path, WORDS, "words")] == ["one"]


def test_what_a_judge_breaks_comes_in_one_report() -> None:
    @register_judge("odd")
    def odd(texts: Any, corpora: Any) -> Any:
        return {"length": random.random(), "odd": float("inf")} if corpora is None else {"odd_human": 1.0}

    with pytest.raises(ConformanceError, match=r"^judge odd breaks 2 of 3 rules") as error:
        check_judge(odd, ["A pub ."], ["A bar ."])
    told = [issue.message for issue in error.value.issues]
    assert told == [
        "figure 'length': expected a name that begins with 'odd'", "figure 'odd' is inf, expected a finite number",
        "gives other figures the second time",
    ]  # fmt: skip


def test_what_a_generator_breaks_comes_in_one_report() -> None:
    @register_generator("odd")
    class Odd(Echo):
        """Counts."""

        written = 0

        def texts(self, target: Target, indices: Any, seed: int) -> list[Output]:
            Odd.written += 1
            return [Output(f"{target.name} {Odd.written}", 1)]

    assert GENERATORS["odd"] is Odd
    with pytest.raises(ConformanceError, match=r"^generator Odd breaks 2 of 3 rules") as error:
        check_generator(Odd(), [Target("a"), Target("b")])
    assert broken(error.value)["writes"] == "wrote 1 texts for 3 indices"
    assert "in company" in broken(error.value)["writes again"]


def run_folder(folder: Path) -> Path:
    scores = Scores(
        suite="s", manifest=run_manifest(model="e2e", seed=3), targets=2, texts=3, calls_per_text=1.0, failed_targets={},
        findings={"short": Figure(0.5, 0.25, 0.75, 2), "distinct_3": 0.9, "no_teacher": "none", "check_pos": None},
        scorer_overlap={}, by_target={},
    )  # fmt: skip
    write_record(folder / "scores.json", scores)
    texts = [
        TextRecord(target="a", text="A\u2028pub.", controls=["Length(3)"], metrics={"short": 1.0}, lm_score=1.5, failed=[]),
        TextRecord(target="a", text="B", controls=["Length(3)"], metrics={"short": 0.0}, lm_score=None, failed=["1 word"]),
        TextRecord(target="b", text="C", metrics={"long": 1.0}, lm_score=2.0, flaws=["repeat"], failed=[]),
    ]
    (folder / "texts.jsonl").write_text("".join(map(record_text, texts)), encoding="utf-8")
    return folder


def test_a_run_is_read_as_tables(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    figures = read_run(run).set_index("figure")
    assert list(figures.index) == ["short", "distinct_3"] and list(figures["value"]) == [0.5, 0.9]
    assert figures.loc["short", ["model", "seed", "low", "high", "n"]].tolist() == ["e2e", 3, 0.25, 0.75, 2]
    texts = read_samples(run)
    assert list(texts.columns) == "target number text controls short long lm_score flaws failed".split()
    assert list(texts["number"]) == [0, 1, 0] and texts["text"][0] == "A\u2028pub." and texts["controls"][0] == ["Length(3)"]
    assert texts["lm_score"].isna().tolist() == [False, True, False] and texts["long"].isna().tolist() == [True, True, False]
    rows = to_dataset(texts)
    assert rows[2]["flaws"] == ["repeat"] and rows.num_rows == 3


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"scores\.json: no such file; expected the folder of a run"):
        read_run(tmp_path)
    run_folder(tmp_path)
    (tmp_path / "texts.jsonl").write_text('{"target": "a"}\n')
    with pytest.raises(UsageError, match=r"texts\.jsonl:1: has no text, lm_score, failed"):
        read_samples(tmp_path)
