"""Layouts against brute force: every text of a tiny vocabulary, read by the definition of each plan."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlm_control import Gap, Plan, UsageError
from dlm_control.control.plan import Language
from dlm_control.sampling.automata import feasible_lengths
from dlm_control.sampling.layout import Layout, Layouts
from dlm_control.sampling.word_sets import Words
from dlm_control.text.pattern import WordPattern, classes_of
from dlm_control.text.tokenizer import WordTokenizer

A, B, C = 3, 4, 5  # behind UNK, PAD and END
WORDS = (A, B, C)
TOKENIZER = WordTokenizer.train(["ale bread cheese"], min_count=1)
PAD, END = TOKENIZER.pad_token_id, TOKENIZER.eos_token_id
ORDINARY = Words(None, frozenset(range(A)), len(TOKENIZER))
COUNTS = [0, 5, 4, 3, 2, 1]
MOST = 5  # words


def layouts(*plans: Plan, most: int = MOST) -> Layouts:
    return Layouts([(f"control {i}", plan) for i, plan in enumerate(plans)], TOKENIZER, COUNTS, most + 1)


def draws(made: Layouts, number: int, seed: int = 0) -> Iterator[Layout]:
    generator = torch.Generator().manual_seed(seed)
    return (made.draw(generator) for _ in range(number))


def texts(most: int = MOST) -> Iterator[tuple[int, ...]]:
    return itertools.chain.from_iterable(itertools.product(WORDS, repeat=n) for n in range(1, most + 1))


def fits(template: Sequence[int | Gap], text: tuple[int, ...]) -> bool:
    if not template:
        return not text
    first, rest = template[0], template[1:]
    if not isinstance(first, Gap):
        return bool(text) and text[0] == first and fits(rest, text[1:])
    most = len(text) if first.most is None else min(first.most, len(text))
    return any(fits(rest, text[n:]) for n in range(first.least, most + 1))


def holds(text: tuple[int, ...], phrase: tuple[int, ...]) -> bool:
    return any(text[i : i + len(phrase)] == phrase for i in range(len(text)))


def obeys(text: tuple[int, ...], plan: Plan) -> bool:
    return (
        (plan.min_words or 0) <= len(text) <= (plan.max_words or len(text))
        and all(-len(text) <= i < len(text) and text[i] in expected for i, expected in plan.at.items())
        and not plan.forbidden & set(text)
        and all(any(holds(text, phrase) for phrase in demand) for demand in plan.phrases)
        and (plan.template is None or fits(plan.template, text))
        and (plan.language is None or plan.language.automaton.ends(plan.language.classes[word] for word in text)[-1])
    )


def language(source: str) -> Language:
    """Of a pattern of ale, bread and cheese."""
    pattern = WordPattern.read(source)
    classes, signatures = classes_of(["ale", "bread", "cheese"], pattern.sets)
    return Language((-1, -1, -1, *classes), pattern.automaton(signatures))


def allows(layout: Layout, text: tuple[int, ...]) -> bool:
    """May this text, with its END and PADs, come out of the layout?"""
    if len(text) >= layout.seq_len:
        return False
    ids = [*text, END, *[PAD] * (layout.seq_len - len(text) - 1)]
    return all(bool(layout.allowed[i, word]) for i, word in enumerate(ids))


some_word = st.sampled_from(WORDS)
some_phrase = st.lists(some_word, min_size=1, max_size=3).map(tuple)
some_gap = st.builds(
    lambda least, more: Gap(least, None if more is None else least + more), st.integers(0, 2), st.none() | st.integers(0, 2)
)
some_language = st.sampled_from(
    ["* ale * bread *", "(ale bread)+ ?", "!ale{2,4}", "ale (cheese|bread ?{2}|cheese cheese) *", "? ale|bread ale ?{3}"]
).map(language)
some_plan = st.builds(
    Plan,
    min_words=st.none() | st.integers(1, 5),
    max_words=st.none() | st.integers(1, 6),
    at=st.dictionaries(st.integers(-4, 4), st.frozensets(some_word, min_size=1), max_size=2),
    forbidden=st.frozensets(some_word, max_size=2),
    phrases=st.lists(st.lists(some_phrase, min_size=1, max_size=2).map(tuple), max_size=2).map(tuple),
    template=st.none() | st.lists(some_word | some_gap, min_size=1, max_size=4).map(tuple),
    language=st.none() | some_language,
)
only = {  # one kind of constraint, so that many sets of plans are feasible
    name: some_plan.map(lambda plan, name=name: Plan(**{name: getattr(plan, name)}))  # type: ignore[misc]
    for name in ("min_words", "max_words", "at", "forbidden", "phrases", "template", "language")
}
some_plans = st.lists(st.one_of(*only.values()), min_size=1, max_size=4) | st.lists(some_plan, min_size=1, max_size=2)


@settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(some_plans)
def test_feasible_lengths_are_those_of_brute_force(plans: list[Plan]) -> None:
    expected = {len(text) for text in texts() if all(obeys(text, plan) for plan in plans)}
    assert set(feasible_lengths(plans, MOST, ORDINARY)) == expected


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(some_plans)
def test_draws_obey_the_plans_as_far_as_a_layout_can(plans: list[Plan]) -> None:
    """Some text of every layout obeys everything; all texts of it obey all but the phrases and languages."""
    if not feasible_lengths(plans, MOST, ORDINARY):
        with pytest.raises(UsageError, match="controls that no text can obey"):
            layouts(*plans)
        return
    for layout in draws(layouts(*plans), 4):
        possible = [text for text in texts() if allows(layout, text)]
        assert any(all(obeys(text, plan) for plan in plans) for text in possible)
        for text in possible:
            assert layout.words == len(text)
            assert all(obeys(text, replace(plan, phrases=(), language=None)) for plan in plans)
        assert not layout.allowed[:, 0].any()  # UNK
        assert layout.allowed.any(-1).all()


@pytest.mark.parametrize("last", [A, B])
def test_a_place_may_serve_either_demand_until_another_decides(last: int) -> None:
    """Both words must occur; the first place may hold either, and only the last place says which."""
    plans = [
        Plan(at={0: frozenset({A, B}), 1: frozenset({C}), 2: frozenset({last})}),
        Plan(phrases=(((A,),), ((B,),)), max_words=3),
    ]
    assert feasible_lengths(plans, MOST, ORDINARY) == [3]


@pytest.mark.parametrize(
    ("template", "lengths"),
    [
        ((A, Gap(2, 2), B), {4}),
        ((A, Gap(0, 1), B), {2, 3}),
        ((Gap(1), B), {2, 3, 4, 5}),
        ((B, Gap()), {1, 2, 3, 4, 5}),
        ((Gap(), B, Gap(1, 2), C, Gap()), {3, 4, 5}),
        ((Gap(3, 3),), {3}),
        ((A, B, C), {3}),
    ],
)
def test_template_lengths(template: tuple[int | Gap, ...], lengths: set[int]) -> None:
    found = {layout.words for layout in draws(layouts(Plan(template=template)), 200)}
    assert found == lengths


def gap_choice(layout: Layout) -> tuple[int, ...]:
    """What stands fixed where: the word, or 0."""
    return tuple(int(row.nonzero()[0]) if row.sum() == 1 else 0 for row in layout.allowed[: layout.words])


def chi_square(counts: Counter[tuple[int, ...]], cells: int) -> float:
    expected = counts.total() / cells
    return sum((count - expected) ** 2 / expected for count in counts.values()) + (cells - len(counts)) * expected


def test_gap_choices_are_all_alike() -> None:
    """Three gaps share three free words: ten choices, each as likely (99.9 % point of χ² with 9 degrees: 27.9)."""
    made = layouts(Plan(template=(Gap(), A, Gap(), B, Gap())), Plan(min_words=5, max_words=5))
    counts = Counter(gap_choice(layout) for layout in draws(made, 1000))
    assert len(counts) == 10
    assert chi_square(counts, 10) < 27.9


def test_gap_choices_leave_room_for_phrases() -> None:
    """The phrase of two words fits before A or behind it, but no choice may cut the room in two."""
    made = layouts(Plan(template=(Gap(), A, Gap())), Plan(min_words=4, max_words=4), Plan(phrases=(((B, C, B),),)))
    counts = Counter(gap_choice(layout) for layout in draws(made, 400))
    assert counts.keys() == {(A, 0, 0, 0), (0, 0, 0, A)}
    assert chi_square(counts, 2) < 10.8


def test_lengths_are_drawn_as_often_as_in_training() -> None:
    counts = Counter(layout.words for layout in draws(layouts(Plan(min_words=2, max_words=4)), 1200))
    assert {n: counts[n] / 1200 for n in (2, 3, 4)} == pytest.approx({2: 4 / 9, 3: 3 / 9, 4: 2 / 9}, abs=0.05)


def test_a_length_that_nobody_asks_for_is_drawn_and_fixed() -> None:
    for layout in draws(layouts(most=20), 50):
        assert not layout.allowed[: layout.words, [END, PAD]].any()
        assert layout.allowed[layout.words].nonzero().flatten().tolist() == [END]
        assert layout.seq_len % 4 == 0 or layout.seq_len == 21


def test_a_position_makes_the_text_long_enough() -> None:
    for layout in draws(layouts(Plan(at={2: frozenset({B})})), 20):
        assert layout.words >= 3
        assert gap_choice(layout)[:3] == (0, 0, B)


def test_positions_from_the_end_fix_the_length() -> None:
    for layout in draws(layouts(Plan(at={-1: frozenset({C}), 0: frozenset({A, B})})), 20):
        assert layout.words >= 2
        assert layout.allowed[layout.words - 1].nonzero().flatten().tolist() == [C]
        assert layout.allowed[0].nonzero().flatten().tolist() == [A, B]


CONTRADICTIONS: dict[str, tuple[list[Plan], list[str]]] = {
    "lengths": (
        [Plan(min_words=4), Plan(max_words=3)],
        [r"control 0 needs 4 to any number of words; control 1 needs 1 to 3 words"],
    ),
    "length beyond the sequence": ([Plan(min_words=9, max_words=9)], [r"control 0 needs 9 words; a text has 1 to 5 words"]),
    "template and length": (
        [Plan(template=(A, Gap(0, 2), B)), Plan(min_words=5)],
        [r"its template, 2 to 4 words", "control 1"],
    ),
    "long template": ([Plan(template=(A,) * 6)], [r"control 0 needs its template, 6 words"]),
    "two templates": ([Plan(template=(A, Gap())), Plan(template=(B, Gap()))], ["control 0 needs its template", "control 1"]),
    "word at a place": ([Plan(at={0: frozenset({A})}), Plan(at={0: frozenset({B})})], ["control 0 needs a word at position 0"]),
    "forbidden phrase": ([Plan(phrases=(((A, B),),)), Plan(forbidden=frozenset({B}))], ["control 0", "1 words absent"]),
    "too many phrases": (
        [Plan(phrases=(((A, A, B),),)), Plan(phrases=(((C, C, B),),)), Plan(max_words=5)],
        ["control 0", "control 1", "room for 3 more words"],
    ),
    "nothing left to say": ([Plan(forbidden=frozenset(WORDS))], ["control 0 needs 3 words absent"]),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions_name_those_who_contradict(case: str) -> None:
    plans, messages = CONTRADICTIONS[case]
    with pytest.raises(UsageError) as caught:
        layouts(*plans)
    for message in messages:
        assert message in str(caught.value)


def test_a_plan_lists_its_demands_and_the_report_ends_with_what_a_text_has() -> None:
    demanding = Plan(min_words=2, template=(A,) * 6, at={0: frozenset({A}), 2: frozenset({A})}, forbidden=frozenset({B, C}))
    with pytest.raises(UsageError) as caught:
        layouts(demanding)
    needs = "2 to any number of words, its template, 6 words, a word at position 0, 2, 2 words absent"
    assert str(caught.value).endswith(f"control 0 needs {needs}; a text has 1 to 5 words")


def test_only_the_smallest_sets_are_blamed() -> None:
    plans = [Plan(forbidden=frozenset({C})), Plan(at={0: frozenset({A})}), Plan(at={0: frozenset({B})}), Plan(min_words=2)]
    with pytest.raises(UsageError) as caught:
        layouts(*plans)
    report = str(caught.value)
    assert "control 1" in report and "control 2" in report
    assert "control 0" not in report and "control 3" not in report


def test_eight_demands_are_merged_at_once() -> None:
    """The walk must not be exponential in the number of controls: with the naive product this takes minutes."""
    tokenizer = WordTokenizer.train([" ".join(f"w{chr(97 + i)}{chr(97 + j)}" for i in range(8) for j in range(3))], min_count=1)
    plans = [(str(i), Plan(phrases=(((3 + 3 * i, 4 + 3 * i, 5 + 3 * i),),))) for i in range(8)]
    begun = time.process_time()
    made = Layouts(plans, tokenizer, [0] * 96, 60)
    assert time.process_time() - begun < 5
    assert all(layout.seq_len > 24 for layout in draws(made, 20))


def test_draws_use_the_given_generator_alone() -> None:
    made = layouts(Plan(template=(Gap(), A, Gap())))
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append([(layout.words, layout.allowed.tolist()) for layout in draws(made, 8)])
    assert found[0] == found[1]


def test_gap_choices_leave_places_to_other_controls() -> None:
    """Of three words the first must be another one, so that the template's stands second or third, as often."""
    made = layouts(Plan(template=(Gap(), A, Gap())), Plan(at={0: frozenset({B})}, min_words=3, max_words=3))
    only_a = torch.zeros(len(TOKENIZER), dtype=torch.bool)
    only_a[A] = True
    places = Counter(i for layout in draws(made, 300) for i in range(3) if torch.equal(layout.allowed[i], only_a))
    assert set(places) == {1, 2} and abs(places[1] - places[2]) < 80
