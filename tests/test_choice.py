"""The control `choice`: what it accepts, its texts, and what it says of mistakes."""

from __future__ import annotations

import pytest

from dlm_control import LanguageModel, UsageError
from dlm_control.controllers.choice import Choice
from dlm_control.controllers.length import Length


@pytest.mark.parametrize(
    ("position", "obeying", "breaking"),
    [
        (None, ["Is it cheap?", "It isn't ( very ) cheap !"], ["Is it cheap", "It is cheap", "So : Is it cheap?"]),
        (0, ["Is it cheap? No."], ["So is it cheap?", "It is"]),
        (2, ["He said Is it cheap? Yes"], ["Is it cheap?", "He Is it cheap?"]),
        (-1, ["He said : Is it cheap?"], ["Is it cheap? Yes"]),
        (-3, ["Is it cheap? Oh yes", "a Is it cheap? Oh yes"], ["Is it cheap? yes", "Is it cheap?"]),
    ],
)
def test_what_it_accepts(position: int | None, obeying: list[str], breaking: list[str]) -> None:
    control = Choice(["Is it cheap?", "It isn't (very) cheap!"], position=position)
    assert [text for text in obeying if not control.check(text).passed] == []
    assert [text for text in breaking if control.check(text).passed] == []
    assert control.check("It is").why.endswith("none of 2 phrases")


@pytest.mark.parametrize("kind", ["gaussian", "masked"])
def test_texts_are_one_of_the_phrases(tiny_lm: LanguageModel, masked_lm: LanguageModel, kind: str) -> None:
    lm, phrases = tiny_lm if kind == "gaussian" else masked_lm, ["a cheap pub .", "The river .", "food"]
    texts = {sample.text for sample in lm.generate([Choice(phrases)], 24, seed=1, steps=6, candidates=1)}
    assert texts <= {"a cheap pub.", "The river.", "food"} and len(texts) > 1
    samples = lm.generate([Choice(phrases, position=-1), Length(9)], 4, seed=1, steps=9, candidates=1)
    assert all(sample.passed for sample in samples)


def test_mistakes_are_told(tiny_lm: LanguageModel) -> None:
    with pytest.raises(UsageError, match="choice: phrases: expected one phrase or more"):
        Choice([])
    with pytest.raises(UsageError, match="at least one word"):
        Choice(["a", " "])
    with pytest.raises(UsageError, match=r"(?s)choice: .*the word 'chepa' is not among"):
        tiny_lm.generate([Choice(["a chepa pub", "food"])])
    with pytest.raises(UsageError, match="choice needs its pattern, of 3 or more words"):
        tiny_lm.generate([Choice(["a cheap pub", "the river near it ."]), Length(2)])
