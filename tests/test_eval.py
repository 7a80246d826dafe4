"""Metrics against hand-worked cases, and a harness that survives."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import run_manifest

from dlm_control import LanguageModel, UsageError
from dlm_control.controllers.fields.lookup import domain_at
from dlm_control.controllers.linguistics.trees import read_tree
from dlm_control.eval.records import Figure, Scores
from dlm_control.eval.report.compare import compared
from dlm_control.eval.run import harness
from dlm_control.eval.run.generator import Diffusion
from dlm_control.eval.score.metrics import copied, distinct, length_distance
from dlm_control.eval.score.statistics import interval
from dlm_control.eval.score.teacher import Teacher, teacher_of
from dlm_control.eval.studies.ablation import Ablation, merged
from dlm_control.support.hub import model_folder
from dlm_control.support.records import write_record
from dlm_control.tasks.metric import METRICS
from dlm_control.tasks.suite import read_suite, read_suites
from dlm_control.tasks.suite_files import suites
from dlm_control.tasks.targets.corpora import lines_of, refs
from dlm_control.tasks.targets.e2e import attributes
from dlm_control.tasks.targets.readers import combinations_of_controls, gaps
from dlm_control.tasks.targets.target import WORDS, Target


def test_substring_has_its_known_holes() -> None:
    assert METRICS["substring"]("It is not cheap.", Target("x", expected={"value": "no"})) == 1  # "not" contains "no"
    assert METRICS["substring"]("Fast food.", Target("x", expected={"value": "fast food"})) == 0  # case counts


def test_lengths_count_punctuation() -> None:
    assert METRICS["exact_length"]("A pub, near.", Target("x", expected={"words": 5})) == 1
    assert METRICS["length_within_2"]("A pub, near.", Target("x", expected={"words": 8})) == 0


def test_words_kept_is_a_share() -> None:
    target = Target("x", expected={"given": (["The", "Mill"], ["the", "river", "."])})
    assert METRICS["template_match"]("The Mill is by the river.", target) == 1
    assert METRICS["template_match"]("The Eagle is by the river.", target) == pytest.approx(4 / 5)


def test_syntax_metrics_judge_by_spacy_and_benepar() -> None:
    text = "The pub is cheap."
    tags = Target("x", expected={"tags": ("DET", "NOUN", "AUX", "NOUN", "PUNCT")})
    assert METRICS["tag_match"](text, tags) == pytest.approx(4 / 5)
    assert METRICS["tag_match"]("The pub", tags) == pytest.approx(2 / 5)
    spans = Target("x", expected={"spans": [(0, 1, "NP"), (0, 2, "NP")]})
    assert METRICS["spans_exact"](text, spans) == 0.5
    tree = read_tree("(S (NP (DT a) (NN b)) (VP (VBZ c) (ADJP (JJ d))) (. .))")
    expected = Target("x", expected={"tree": tree})
    assert METRICS["bracket_f1"](text, expected) == 1
    assert METRICS["bracket_f1"]("The pub", expected) < 1  # padded with full stops
    comma = Target("x", expected={"tree": read_tree("(S (NP (DT a)) (, ,) (VP (VBZ c) (ADJP (JJ d))) (. .))")})
    assert METRICS["tree_strict"](text, comma) == 1  # EVALB takes the comma out
    assert METRICS["bracket_f1"](text, comma) == 0.75  # the code of 2022 leaves it in: one of four brackets differs


def test_targets_of_all_controls_are_obeyed_by_the_sentence_they_come_from(tmp_path: Path) -> None:
    file = tmp_path / "dev.csv"
    sentence = "The Mill is a cheap pub that serves Japanese food near the large river."
    file.write_text(f'mr,ref\n"name[The Mill], food[Japanese]",{sentence}\n')
    guides = WORDS._replace(domain=domain_at("e2e"))
    targets = list(combinations_of_controls(tmp_path, guides, "dev.csv", 1, 0, [["pos", "tree", "length"]]))
    assert len(targets) == 7 + 21 + 1 and targets[-1].group == "pos + tree + length"
    assert all(control.check(sentence).passed for target in targets for control in target.controls)


def test_diversity_and_copies() -> None:
    assert distinct(["a b a b"], 2) == pytest.approx(2 / 3)
    assert distinct(["a b", "a b"], 2) == 0.5
    assert copied(["A pub .", "A bar."], ["A pub."]) == 0.5
    assert length_distance(["a b", "a b c"], ["a b c", "a b c d"]) == pytest.approx(1)


def test_bootstrap_interval_covers_the_mean() -> None:
    values = torch.randn(200, generator=torch.Generator().manual_seed(0)).tolist()
    low, high = interval(values)
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(200), rel=0.15)


def test_teacher_prefers_sense_and_scores_a_text_alone_as_in_company() -> None:
    teacher = Teacher("e2e-teacher")
    sense, nonsense = "There is a pub called The Mill in the city centre.", "centre the in Mill The called pub a is There."
    alone = teacher.nats_per_word([sense])
    together = teacher.nats_per_word([nonsense, sense, "word " * 300])
    assert together[1] == pytest.approx(alone[0], rel=1e-4)
    assert together[0] > alone[0] + 2
    assert math.isnan(together[2])


def test_a_teacher_belongs_to_a_model(tiny_folder: Path, tmp_path: Path) -> None:
    """`teacher` of its config, then the folder beside it, then a bundled one of the very same words; else none."""
    assert teacher_of(model_folder("e2e")) == "e2e-teacher" and teacher_of(None) is None
    assert teacher_of(tiny_folder) is None
    home = tmp_path / "mine"
    shutil.copytree(model_folder("e2e"), home)
    assert teacher_of(home) == "e2e-teacher"
    shutil.copytree(model_folder("e2e-teacher"), home / "teacher")
    assert teacher_of(home) == str(home / "teacher")
    config = json.loads((home / "config.json").read_text())
    for said, source in (("../mine/teacher", str(home / "../mine/teacher")), ("e2e-teacher", "e2e-teacher")):
        (home / "config.json").write_text(json.dumps(config | {"teacher": said}))
        assert teacher_of(home) == source


def test_bundled_suites_are_faultless() -> None:
    for name in suites():
        for suite in read_suites(name):
            assert suite.name == name or name in ("paper", "everyday")


def test_all_faults_of_a_suite_come_in_one_report(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("name: bad\nversion: 1\ntargets: {reader: lengths, low: 3, hihg: 5}\nmetrics: []\nsamples: 0\nfoo: 1\n")
    with pytest.raises(UsageError) as error:
        read_suite(str(file))
    for part in (
        "foo: unknown key",
        "samples: expected a whole number above 0, got 0",
        "targets.high: missing",
        "targets.hihg",
    ):
        assert part in str(error.value)
    with pytest.raises(UsageError, match="did you mean 'semantic'"):
        read_suite("semantics")
    file.write_text(
        "name: b\nversion: 1\ntargets: {reader: lengths, low: ten, high: 5}\nmetrics: []\nsamples: 1\nbundled: true\n"
    )
    with pytest.raises(
        UsageError, match=r"(?s)targets\.low: expected a whole number, got 'ten'.*bundled: only a package's own"
    ):
        read_suite(str(file))
    file.write_text("name: b\nversion: 1\ntargets: {reader: lengths, low: 9, high: 5}\nmetrics: []\nsamples: 1\n")
    with pytest.raises(UsageError, match=r"'high': 5\} gives no targets; expected a count above 0, and no range that ends"):
        read_suite(str(file)).read_targets(None)
    file.write_text("name: ../../b\nversion: 1\ntargets: {reader: [made]}\nmetrics: []\nsamples: 1\n")
    with pytest.raises(
        UsageError, match=r"(?s)name: expected a name that a folder can have.*targets\.reader: unknown \['made'\]"
    ):
        read_suite(str(file))
    file.write_text(
        "name: b\nversion: true\ntargets: {}\nmetrics: pos\nsamples: 1\npresets: {fsat: {}, fast: {name: 3, steps: x}}\n"
    )
    with pytest.raises(UsageError) as error:
        read_suite(str(file))
    for part in (
        "version: expected a whole number above 0, got True",
        "metrics: expected a list of names, got 'pos'",
        "presets.fsat: unknown, did you mean 'fast'",
        "presets.fast.name: unknown key",
        "presets.fast.steps: expected a whole number above 0, got 'x'",
        "targets.reader: missing; there are: attributes",
    ):
        assert part in str(error.value)
    file.write_text("name: b\nversion: 1\ninclude: length\n")
    with pytest.raises(UsageError, match="include: expected a list of suites, or of Python files, got 'length'"):
        read_suites(str(file))
    file.write_text(f"name: b\nversion: 1\ninclude: [length, {file}]\n")
    with pytest.raises(UsageError, match=r"bad\.yaml: 1 problem\n  - include\[1\]: .* includes itself$"):
        read_suites(str(file))
    with pytest.raises(UsageError, match="suite 'paper': includes several; expected one of them: semantic, pos"):
        read_suite("paper")


def test_targets_are_read(tmp_path: Path) -> None:
    (tmp_path / "targets.json").write_text('["price", ":", "less", "than", "£", "20"]\n["family", "friendly", ":", "no"]\n')
    price, family = attributes(tmp_path, WORDS, "targets.json")
    assert (price.expected["value"], family.expected["value"]) == ("less than £ 20", "no")
    assert (price.expected["fields"], family.expected["fields"]) == ({"priceRange": "less than £20"}, {"familyFriendly": "no"})
    assert price.controls[0].check("It costs less than £20.").passed
    corpus(tmp_path)
    made = list(gaps(tmp_path, WORDS, "e2e/devset.csv", "e2e/trainset.csv", count=3, low=1, high=2, seed=0))
    assert len(made) == 3
    for target in made:
        before, after = target.expected["given"]
        assert target.controls[0].check(" ".join([*before, "word", *after])).passed
    with pytest.raises(UsageError, match="no such file; --data names the folder"):
        list(gaps(tmp_path, WORDS, "nothing.csv", "e2e/trainset.csv", count=3, low=1, high=2, seed=0))


def test_corpora_are_utf_8_with_or_without_a_mark_and_their_rows_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("mr,ref\n,It is\u2028big.\n", encoding="utf-8-sig")
    assert refs(file) == ["It is\u2028big."]
    assert lines_of(file)[1] == ",It is\u2028big."
    file.write_bytes("mr,ref\n,Café\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"is not UTF-8 \(byte 11\); save it as UTF-8"):
        refs(file)
    file.write_text("mr,ref\n,Yes\nno\n")
    with pytest.raises(UsageError, match=r"a\.csv:3: the row has no ref; it has fewer cells than columns"):
        refs(file)


def corpus(folder: Path) -> None:
    """A stand-in for the E2E files, of invented sentences."""
    (folder / "e2e").mkdir()
    sentence = "The Mill is a pub that serves {} food near the river."
    rows = [[f"name[The Mill], food[{food}]", sentence.format(food)] for food in ("Indian", "French", "English", "Chinese")]
    for name, times in (("trainset.csv", 11), ("devset.csv", 1)):
        with open(folder / "e2e" / name, "w", newline="") as file:
            csv.writer(file).writerows([["mr", "ref"], *rows * times])


def test_a_torn_run_goes_on_and_scores_the_same(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    corpus(tmp_path)
    suite_file = tmp_path / "tiny.yaml"
    suite_file.write_text(
        "name: tiny\nversion: 1\ntargets: {reader: lengths, low: 3, high: 6}\nmetrics: [exact_length]\nsamples: 2\n"
    )
    suite = read_suite(str(suite_file))
    writer = Diffusion(suite, tiny_lm, steps=3)

    def run(out: Path, limit: int | None = None) -> Scores:
        scores = harness.run_suite(suite, writer, tmp_path, out, limit=limit, teacher="e2e-teacher")
        assert scores is not None
        return scores

    def texts(out: Path) -> list[list[str]]:
        return [json.loads(line)["texts"] for line in (out / "samples.jsonl").read_text().splitlines()]

    whole = run(tmp_path / "whole")
    assert whole.figures["exact_length"] == Figure(mean=1.0, low=1.0, high=1.0, n=4)
    assert whole.by_target["exact_length"] == {f"{n} words": 1.0 for n in (3, 4, 5, 6)}
    assert whole.by_target["lm_score"].keys() == whole.by_target["exact_length"].keys()
    torn = tmp_path / "torn"
    run(torn)
    log = torn / "samples.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:2]) + lines[2][:20])  # as a kill in mid-line leaves it
    assert run(torn) == whole
    assert texts(torn) == texts(tmp_path / "whole")
    with pytest.raises(UsageError, match="another targets"):
        run(torn, limit=2)
    log.write_text("{nonsense\n" + lines[1])
    with pytest.raises(UsageError, match=r"samples.jsonl:1: no item of a run"):
        run(torn)


def test_a_target_that_no_text_can_meet_counts_as_failed(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    corpus(tmp_path)
    suite_file = tmp_path / "long.yaml"
    suite_file.write_text(
        "name: long\nversion: 1\ntargets: {reader: lengths, low: 31, high: 32}\nmetrics: [exact_length]\nsamples: 2\n"
    )
    out = tmp_path / "out"
    suite = read_suite(str(suite_file))
    scores = harness.run_suite(suite, Diffusion(suite, tiny_lm, steps=2), tmp_path, out, teacher="e2e-teacher")
    assert scores is not None
    assert scores.figures["exact_length"].mean == 0.5 and scores.figures["lm_score"].n == 1
    assert "1 to 31" in scores.failed_targets["32 words"]


def test_manifest_says_what_made_the_numbers(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    corpus(tmp_path)
    suite = read_suite("length")
    harness.run_suite(suite, Diffusion(suite, tiny_lm, steps=2), tmp_path, tmp_path / "out", 1, 3, seed=7)
    manifest = json.loads((tmp_path / "out" / "scores.json").read_text())["manifest"]
    assert manifest["seed"] == 7
    assert manifest["weights"] == tiny_lm.backbone.weights_digest
    assert manifest["preset"]["steps"] == 2
    assert {"command", "versions", "suite_digest", "wall_s"} <= manifest.keys()


def run_folder(folder: Path, values: list[float], digest: str = "d", more: dict[str, Any] | None = None) -> Path:
    folder.mkdir()
    scores = Scores(
        suite="s", manifest=run_manifest(suite_digest=digest, **(more or {})), targets=2, texts=2, calls_per_text=1.0,
        failed_targets={}, scorer_overlap={}, by_target={"score": {f"t{i}": value for i, value in enumerate(values)}},
    )  # fmt: skip
    write_record(folder / "scores.json", scores)
    return folder


def test_paired_comparison_agrees_with_enumeration(tmp_path: Path) -> None:
    """Of 2⁶ sign flips of six equal gains, two are as extreme; of a gain and its opposite all are."""
    one = run_folder(tmp_path / "one", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    row = compared(one, run_folder(tmp_path / "better", [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]))["score"]
    assert row.n == 6
    assert (row.first, row.second, row.difference) == pytest.approx((0.35, 0.45, 0.1))
    assert row.p == pytest.approx(2 / 64) and row.detectable == pytest.approx(0, abs=1e-9)
    row = compared(one, run_folder(tmp_path / "swapped", [0.2, 0.1, 0.3, 0.4, 0.5, 0.6]))["score"]
    assert row.p == pytest.approx(1) and row.low < 0 < row.high
    gaps = [0.1, -0.1, 0, 0, 0, 0]
    deviation = math.sqrt(sum(g * g for g in gaps) / 5)
    assert row.detectable == pytest.approx((1.96 + 0.8416) * deviation / math.sqrt(6), rel=1e-4)


def test_few_targets_have_no_detectable_difference(tmp_path: Path) -> None:
    one, other = (run_folder(tmp_path / name, values) for name, values in (("one", [0.1, 0.2]), ("other", [0.2, 0.4])))
    row = compared(one, other)["score"]
    assert row.p == 0.5 and math.isnan(row.detectable)


def test_runs_that_cannot_be_compared(tmp_path: Path) -> None:
    parts = {"scorers": ({"teacher": "a"}, {"teacher": "b"}), "targets_digest": ("a", "b")}
    for message, (key, values) in zip(("scored by different models", "of different targets"), parts.items(), strict=True):
        sides = [
            run_folder(tmp_path / f"{key} {i}", [0.1, 0.2], more={key: value, "targets": 2}) for i, value in enumerate(values)
        ]
        with pytest.raises(UsageError, match=message):
            compared(*sides)
    one = run_folder(tmp_path / "one", [0.1])
    with pytest.raises(UsageError, match="different suites: suite_digest d and e"):
        compared(one, run_folder(tmp_path / "other", [0.1], digest="e"))
    with pytest.raises(UsageError, match=r"holds no scores\.json"):
        compared(one, tmp_path)
    with pytest.raises(UsageError, match="share 1 of their targets, expected two or more"):
        compared(one, run_folder(tmp_path / "short", [0.2]))
    with pytest.raises(UsageError, match="are one folder"):
        compared(one, one)
    two = run_folder(tmp_path / "two", [0.1, 0.2])
    faults = {
        "{}": "has no suite, ",
        "[1]": "expected a JSON object",
        '{"manifest": {"seed": "s"}}': r"manifest\.seed: expected",
    }
    for broken, fault in faults.items():
        (one / "scores.json").write_text(broken)
        with pytest.raises(UsageError, match=rf"(?s)scores\.json:.*{fault}"):
            compared(one, two)
    (one / "scores.json").write_text("{")
    with pytest.raises(UsageError, match="is not JSON"):
        compared(one, two)


def test_all_faults_of_an_ablation_come_in_one_report(tmp_path: Path) -> None:
    file = tmp_path / "ablation.yaml"
    file.write_text(
        "base: {kind: lm, recipe: {name: diffusion-lm}, steps: x}\narms:\n  a: {warmpu: 8}\nmarks: 0\nsampels: 3\n"
        "sampling: {name: fast, steps: 2.5}\n"
    )
    with pytest.raises(UsageError) as error:
        Ablation.read(file)
    for part in (
        "ablation.yaml:4: marks: expected a whole number above 0, got 0",
        "sampels: unknown key, did you mean 'samples'",
        "samples: missing",
        "arms.a.steps: expected a whole number above 0, got 'x'",
        "ablation.yaml:3: arms.a.warmpu: unknown key, did you mean 'warmup'",
        "sampling.name: unknown key",
        "sampling.steps: expected a whole number above 0, got 2.5",
    ):
        assert part in str(error.value)
    assert Ablation.read(Path(__file__).parents[1] / "configs" / "ablation.yaml").arms


def test_arms_of_an_ablation_are_merged_deeply() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}, "d": 5}) == {"a": {"b": 4, "c": 2}, "d": 5}
