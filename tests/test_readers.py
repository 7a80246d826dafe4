"""Readers of suites, each on a small corpus: what is asked, of which sentence, under which name and guide."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dlm_control import UsageError
from dlm_control.control.use import Control
from dlm_control.controllers.fields.lookup import domain_at
from dlm_control.controllers.linguistics.taggers import tree_of
from dlm_control.controllers.linguistics.trees import constituents
from dlm_control.tasks.targets.e2e import attributes
from dlm_control.tasks.targets.readers import (
    combinations_of_controls,
    composed,
    gaps,
    lengths,
    mixed,
    spaces,
    stories,
    trees,
    unconditional,
    weighted_spans,
)
from dlm_control.tasks.targets.target import NOISE_AWARE, WORDS, Target
from dlm_control.text.words import split_words

E2E = WORDS._replace(domain=domain_at("e2e"))

SENTENCES = {
    "The Mill is a cheap pub that serves Japanese food near the large river.": "food[Japanese], priceRange[cheap]",
    "In the city centre there is a French restaurant for the whole family.": "food[French], area[city centre]",
    "Near the river, The Eagle serves Indian food at a very high price.": "food[Indian], area[riverside], priceRange[high]",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path / "dev.csv", [(meaning, text) for text, meaning in SENTENCES.items()])
    return tmp_path


def write(file: Path, rows: Sequence[tuple[str, str]]) -> None:
    file.write_text("mr,ref\n" + "".join(f'"{meaning}","{text}"\n' for meaning, text in rows))


def guide_of(target: Target) -> list[Any]:
    controls = [control.controller if isinstance(control, Control) else control for control in target.controls]
    return [getattr(control, "guide", None) for control in controls]


def test_lengths_and_unconditional_texts_are_counted(tmp_path: Path) -> None:
    found = list(lengths(tmp_path, WORDS, 3, 5))
    assert [(target.name, target.expected) for target in found] == [(f"{n} words", {"words": n}) for n in (3, 4, 5)]
    assert found[0].controls[0].check("One two three").passed
    assert [(target.name, target.controls) for target in unconditional(tmp_path, WORDS, 2)] == [("text 0", ()), ("text 1", ())]


def test_attributes_are_parted_at_their_first_colon(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('["area", ":", "city", "centre"]\n["price", ":", "more", "than", "£", "30"]\n')
    area, price = attributes(tmp_path, NOISE_AWARE, "a.json")
    assert (area.name, area.expected) == ("area=city centre", {"value": "city centre", "fields": {"area": "city centre"}})
    assert price.expected == {"value": "more than £ 30", "fields": {"priceRange": "more than £30"}}
    assert guide_of(area) == ["classifier"]
    (tmp_path / "b.json").write_text('["area", "city"]\n')
    with pytest.raises(UsageError, match=r"b\.json:1: expected a list of words with a colon, got"):
        list(attributes(tmp_path, WORDS, "b.json"))
    (tmp_path / "b.json").write_text('["area", ":", 3]\n')
    with pytest.raises(UsageError, match=r"b\.json:1: expected a list of words with a colon, got"):
        list(attributes(tmp_path, WORDS, "b.json"))


def test_gaps_leave_out_words_that_the_known_file_has_too_rarely_and_sentences_without_room(tmp_path: Path) -> None:
    words = "a b c d e f g h"
    kept = [f"{words} {word}." for word in ("one", "two", "three")]  # 10 words: 4 and 6
    rare, short = f"{words} rare.", "a b c d e f g h."
    write(tmp_path / "known.csv", [("", text) for text in kept * 11 + [rare] * 10])
    write(tmp_path / "dev.csv", [("", text) for text in [*kept, kept[0], rare, short]])
    found = list(gaps(tmp_path, WORDS, "dev.csv", "known.csv", count=9, low=2, high=4, seed=0))
    assert [target.name for target in found] == ["gap 1", "gap 2", "gap 3"]
    assert sorted(str(target.reference) for target in found) == sorted(kept)
    again = list(gaps(tmp_path, WORDS, "dev.csv", "known.csv", count=2, low=2, high=4, seed=0))
    assert [(target.name, target.expected) for target in again] == [(target.name, target.expected) for target in found[:2]]
    sizes, starts = Counter[int](), Counter[int]()
    for seed in range(60):
        for target in gaps(tmp_path, WORDS, "dev.csv", "known.csv", count=3, low=2, high=4, seed=seed):
            before, after = target.expected["given"]
            whole = split_words(str(target.reference))
            assert [*before, *after] == whole[: len(before)] + whole[len(whole) - len(after) :]
            sizes[len(whole) - len(before) - len(after)] += 1
            starts[len(before)] += 1
            assert all(target.controls[0].check(" ".join([*before, *["word"] * n, *after])).passed for n in (2, 4))
            assert not any(target.controls[0].check(" ".join([*before, *["word"] * n, *after])).passed for n in (1, 5))
    assert set(sizes) == {2, 3, 4} and set(starts) == set(range(9))


def test_spans_for_tuning_are_asked_for_at_every_weight(data: Path) -> None:
    found = list(weighted_spans(data, WORDS, "dev.csv", count=2, seed=0, weights=[0.5, 2.0]))
    assert [target.name for target in found] == [f"weight {w}: span {n}" for w in ("0.5", "2") for n in (1, 2)]
    assert [target.group for target in found] == ["weight 0.5"] * 2 + ["weight 2"] * 2
    for target in found:
        [control] = target.controls
        assert isinstance(control, Control) and control.weight == float(target.group.split()[1]) and control.name == "span"
        [span] = target.expected["spans"]
        assert tuple(span) in constituents(tree_of(str(target.reference)))
        assert control.check(str(target.reference)).passed
    assert [target.reference for target in found[:2]] == [target.reference for target in found[2:]]


def test_trees_are_those_of_sentences_in_random_order(data: Path) -> None:
    found = list(trees(data, NOISE_AWARE, "dev.csv", count=2, seed=0))
    assert [target.name for target in found] == ["tree 1", "tree 2"] and guide_of(found[0]) == ["x_t"]
    for target in found:
        assert target.expected == {"tree": tree_of(str(target.reference))}
        assert target.controls[0].check(str(target.reference)).passed
        assert "Mill" not in str(target.controls[0]) and "NNP" not in str(target.controls[0])
    orders = {tuple(target.reference for target in trees(data, WORDS, "dev.csv", 3, seed)) for seed in range(6)}
    assert len(orders) > 2 and {frozenset(order) for order in orders} == {frozenset(SENTENCES)}


def test_spaces_ask_the_same_of_every_guide(data: Path) -> None:
    found = list(spaces(data, E2E, "dev.csv", count=2, seed=0))
    known = {"pos": ("words", "counts", "x_t", "x0"), "span": ("words", "x_t", "x0"), "tree": ("words", "x_t", "x0"),
             "semantic": ("words", "classifier")}  # fmt: skip
    expected = [(f"{kind} {guide}: {n}", f"{kind} {guide}", [guide]) for kind in known for guide in known[kind] for n in (1, 2)]
    assert [(target.name, target.group, guide_of(target)) for target in found] == expected
    assert all(target.controls[0].check(str(target.reference)).passed for target in found)
    assert len({target.reference for target in found if target.group.startswith("pos")}) == 2


def test_several_controls_come_from_one_sentence(data: Path) -> None:
    found = list(
        composed(data, NOISE_AWARE._replace(domain=E2E.domain), "dev.csv", ["semantic", "length"], count=2, seed=0, fields=2)
    )
    assert [target.name for target in found] == ["semantic+length 1", "semantic+length 2"]
    for target in found:
        assert len(target.expected["fields"]) == 2 and guide_of(target) == ["classifier", None]
        assert all(control.check(str(target.reference)).passed for control in target.controls)
    [one] = composed(data, E2E, "dev.csv", ["semantic"], count=1, seed=0)
    assert len(one.expected["fields"]) == 1


def test_mixed_groups_draw_sentences_of_their_own(data: Path) -> None:
    found = list(
        mixed(
            data,
            E2E,
            "dev.csv",
            [["length"], ["length"], ["semantic", "length"]],
            count=3,
            seed=0,
        )
    )
    assert [target.name for target in found[::3]] == ["length 1", "length 1", "semantic+length 1"]
    assert [target.group for target in found[::3]] == ["length", "length", "semantic+length"]
    orders = {tuple(target.reference for target in mixed(data, E2E, "dev.csv", [["length"]], 3, seed)) for seed in range(6)}
    assert tuple(target.reference for target in found[3:6]) in orders and len(orders) > 2
    again = list(mixed(data, E2E, "dev.csv", [["length"]], count=3, seed=1))
    assert [target.reference for target in again] == [target.reference for target in found[3:6]]  # the second group's seed


def test_combinations_keep_to_sentences_of_12_to_24_words(data: Path) -> None:
    write(data / "dev.csv", [("food[French]", "A large French pub near the river."), *((m, t) for t, m in SENTENCES.items())])
    found = list(combinations_of_controls(data, E2E, "dev.csv", 2, 0, [["pos", "span", "tree"]]))
    kinds = ["semantic", "pos", "tree", "span", "length", "infill", "keyword"]
    pairs = [f"{a} + {b}" for i, a in enumerate(kinds) for b in kinds[i + 1 :]]
    groups = [*kinds, *pairs, "pos + span + tree"]
    assert [(target.name, target.group) for target in found] == [(f"{group}: {n}", group) for group in groups for n in (1, 2)]
    assert all(len(target.controls) == len(target.group.split(" + ")) for target in found)
    assert all(12 <= len(split_words(str(target.reference))) <= 24 and target.expected == {} for target in found)


def test_stories_take_hypotheses_of_their_own_or_of_a_file(tmp_path: Path) -> None:
    items = {
        "one": {"obs1": "Ann had a pub.", "obs2": "It closed.", "gold_labels": "Nobody came."},
        "two": {"obs1": "A.", "obs2": "B."},
    }
    (tmp_path / "dev.json").write_text(json.dumps(items))
    (tmp_path / "human.json").write_text(json.dumps({"one": ["He left.", "She left."]}))
    one, two = stories(tmp_path, WORDS, "dev.json", "", 2, 3)
    assert (one.name, one.reference, one.references) == ("story one", "Ann had a pub. Nobody came. It closed.", ())
    assert one.expected == {"given": (["Ann", "had", "a", "pub", "."], ["It", "closed", "."])}
    assert (two.reference, two.references) == (None, ())
    assert one.controls[0].check("Ann had a pub. He left. It closed.").passed
    assert not one.controls[0].check("Ann had a pub. He left for good. It closed.").passed
    [one, _] = stories(tmp_path, WORDS, "dev.json", "human.json", 2, 3)
    assert (one.reference, one.references) == (
        "Ann had a pub. He left. It closed.", ("Ann had a pub. She left. It closed.",)
    )  # fmt: skip
    (tmp_path / "bad.json").write_text('{"x": 3}')
    with pytest.raises(UsageError, match=r"bad\.json: item 'x' has no obs1 and no obs2; expected the αNLG format"):
        list(stories(tmp_path, WORDS, "bad.json", "", 2, 3))
