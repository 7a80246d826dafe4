"""Suites and files of targets: what they say is what is asked, and their faults are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlm_control import LanguageModel, UsageError
from dlm_control.control.use import with_unique_names
from dlm_control.controllers.fields.lookup import domain_at
from dlm_control.controllers.semantic import Semantic
from dlm_control.eval.score.overlap import filled, overlap
from dlm_control.tasks.metric import METRICS
from dlm_control.tasks.suite import read_suite, read_suites
from dlm_control.tasks.targets.e2e import spans, tag_sequences, tags_and_attributes
from dlm_control.tasks.targets.file import make_targets
from dlm_control.tasks.targets.readers import made, stories
from dlm_control.tasks.targets.target import NOISE_AWARE, WORDS

SMOKE = "smoke"
E2E = domain_at("e2e")


def test_controls_of_a_target_file_keep_their_use_and_get_guides_in_short_form_too(tmp_path: Path) -> None:
    lines = [{"keyword": {"words": "pub", "weight": 0.5, "interval": [0.2, 0.8], "name": "kw"}}, {"pos": "DET NOUN"},
             {"pos": {"tags": "DET NOUN", "guide": "counts"}}]  # fmt: skip
    (tmp_path / "made.jsonl").write_text(json.dumps({"name": "a", "controls": lines}) + "\n")
    [target] = made(tmp_path, NOISE_AWARE, "made.jsonl")
    keyword, short, whole = with_unique_names(target.controls)
    assert (keyword.name, keyword.weight, keyword.interval) == ("kw", 0.5, (0.2, 0.8))
    assert [getattr(control.controller, "guide") for control in (short, whole)] == ["x_t", "counts"]  # noqa: B009


def test_smoke_needs_no_data_and_has_every_kind(tiny_lm: LanguageModel) -> None:
    suite = read_suite(SMOKE)
    kinds = {
        type(control.controller).__name__
        for target in suite.read_targets(None)
        for control in with_unique_names(target.controls)
    }
    assert kinds == {"Semantic", "Length", "PartsOfSpeech", "Span", "SyntaxTree", "Infill", "Keyword"}
    with pytest.raises(UsageError, match="suite pos: needs --data"):
        read_suite("pos").read_targets(None)


def test_targets_make_writes_what_the_corpus_obeys(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.csv"
    sentence = "The Mill is a cheap pub that serves Japanese food near the large river."
    corpus.write_text(f'mr,ref\n"name[The Mill], food[Japanese], priceRange[cheap]",{sentence}\n')
    kinds = ["semantic", "pos", "tree", "span", "length", "keyword"]
    assert make_targets(corpus, kinds, tmp_path / "made.jsonl", 5, 0, 2, E2E) == 1
    [target] = made(tmp_path, NOISE_AWARE._replace(domain=E2E), "made.jsonl")
    assert target.reference == sentence and target.expected["words"] == 15 and len(target.expected["fields"]) == 2
    assert all(control.check(sentence).passed for control in target.controls)
    [semantic] = [c.controller for c in with_unique_names(target.controls) if isinstance(c.controller, Semantic)]
    assert semantic.guide == "classifier"
    for metric in ("slot_accuracy", "tags_strict", "tree_strict", "spans_exact", "exact_length"):
        assert METRICS[metric](sentence, target) == 1
    with pytest.raises(UsageError, match="unknown 'trees', did you mean 'tree'"):
        make_targets(corpus, ["trees"], tmp_path / "x.jsonl", 5, 0, 1)
    with pytest.raises(UsageError, match=r"(?s)unknown 'foo'.*length is given 2 times"):
        make_targets(corpus, ["foo", "length", "length"], tmp_path / "x.jsonl", 5, 0, 1)
    with pytest.raises(UsageError, match="there are none; expected some of: semantic"):
        make_targets(corpus, [], tmp_path / "x.jsonl", 5, 0, 1)
    with pytest.raises(UsageError, match=r"corpus\.csv has what semantic can ask for"):
        make_targets(corpus, ["semantic"], tmp_path / "x.jsonl", 5, 0, 4, E2E)


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
    assert filled("Ann had a pub. She was bored. It closed.", *target.expected["given"]) == "She was bored."
    assert target.controls[0].check(target.reference).passed
    figures = overlap([(target.reference, target)])
    assert figures["gap_words"] == 3 and figures["bleu_4"] == 100


def test_the_2022_files_ask_for_the_words_and_tags_between_their_frames(tmp_path: Path) -> None:
    """The tokens of 2022 begin with START and end with a newline and END, in words and tags alike."""
    record = {
        "words_": ["START", "The", "pub", "is", "cheap", ".", "\n", "END"],
        "pos": ["START", "DET", "NOUN", "AUX", "ADJ", "PUNCT", "SPACE", "END"],
        "spans": [[0, 1, "NP"], [2, 3, "VP"]],
        "attr": ["price", ":", "less", "than", "£", "20"],
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    [tags], [span], [pair] = (read(tmp_path, NOISE_AWARE, "a.jsonl") for read in (tag_sequences, spans, tags_and_attributes))
    assert [target.reference for target in (tags, span, pair)] == ["The pub is cheap."] * 3
    assert [target.name for target in (tags, span, pair)] == ["tags 1", "span 1", "pair 1"]
    for target in (tags, pair):
        assert target.expected["tags"] == ("DET", "NOUN", "AUX", "ADJ", "PUNCT")
        assert target.controls[-1].check("The pub is cheap.").passed
    assert span.expected == {"spans": [(0, 1, "NP"), (2, 3, "VP")]}
    assert span.controls[0].check("The pub is cheap.").passed
    assert pair.expected["value"] == "less than £ 20" and pair.expected["fields"] == {"priceRange": "less than £20"}
    assert pair.controls[0].check("It costs less than £20.").passed
    guides = [getattr(control, "guide") for target in (tags, span, pair) for control in target.controls]  # noqa: B009
    assert guides == ["x_t", "x_t", "classifier", "x_t"]


def test_faults_of_including_suites_and_presets_come_together(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("name: all\nversion: 1\ninclude: [semantic, semantics, other.yaml]\nmetrics: []\n")
    (tmp_path / "other.yaml").write_text(
        "name: other\nversion: 1\ntargets: {reader: unconditional, count: 1}\nmetrics: [tag_mtach]\nsamples: 1\n"
        "presets: {paper: {stength: 1}}\n"
    )
    with pytest.raises(UsageError) as error:
        read_suites(str(tmp_path / "all.yaml"))
    for part in (
        "metrics: a suite that includes",
        "did you mean 'semantic'",
        "did you mean 'tag_match'",
        "stength: unknown key",
    ):
        assert part in str(error.value)
    assert [suite.name for suite in read_suites("paper")][:2] == ["semantic", "pos"]
