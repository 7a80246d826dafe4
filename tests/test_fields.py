"""Fields of one's own: a domain file is read, found, steered by, learnt from and scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dlm_control import UsageError, cli, load
from dlm_control.controllers.fields.domain import Domain
from dlm_control.controllers.fields.file import read_domain
from dlm_control.controllers.fields.lookup import domain_at
from dlm_control.controllers.semantic import Semantic
from dlm_control.eval.score.flaws import FlawDetector
from dlm_control.eval.score.slots import contradictions, is_realised
from dlm_control.eval.score.teacher import Teacher
from dlm_control.tasks.metric import METRICS
from dlm_control.tasks.preflight import preflight
from dlm_control.tasks.spec import Spec
from dlm_control.tasks.suite import read_suite
from dlm_control.training.trainer import TrainConfig, Trainer

PLACES = """
fragments: {very: ['very ', 'quite ']}
ignore: ['not far from the \\w+']
fields:
  place:
    also: [where]
    mentions: [place]
    values:
      river: [river, riverside]
      centre: {wordings: [city centre], patterns: ['\\bcent(?:re|er)\\b']}
  mood:
    agree: [[quiet, cosy]]
    values:
      quiet: [quiet]
      cosy: [cosy]
      loud: {wordings: [loud], patterns: ['(?&very)?loud']}
      unloved: {wordings: [not loved], patterns: ['not loved'], overrides: [loved]}
      loved: [loved]
  name:
    exclusive: false
    values: [The Blue Lantern, Café Nord]
"""


@pytest.fixture
def places(tmp_path: Path) -> Domain:
    (tmp_path / "places.yaml").write_text(PLACES)
    return read_domain(tmp_path / "places.yaml")


@pytest.fixture
def home(tiny_folder: Path, tmp_path: Path) -> Path:
    """A model with a domain file beside it."""
    shutil.copytree(tiny_folder, tmp_path / "mine")
    (tmp_path / "mine" / "fields.yaml").write_text("fields: {kind: {also: [sort], values: {pub: [pub], place: [river, bar]}}}")
    return tmp_path / "mine"


def test_a_model_steers_by_the_fields_in_its_folder_and_keeps_them_when_it_is_saved(home: Path, tmp_path: Path) -> None:
    lm = load(home)
    [sample] = lm.generate([Semantic("Sort", "PUB")], seed=3, steps=4)
    assert sample.checks["semantic"].why in ("says 'pub'", "does not say kind = pub")
    assert sample.checks["semantic"].passed == ("pub" in sample.text.lower().split())
    with pytest.raises(UsageError, match="unknown 'food'; there are: kind"):
        lm.generate([Semantic("food", "Thai")], steps=2)
    lm.save_pretrained(tmp_path / "copy")
    assert load(tmp_path / "copy").generate([Semantic("kind", "pub")], seed=3, steps=4)[0].text == sample.text


def test_a_given_domain_comes_before_the_folders_and_that_before_the_configs(home: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("fields: {water: {values: [river]}}")
    config = json.loads((home / "config.json").read_text())
    (home / "config.json").write_text(json.dumps({**config, "fields": "e2e"}))
    lm = load(home)
    assert Semantic("water", "river", domain=tmp_path / "other.yaml").plan(lm.backbone).phrases
    assert Semantic("kind", "pub").plan(lm.backbone).phrases
    (home / "fields.yaml").unlink()
    assert Semantic("eatType", "pub").plan(load(home).backbone).phrases


def test_without_a_domain_a_control_says_what_to_give(tiny_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"says no fields; write .*fields.yaml.* or a bundled name as `domain`: e2e"):
        load(tiny_folder).generate([Semantic("food", "Thai")], steps=2)
    with pytest.raises(UsageError, match="the fields are those of a model, which is not known here; give `domain`"):
        Semantic("food", "Thai").check("Thai food")
    with pytest.raises(UsageError, match="domain 'e3e': neither bundled nor a file, did you mean 'e2e'"):
        Semantic("food", "Thai", domain="e3e")


def test_all_mistakes_of_a_spec_in_fields_come_before_sampling(home: Path) -> None:
    spec = Spec.from_mapping({"controls": [{"semantic": {"fields": {"knd": "pub", "kind": "pup"}}}, {"keyword": "zzz"}]})
    with pytest.raises(UsageError) as caught:
        preflight(spec, load(home))
    for fault in ("did you mean 'kind'", "did you mean 'pub'", "zzz"):
        assert fault in str(caught.value)


FAULTS = """
feilds: 1
fragments: {odd: '(', good: 'x'}
ignore: ['(?&goood)']
fields:
  price:
    also: [cost]
    values:
      low: []
      high:
      cheap: [cheap, Low - cost]
      poor: [low - cost, '']
      costly: {wordings: [dear], overrides: [lou], paterns: [x]}
      absent: [none]
      'a, b': [ab]
    agree: [[cheap, dear]]
  Cost: {values: [one]}
  size: {values: [1, 2]}
  empty: {values: {}}
  loose: text
"""


def test_all_mistakes_of_a_domain_file_come_in_one_report_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "fields.yaml").write_text(FAULTS)
    with pytest.raises(UsageError) as caught:
        read_domain(tmp_path / "fields.yaml")
    report = str(caught.value)
    for fault in (
        "feilds: unknown key, did you mean 'fields'?", "fragments.odd[0]: no regular expression",
        "unknown fragment 'goood', did you mean 'good'", "price.values.low: has no wording",
        "price.values.high: has no wording",
        "the wording 'low - cost' is one of 'cheap', too", "the wording '' has no words", "paterns: unknown key",
        "'absent' stands for texts", "a name has letters, and no comma", "agree[0]: unknown value 'dear'",
        "'Cost' is a name of the field price already", "fields.size.values", "fields.empty.values", "fields.loose: expected",
    ):  # fmt: skip
        assert fault in report, (fault, report)
    assert "fields.yaml:9: fields.price.values.low" in report


def test_values_that_no_word_of_a_model_says_are_reported_together(places: Domain) -> None:
    words = {"river", "quiet", "cosy", "loud", "not", "loved", "The", "Blue", "Lantern"}
    with pytest.raises(
        UsageError, match=r"(?s)2 problems.*centre: no wording.*lack centre, city.*Café Nord: .*lack Café, Nord"
    ):
        places.check_words(words)
    places.check_words({*words, "city", "centre", "Café", "Nord"})


def test_a_scorer_finds_values_by_patterns_or_wordings_and_what_contradicts(places: Domain) -> None:
    for field, value, text in (
        ("place", "river", "By the River-side? No: the riverside."), ("place", "centre", "In the center."),
        ("name", "The Blue Lantern", "You will like the Blue  Lantern."), ("name", "Café Nord", "The cafe nord is open."),
        ("mood", "quiet", "A quiet and cosy bar."), ("mood", "loved", "It is loved."), ("mood", "unloved", "It is not loved."),
        ("mood", "loud", "A quite loud bar."),
    ):  # fmt: skip
        assert is_realised(places, field, value, text), (field, value, text)
    for field, value, text in (
        ("place", "river", "The river is in the centre."), ("place", "river", "The drivers rest."),
        ("mood", "quiet", "A quiet and loud bar."), ("mood", "loved", "It is not loved."),
    ):  # fmt: skip
        assert not is_realised(places, field, value, text), (field, value, text)
    assert contradictions(places, "The river is in the centre, quiet and loud.") == ["place", "mood"]
    assert not contradictions(places, "By the river, not far from the centre, quiet and cosy.")
    assert not contradictions(places, "It is not loved.")
    assert contradictions(places, "It is not loved, but loved.") == ["mood"]


ROWS = [("The Golden Fox is a pub .", "pub"), ("The Blue Lantern is near the river .", "place"), ("A cheap bar .", "")]


def test_a_column_for_each_field_makes_targets_scores_and_a_guide(home: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "own.csv"
    corpus.write_text("ref,sort\n" + "".join(f"{text},{value}\n" for text, value in ROWS * 20))
    done = CliRunner().invoke(
        cli.build(),
        ["targets", "make", str(corpus), "--controls", "semantic", "--domain", str(home), "--out", str(tmp_path / "t.jsonl")],
    )
    assert done.exit_code == 0 and "2 targets" in done.output, done.output
    suite = tmp_path / "own.yaml"
    suite.write_text(
        "name: own\nversion: 1\nsamples: 1\nmetrics: [slot_accuracy]\ndomain: mine/fields.yaml\n"
        "targets: {reader: made, file: t.jsonl}\n"
    )
    targets = read_suite(str(suite)).read_targets(tmp_path)
    assert sorted(str(target.expected["fields"]["kind"]) for target in targets) == ["place", "pub"]
    for target in targets:
        assert METRICS["slot_accuracy"](str(target.reference), target) == METRICS["phrase_match"](str(target.reference), target)
        assert METRICS["slot_accuracy"]("A bar and a pub .", target) == 0
    recipe = {"lm": str(home), "model": {"width": 16, "depth": 1, "heads": 2}, "tokens": 120}
    made = TrainConfig.checked({"kind": "semantic-guide", "steps": 3, "warmup": 1, "data": str(corpus), "recipe": recipe}, "")
    Trainer(made).run()
    lm = load(home)
    assert lm.generate([Semantic("kind", "pub", guide="classifier")], steps=2)[0].text
    (tmp_path / "wider.yaml").write_text("fields: {kind: {values: [pub, river]}}")
    with pytest.raises(UsageError, match="does not know kind = river: it was trained on the fields kind"):
        lm.generate([Semantic("kind", "river", guide="classifier", domain=tmp_path / "wider.yaml")], steps=2)


def test_a_made_suite_must_say_its_domain(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"controls": [{"semantic": {"field": "kind", "value": "pub"}}]}) + "\n")
    text = "name: own\nversion: 1\nsamples: 1\nmetrics: []\ncorpus: mine\ntargets: {reader: made, file: t.jsonl}\n"
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UsageError, match="line 1: no fields are known; name their domain file in the suite"):
        read_suite(str(tmp_path / "own.yaml")).read_targets(tmp_path)


def test_contradictions_are_flaws_where_the_teacher_lies_in_a_model_with_fields(home: Path) -> None:
    teacher = home / "teacher"
    shutil.copytree(Teacher("e2e-teacher").folder, teacher)
    config = json.loads((teacher / "config.json").read_text())
    assert config.pop("fields") == "e2e"
    (teacher / "config.json").write_text(json.dumps(config))
    detector = FlawDetector(Teacher(str(teacher)))
    assert detector.flaws("A pub, a bar.", [1.0]).contradiction and not detector.flaws("A pub.", [1.0]).contradiction
    (home / "fields.yaml").unlink()
    with pytest.raises(UsageError, match=r"no fields\.yaml in its folder or the model's"):
        FlawDetector(Teacher(str(teacher)))


def test_the_bundled_domain_is_that_of_the_bundled_models() -> None:
    assert list(domain_at("e2e").fields) == [
        "name", "eatType", "food", "priceRange", "customer rating", "area", "familyFriendly", "near",
    ]  # fmt: skip
    domain_at("e2e").check_words(load("e2e").backbone.tokenizer.get_vocab())
