"""Patterns over words: language against Python's `re`, probabilities against enumeration, texts, faults."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from dlm_control import Control, Controller, UsageError
from dlm_control.control.controller import State
from dlm_control.controllers.infill import Infill
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.pattern import Pattern
from dlm_control.diffusion.gaussian import GaussianBackbone
from dlm_control.diffusion.model import DiffusionLM, DiffusionLMConfig
from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.guidance import tilt
from dlm_control.text.tokenizer import WordTokenizer
from dlm_control.text.words import split_words

FEW = ("ale", "bread", "Cheese", "dates")
WORD, WORDS = r"[^\n]+\n", r"(?:[^\n]+\n)*"


def lines(words: list[str] | tuple[str, ...]) -> str:
    """Words as `re` reads them here, each with a line of its own."""
    return "".join(f"{word}\n" for word in words)


def some_pattern(rng: random.Random, words: tuple[str, ...], depth: int = 4) -> tuple[str, str]:
    """A pattern, and the same for `re`."""
    kind = rng.random()
    if depth == 0 or kind < 0.45:
        word = rng.choice(words)
        literal, letter = re.escape(word), word[0] if word[0].isalpha() else "a"
        atoms = [
            (word, rf"{literal}\n"),
            ("?", WORD),
            ("*", WORDS),
            (f"!{word}", rf"(?!{literal}\n){WORD}"),
            (f"/[{letter}f].*/", rf"[{letter}f][^\n]*\n"),
        ]
        return rng.choice(atoms)
    (left, left_re), (right, right_re) = some_pattern(rng, words, depth - 1), some_pattern(rng, words, depth - 1)
    if kind < 0.6:
        return f"({left}|{right})", f"(?:{left_re}|{right_re})"
    if kind < 0.85:
        return f"{left} {right}", left_re + right_re
    times = rng.choice(["+", "?", "{2}", "{1,3}", "{2,}"])
    return f"({left}){times}", f"(?:{left_re}){times}"


def texts(most: int = 4) -> Iterator[tuple[str, ...]]:
    return itertools.chain.from_iterable(itertools.product(FEW, repeat=n) for n in range(1, most + 1))


@pytest.fixture(scope="module")
def toy() -> LanguageModel:
    """A model of four words."""
    torch.manual_seed(0)
    tokenizer = WordTokenizer.train([" ".join(FEW)], min_count=1)
    config = DiffusionLMConfig(
        vocab_size=len(tokenizer), dim=8, width=16, depth=1, heads=2, max_seq_len=8, length_counts=[0, 1, 1, 1, 1]
    )  # fmt: skip
    return LanguageModel(GaussianBackbone(DiffusionLM(config), tokenizer, "toy"))


# --- the language -------------------------------------------------------------------------------------------------------------


def test_a_pattern_says_what_re_says() -> None:
    rng, all_texts = random.Random(1), list(texts())
    for _ in range(60):
        source, expected = some_pattern(rng, FEW[:3])
        match, exclude = Pattern(source), Pattern(exclude=source)
        for text in rng.sample(all_texts, 40):
            fits = re.fullmatch(expected, lines(text)) is not None
            assert match.check(" ".join(text)).passed == fits, (source, text)
            assert exclude.check(" ".join(text)).passed != fits, (source, text)


@pytest.mark.parametrize(
    ("pattern", "obeying", "breaking"),
    [
        ("The * .", ["The .", "The Mill is cheap."], ["The Mill", "A Mill ."]),
        ("? {2}", [], []),
        ("a?b", ["b", "a b"], ["a", "x b"]),
        ("Is it cheap \\?", ["Is it cheap?"], ["Is it cheap pub"]),
        ("It is !(a|the|/[0-9]+/)+ !", ["It is very cheap!"], ["It is 5!", "It is a pub!", "It is!"]),
        ("/[A-Z].*/{2} /(?i)PUB|\\d+/", ["The Mill pub", "The Mill Pub", "The Mill 30"], ["The mill pub", "The Mill pubs"]),
        ("(so|very) {1,2}", [], []),
        ("family-friendly (pub|)", ["family-friendly", "family - friendly pub"], ["family friendly pub"]),
        ("5 out of 5 , £20-25", ["5 out of 5, £20-25"], ["5 out of 5 £20-25"]),
    ],
)
def test_what_patterns_mean(pattern: str, obeying: list[str], breaking: list[str]) -> None:
    if not obeying:
        with pytest.raises(UsageError, match="repeats nothing"):
            Pattern(pattern)
        return
    assert [text for text in obeying if not Pattern(pattern).check(text).passed] == []
    assert [text for text in breaking if Pattern(pattern).check(text).passed] == []


@pytest.mark.parametrize(
    ("times", "passing"),
    [(1, {1}), ("1-2", {1, 2}), ("2-", {2, 3, 4}), ("-1", {0, 1}), (0, {0})],
)
def test_counts(times: int | str, passing: set[int]) -> None:
    single, phrase = Pattern(count={"ale": times}), Pattern(count={"(ale|bread) dates": times})
    for text in texts():
        assert single.check(" ".join(text)).passed == (text.count("ale") in passing)
        pairs = sum(a in ("ale", "bread") and b == "dates" for a, b in itertools.pairwise(text))
        assert phrase.check(" ".join(text)).passed == (pairs in passing)


def test_a_check_names_each_condition_that_fails() -> None:
    control = Pattern(["The *", "* ."], exclude="* pub *", count={"cheap": "1-2"})
    check = control.check("A pub .")
    assert check.why == "does not match 'The *'; matches '* pub *'; 'cheap' 0 times, expected 1 to 2"
    assert check.score == 1 / 4


# --- probabilities ------------------------------------------------------------------------------------------------------------


def enumerated(log_probs: Tensor, length: int, first: int, control: Pattern) -> tuple[float, Tensor]:
    """p(the control obeyed), and the posterior of words (seq_len, vocab), of one item."""
    total, posterior = 0.0, torch.zeros_like(log_probs)
    for text in itertools.product(range(len(FEW)), repeat=length):
        if control.check(" ".join(FEW[word] for word in text)).passed:
            probability = math.exp(sum(float(log_probs[i, first + word]) for i, word in enumerate(text)))
            total += probability
            for i, word in enumerate(text):
                posterior[i, first + word] += probability
    return total, posterior / max(total, 1e-30)


CONTROLS = [
    Pattern("* ale * bread *"),
    Pattern("(ale ? dates|bread bread *|/[A-Z].*/+ !(ale|dates))"),
    Pattern(exclude=["* ale ale *", "* /[a-z]+/ Cheese"]),
    Pattern("* dates", count={"ale": "1-2", "(bread|dates)": 2}),
]


@pytest.mark.parametrize("number", range(len(CONTROLS)))
def test_energy_and_tilt_are_those_of_enumeration(toy: LanguageModel, number: int) -> None:
    control, lm = CONTROLS[number], toy.backbone
    first, lengths = lm.ids("ale", "test")[0], torch.tensor([4, 3, 5])
    log_probs = (3 * torch.randn(3, 6, len(lm.vocabulary), generator=torch.Generator().manual_seed(number))).log_softmax(-1)
    bound = Control("tested", control).bind(lm)
    x = torch.zeros(3, 6, 8)
    push, energy = tilt(bound, State(x_t=x, t=torch.ones(3), clean=x, log_probs=log_probs, length=lengths, lm=lm))
    change = push.values
    for row, length in enumerate(lengths.tolist()):
        total, posterior = enumerated(log_probs[row], length, first, control)
        assert float(energy[row]) == pytest.approx(-math.log(total), abs=1e-4)
        conditioned = (log_probs[row] + change[row]).exp()
        assert torch.allclose(conditioned[:length], posterior[:length], atol=1e-4)
        assert torch.equal(change[row, length:], torch.zeros_like(change[row, length:]))


def test_improbable_texts_have_the_right_energy(toy: LanguageModel) -> None:
    """A finished text far from obedience: each word that would have to change costs as much as the floor says."""
    lm, control = toy.backbone, Pattern("ale{30}")
    words = torch.full((1, 32), lm.ids("bread", "test")[0])
    logits = torch.full((1, 32, len(lm.vocabulary)), -50.0).scatter(-1, words[..., None], 0.0)
    x = torch.zeros(1, 32, 8)
    state = State(x_t=x, t=torch.zeros(1), clean=x, log_probs=logits, length=torch.tensor([30]), lm=lm)
    push, energy = tilt(Control("tested", control).bind(lm), state)
    assert float(energy[0]) == pytest.approx(30 * 50, rel=1e-4)
    assert torch.isfinite(push.values).all()


# --- texts --------------------------------------------------------------------------------------------------------------------

SOME = ("The", "cheap", "pub", "river", "food", ".", "Golden", "Fox")


def obedient(lm: LanguageModel, number: int, seed: int) -> None:
    rng = random.Random(seed)
    for i in range(number):
        source, expected = some_pattern(rng, SOME)
        [sample] = lm.generate([Pattern(source)], seed=i, steps=8, candidates=1)
        assert re.fullmatch(expected, lines(split_words(sample.text))), (source, sample.text)
        assert sample.passed


@pytest.mark.parametrize("kind", ["gaussian", "masked"])
def test_texts_match_random_patterns(tiny_lm: LanguageModel, masked_lm: LanguageModel, kind: str) -> None:
    obedient(tiny_lm if kind == "gaussian" else masked_lm, 10, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaussian", "masked"])
def test_texts_match_two_hundred_random_patterns(tiny_lm: LanguageModel, masked_lm: LanguageModel, kind: str) -> None:
    obedient(tiny_lm if kind == "gaussian" else masked_lm, 200, seed=3)


@pytest.mark.parametrize("kind", ["gaussian", "masked"])
def test_a_pattern_goes_with_other_controls(tiny_lm: LanguageModel, masked_lm: LanguageModel, kind: str) -> None:
    controls: list[Controller] = [
        Pattern("The * food ?{2,4} .", exclude="* (cheap|/[0-9].*/) *", count={"Fox": 1}),
        Length(12),
        Infill("The [*] is [*] ."),
        Keyword("river"),
    ]
    lm = tiny_lm if kind == "gaussian" else masked_lm
    samples = lm.generate(controls, 4, seed=1, steps=12)
    assert [sample.passed for sample in samples] == [True] * 4, [sample.text for sample in samples]


def test_a_weight_below_one_asks_for_less(tiny_lm: LanguageModel) -> None:
    def share(weight: float) -> float:
        controls: list[Controller | Control] = [Control("pattern", Pattern("* (cheap|river|Fox) *"), weight), Length(8)]
        return sum(sample.passed for sample in tiny_lm.generate(controls, 24, seed=1, steps=6, candidates=1)) / 24

    assert share(0) < 0.35 < share(0.3) < 0.65 < share(1)


# --- faults -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("", "expected at least one word"),
        ("a ( b", r"at 2, before '\( b': this \( is never closed; for the sign itself write \\\("),
        ("a ) b", r"this \) closes nothing"),
        ("a {2}", r"\{2\} repeats nothing"),
        ("a{4,2}", r"\{4,2\} is no number of times"),
        ("a**", "a repetition of a repetition"),
        ("/[a/", r"/\[a/ is no regular expression: unterminated character set"),
        (".* pub", "a full stop stands for itself; write \\* for any words"),
        ("don't?", r'"don\'t" is 2 words \(do n\'t\), and which is meant is not clear'),
        ("!(a b) c", "a ! forbids one word"),
        ("a } /b", r"'}' opens nothing that closes; for the sign itself write \\}"),
    ],
)
def test_a_fault_is_told_with_its_place(pattern: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Pattern(pattern)


def test_all_faults_come_in_one_report(tiny_lm: LanguageModel) -> None:
    with pytest.raises(UsageError, match="3 problems"):
        Pattern(["a (", "b )"], count={"c": "3-1"})
    with pytest.raises(UsageError, match="give `match`, `exclude` or `count`"):
        Pattern()
    with pytest.raises(UsageError, match="expected how many, such as 1, 1-2"):
        Pattern(count={"a": "some"})
    with pytest.raises(UsageError, match=r"2 problems\n.*'chepa' is not among.*near it: cheap\n.*/q9/ matches none of the"):
        tiny_lm.generate([Pattern("* chepa /q9/ *")])


def test_an_automaton_beyond_the_limit_is_refused(tiny_lm: LanguageModel) -> None:
    for pattern in ("* cheap ?{13}", "((a|the){80}){80}"):
        with pytest.raises(
            UsageError, match="automaton of more than 4000 states; write smaller repetitions, fewer alternatives"
        ):
            tiny_lm.generate([Pattern(pattern)])
    with pytest.raises(UsageError, match="pattern: all conditions together needs an automaton of more than 4000"):
        tiny_lm.generate([Pattern(["* cheap ?{9}", "* pub ?{8}"])])


def test_contradictions_are_found_before_sampling(tiny_lm: LanguageModel) -> None:
    with pytest.raises(UsageError, match=r"needs a pattern that no text matches; .* and none obeys, whatever its length"):
        tiny_lm.generate([Pattern("The * pub", exclude="The *")])
    with pytest.raises(UsageError, match=r"pattern#1 needs its pattern, of 1 or more words; pattern#2 needs .* and none obeys"):
        tiny_lm.generate([Pattern("* cheap"), Pattern("* pub"), Length(9)])
    pattern = Pattern("* cheap * river ?{2} .")
    with pytest.raises(UsageError, match=r"but for its length has") as error:
        tiny_lm.generate([pattern, Infill("The [2-] pub [*]"), Keyword("Fox"), Length(5)])
    found = re.search(r"but for its length has (\d+): '(.*)'", str(error.value))
    assert found is not None
    text = found[2]
    assert len(split_words(text)) == int(found[1])
    assert pattern.check(text).passed
