"""One page that needs nothing else, and says whose numbers are whose."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import run_manifest

from dlm_control import UsageError
from dlm_control.eval.records import Curves, Figure, Scores, TextRecord
from dlm_control.eval.report.paper_results import TABLE_2, TABLE_4
from dlm_control.eval.report.plots import picture
from dlm_control.eval.report.report import read_runs, write_report
from dlm_control.eval.score.scoring import SCORING
from dlm_control.support.records import record_text, write_record


def run(folder: Path, suite: str, metric: str, mean: float, texts: bool = True, scoring: int = SCORING) -> None:
    folder.mkdir(parents=True)
    figure = Figure(mean, mean - 0.05, min(1.0, mean + 0.05), 2)
    scores = Scores(
        suite=suite, manifest=run_manifest(suite=suite, scoring=scoring), targets=2, texts=2, calls_per_text=48.0,
        failed_targets={"food=<b>": "no such value"}, scorer_overlap={metric: "another network"},
        findings={
            metric: figure, f"{metric}_human": figure, "lm_score": replace(figure, mean=1.8),
            "lm_score_human": replace(figure, mean=1.65), "lm_perplexity": 6.05, "distinct_3": 0.4,
        },
        by_target={metric: {"t1": 1.0, "t2": 0.0}, "lm_score": {"t1": 1.7, "t2": 1.9}},
    )  # fmt: skip
    write_record(folder / "scores.json", scores)
    if texts:
        why = ["does not say & so"]
        line = TextRecord(target="t2", text="A <script> pub.", metrics={metric: 0.0}, lm_score=1.9, failed=why)
        (folder / "texts.jsonl").write_text(record_text(line))


def test_the_page_holds_tables_curves_texts_and_manifests_and_loads_nothing(tmp_path: Path) -> None:
    run(tmp_path / "ours" / "semantic", "semantic", "substring", 0.95)
    run(tmp_path / "fudge" / "pos", "pos", "tag_match", 0.25, texts=False)
    bench = {"title": "Steps", "caption": "More is more.", "command": "dlm bench", "x": "x", "y": "y",
             "series": {"default": [{"x": 1, "y": 2, "label": "5"}, {"x": 2, "y": 3}]}}  # fmt: skip
    (tmp_path / "ours" / "bench-steps.json").write_text(json.dumps(bench))
    page, markdown = write_report([tmp_path / "ours", tmp_path / "fudge"], tmp_path / "report.html", force=False)
    html, text = page.read_text(), markdown.read_text()
    assert not re.search(r"<(script|link|img|iframe)|@import|src=", html)
    for part in ("95.0 / 1.80 (2 × 1)", "printed 2022: Diffusion-LM", "81.2 / 2.55", "95.0 [90.0, 100.0]", "must not be"):
        assert part in html and part in text
    assert "<svg" in html and "A &lt;script&gt; pub." in html and "does not say &amp; so" in html
    assert "food=&lt;b&gt;: failed, counted as 0" in html and "Texts are not kept" in html
    assert "| fudge | 25.0 [20.0, 30.0] | 1.80" in text
    run(tmp_path / "mine" / "pos", "pos", "template_match", 0.5)  # a suite of one's own, with a name of the paper's
    write_report([tmp_path / "mine"], tmp_path / "mine.html", force=False)
    with pytest.raises(UsageError, match="exists; --force replaces it"):
        write_report([tmp_path / "ours"], page, force=False)
    (tmp_path / "notes.md").write_text("mine")
    for taken in ("notes.html", "notes.md"):
        with pytest.raises(UsageError, match=r"notes\.md: (exists|names the page)"):
            write_report([tmp_path / "ours"], tmp_path / taken, force=False)


def test_folders_without_runs_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no scores\.json, nor does a folder below"):
        write_report([tmp_path], tmp_path / "report.html", force=False)
    run(tmp_path / "x" / "pos", "pos", "tag_match", 0.5)
    (tmp_path / "x" / "pos" / "scores.json").write_text("{")
    with pytest.raises(UsageError, match="is not JSON"):
        write_report([tmp_path], tmp_path / "report.html", force=False)


def test_runs_are_told_apart_and_old_scores_are_marked(tmp_path: Path) -> None:
    run(tmp_path / "a" / "ours" / "semantic", "semantic", "substring", 0.95)
    run(tmp_path / "b" / "ours" / "semantic", "semantic", "substring", 0.75, scoring=1)
    run(tmp_path / "b" / "ours" / "tree", "tree", "bracket_f1", 0.65, scoring=1)
    page, markdown = write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "report.html", force=False)
    text = markdown.read_text()
    assert "† scored by an earlier version" in page.read_text()
    assert "| ours | 95.0 / 1.80 (2 × 1) |" in text and "| b/ours | 75.0 / 1.80 (2 × 1) |" in text
    assert "65.0 / 1.80 (2 × 1) † |" in text
    assert "† scored by an earlier version" in text and "b/ours †" in text
    with pytest.raises(UsageError, match="is given twice"):
        read_runs([tmp_path / "a", tmp_path / "a" / "ours"])
    (tmp_path / "a" / "ours" / "semantic" / "texts.jsonl").write_text("[]\n")
    with pytest.raises(UsageError, match=r"texts\.jsonl:1: expected a JSON object, got \[\]; `dlm score` writes the file anew"):
        read_runs([tmp_path / "a"])
    for broken, message in (('{"a": 1}', "has no title, caption, command"), ("[1]", "expected a JSON object")):
        (tmp_path / "b" / "bench-steps.json").write_text(broken)
        with pytest.raises(UsageError, match=message):
            write_report([tmp_path / "b"], tmp_path / "other.html", force=False)
    (tmp_path / "b" / "bench-steps.json").write_text("{")
    with pytest.raises(UsageError, match=r"bench-steps\.json: is not JSON"):
        write_report([tmp_path / "b"], tmp_path / "other.html", force=False)


def test_without_matplotlib_a_curve_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(paint: object) -> str:
        raise UsageError("matplotlib is not installed; pip install 'dlm-control[plot]'")

    monkeypatch.setattr("dlm_control.eval.report.plots.svg", missing)
    drawn = picture(Curves(title="T", caption="", command="c", series={}, x="", y=""))
    assert drawn.svg == "" and "pip install" in drawn.missing


# Li et al. 2022, "Diffusion-LM Improves Controllable Text Generation" (NeurIPS), table 2: success in % and lm-score.
TABLE_2_OF_2022 = """
method        semantic       pos            tree           spans          length
PPLM          9.9  5.32
FUDGE         69.9 2.83      27.0 7.96      17.9 3.39      54.2 4.03      46.9 3.11
Diffusion-LM  81.2 2.55      90.0 5.16      86.0 3.71      93.8 2.53      99.9 2.16
FT-sample     72.5 2.87      89.5 4.72      64.8 5.72      26.3 2.88      98.1 3.84
FT-search     89.9 1.78      93.0 3.31      76.4 3.24      54.4 2.19      100.0 1.83
"""
# Table 4: success of semantic content and of syntax in %, and lm-score.
TABLE_4_OF_2022 = """
method        semantic+tree      semantic+pos
FUDGE         61.7 15.4 3.52     64.5 24.1 3.52
Diffusion-LM  69.8 74.8 5.92     63.7 69.1 3.46
FT-PoE        61.7 29.2 2.77     29.4 10.5 2.97
"""


@pytest.mark.parametrize(("kept", "printed", "figures"), [(TABLE_2, TABLE_2_OF_2022, 2), (TABLE_4, TABLE_4_OF_2022, 3)])
def test_figures_of_2022_are_those_printed(kept: dict[str, Any], printed: str, figures: int) -> None:
    (_, *suites), *rows = (line.split() for line in printed.strip().splitlines())
    expected: dict[str, dict[str, tuple[float, ...]]] = {suite: {} for suite in suites}
    for method, *numbers in rows:
        for i, suite in enumerate(suites[: len(numbers) // figures]):
            expected[suite][method] = tuple(map(float, numbers[i * figures : (i + 1) * figures]))
    assert kept == expected
