"""Targets of benchmark suites: what each item asks for."""

from __future__ import annotations

import csv
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, islice
from pathlib import Path
from typing import Any, Literal

from dlm_control.control import Control
from dlm_control.controller import Controller
from dlm_control.controllers.infill import Infill
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.controllers.semantic import Semantic
from dlm_control.controllers.span import Span
from dlm_control.controllers.syntax import bare, constituents
from dlm_control.controllers.tree import SyntaxTree
from dlm_control.errors import UsageError
from dlm_control.words import join_words, split_words

_PRICES = {"more than £ 30": "more than £30", "less than £ 20": "less than £20", "£ 20 - 25": "£20-25"}


@dataclass(frozen=True)
class Target:
    """One item of a suite.

    Attributes:
        name: unique in its suite.
        controls: what is asked of the model.
        wanted: what the suite's metrics compare a text with, by kind: `value`, `words`, `given`, `tags`, `tree`, `spans`.
        reference: the human text that the target was made from, or None.
        group: targets of one group are also scored by themselves.
    """

    name: str
    controls: Sequence[Controller | Control] = ()
    wanted: dict[str, Any] = field(default_factory=dict)
    reference: str | None = None
    group: str = ""


def attributes(data: Path, file: str, guide: Literal["words", "classifier"]) -> Iterator[Target]:
    """Field = value, from JSON lines of tokens such as ["food", ":", "Japanese"] (the 2022 targets), steered by a guide."""
    for line in _lines(data / file):
        given, value = _attribute(json.loads(line))
        yield Target(f"{given}={value}", [Semantic(given, _PRICES.get(value, value), guide=guide)], {"value": value})


def lengths(data: Path, low: int, high: int) -> Iterator[Target]:
    """Every number of words from low to high."""
    for words in range(low, high + 1):
        yield Target(f"{words} words", [Length(words)], {"words": words})


def gaps(data: Path, file: str, known: str, count: int, low: int, high: int, seed: int) -> Iterator[Target]:
    """Sentences of a CSV's `ref` column with a gap of low to high words cut at a random place; the gap's size is left open.

    Only sentences whose words all stand more than ten times in the `known` file, so that every model trained on it knows them.
    """
    counts = Counter(word for sentence in _refs(data / known) for word in split_words(sentence))
    sentences = sorted(set(_refs(data / file)))
    rng = random.Random(seed)
    rng.shuffle(sentences)
    made = 0
    for sentence in sentences:
        words = split_words(sentence)
        if made == count or len(words) < high + 6 or any(counts[word] <= 10 for word in words):
            continue
        made += 1
        size = rng.randint(low, high)
        start = rng.randint(0, len(words) - size)
        template = f"{join_words(words[:start])} [{low}-{high}] {join_words(words[start + size :])}"
        yield Target(f"gap {made}", [Infill(template.strip())], {"given": (words[:start], words[start + size :])})


def free(data: Path, count: int) -> Iterator[Target]:
    """Nothing at all, `count` times: unconditional text."""
    for i in range(count):
        yield Target(f"text {i}")


def tag_sequences(data: Path, file: str, guide: Literal["words", "counts", "x_t", "x0"]) -> Iterator[Target]:
    """Universal tags, one a word, from JSON lines with `pos` and `words_` (the 2022 targets)."""
    for number, record in enumerate(map(json.loads, _lines(data / file)), start=1):
        tags, words = _without_frame(record["pos"]), _without_frame(record["words_"])
        yield Target(f"tags {number}", [PartsOfSpeech(tags, guide=guide)], {"tags": tuple(tags)}, join_words(words))


def spans(data: Path, file: str, guide: Literal["words", "x_t", "x0"]) -> Iterator[Target]:
    """Constituents [first, last, label], from JSON lines with `spans` and `words_` (the 2022 targets)."""
    for number, record in enumerate(map(json.loads, _lines(data / file)), start=1):
        wanted = [tuple(span) for span in record["spans"]]
        text = join_words(_without_frame(record["words_"]))
        yield Target(f"span {number}", [Span(record["spans"], guide=guide)], {"spans": wanted}, text)


def weighted_spans(data: Path, file: str, count: int, seed: int, weights: list[float]) -> Iterator[Target]:
    """A random constituent of each of `count` sentences of a CSV's `ref` column, asked for at every weight: for tuning."""
    from dlm_control.controllers.linguistics import tree_of

    sentences = sorted(set(_refs(data / file)))
    rng = random.Random(seed)
    rng.shuffle(sentences)
    wanted = [(sentence, list(rng.choice(constituents(tree_of(sentence))))) for sentence in sentences[:count]]
    for weight in weights:
        for number, (sentence, span) in enumerate(wanted, start=1):
            control = Control("span", Span(span), weight)
            yield Target(f"weight {weight:g}: span {number}", [control], {"spans": [span]}, sentence, f"weight {weight:g}")


def trees(data: Path, file: str, count: int, seed: int, guide: Literal["words", "x_t", "x0"]) -> Iterator[Target]:
    """The trees, without tags and words, that benepar gives to sentences of a CSV's `ref` column (dev, which no model saw)."""
    from dlm_control.controllers.linguistics import trees_of

    sentences = sorted(set(_refs(data / file)))
    random.Random(seed).shuffle(sentences)
    for number, (sentence, tree) in enumerate(zip(sentences, trees_of(sentences[:count]), strict=False), start=1):
        yield Target(f"tree {number}", [SyntaxTree(bare(tree), guide=guide)], {"tree": tree}, sentence)


def tags_and_attributes(data: Path, file: str, guides: Literal["words", "noise-aware"]) -> Iterator[Target]:
    """A tag sequence and a field's value, from JSON lines with `pos`, `attr` and `words_` (the 2022 targets)."""
    for number, record in enumerate(map(json.loads, _lines(data / file)), start=1):
        tags, words = _without_frame(record["pos"]), _without_frame(record["words_"])
        name, value = _attribute(record["attr"])
        by_words = guides == "words"
        semantic = Semantic(name, _PRICES.get(value, value), guide="words" if by_words else "classifier")
        controls = [semantic, PartsOfSpeech(tags, guide="words" if by_words else "x_t")]
        yield Target(f"pair {number}", controls, {"tags": tuple(tags), "value": value}, join_words(words))


def spaces(data: Path, count: int) -> Iterator[Target]:
    """The same targets under each guide of each control: which space its energy is best a function of."""
    folder = "control_targets"
    for kind, guides, targets in (
        ("pos", ("words", "counts", "x_t", "x0"), lambda guide: tag_sequences(data, f"{folder}/target_pos.json", guide)),
        ("span", ("words", "x_t", "x0"), lambda guide: spans(data, f"{folder}/target_spans.json", guide)),
        ("tree", ("words", "x_t", "x0"), lambda guide: trees(data, "e2e/devset.csv", count, 1, guide)),
        ("semantic", ("words", "classifier"), lambda guide: attributes(data, f"{folder}/target_attribute.json", guide)),
    ):
        for guide in guides:
            for target in islice(targets(guide), count):
                yield replace(target, name=f"{kind} {guide}: {target.name}", group=f"{kind} {guide}")


def combinations_of_controls(data: Path, file: str, count: int, seed: int, triples: list[list[str]]) -> Iterator[Target]:
    """Every control alone, every pair, and some triples, on `count` targets each; those of one text come from one dev sentence.

    So a text that obeys them exists: the sentence itself.
    """
    made = list(islice(_all_controls(data / file, seed), count))
    names = list(made[0][1])
    groups = [*((name,) for name in names), *combinations(names, 2), *map(tuple, triples)]
    for group in groups:
        for number, (sentence, controls) in enumerate(made, start=1):
            title = " + ".join(group)
            yield Target(f"{title}: {number}", [controls[name] for name in group], {}, sentence, title)


def _all_controls(path: Path, seed: int) -> Iterator[tuple[str, dict[str, Controller]]]:
    """Dev sentences with one target of each control that they obey."""
    from dlm_control.controllers.linguistics import tags_of, tree_of

    with open(path, encoding="utf-8", newline="") as file:
        rows = sorted({(row["ref"], row["mr"]) for row in csv.DictReader(file)})
    rng = random.Random(seed)
    rng.shuffle(rows)
    for sentence, meaning in rows:
        words = split_words(sentence)
        said = [Semantic(field, value) for field, value in re.findall(r"(food|area|priceRange|near)\[([^\]]*)\]", meaning)]
        true = [control for control in said if control.check(sentence).passed]
        if not 12 <= len(words) <= 24 or not true:
            continue
        tree = tree_of(sentence)
        phrases = [
            list(phrase) for phrase in constituents(tree) if phrase.label in ("NP", "PP", "VP") and phrase.last > phrase.first
        ]
        kept = sorted({word for word in words if word.isalpha() and word.islower() and len(word) > 4})
        if not phrases or not kept:
            continue
        start = rng.randint(1, len(words) - 7)
        yield sentence, {
            "semantic": rng.choice(true),
            "pos": PartsOfSpeech(list(tags_of(sentence).universal)),
            "tree": SyntaxTree(bare(tree)),
            "span": Span(rng.choice(phrases)),
            "length": Length(len(words)),
            "infill": Infill(f"{join_words(words[:start])} [6] {join_words(words[start + 6 :])}".strip()),
            "keyword": Keyword(rng.choice(kept)),
        }  # fmt: skip


def _attribute(tokens: list[str]) -> tuple[str, str]:
    colon = tokens.index(":")
    return " ".join(tokens[:colon]), " ".join(tokens[colon + 1 :])


def _without_frame(tokens: list[str]) -> list[str]:
    """Without START, END and the newline that stands before it, which the 2022 tokens count as a word."""
    return tokens[1:-2]


READERS: dict[str, Callable[..., Iterator[Target]]] = {
    "attributes": attributes, "lengths": lengths, "gaps": gaps, "free": free, "tag_sequences": tag_sequences, "spans": spans,
    "weighted_spans": weighted_spans, "trees": trees, "tags_and_attributes": tags_and_attributes, "spaces": spaces,
    "combinations": combinations_of_controls,
}  # fmt: skip


def _refs(path: Path) -> list[str]:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; --data names the folder that holds it")
    with open(path, encoding="utf-8", newline="") as rows:
        return [row["ref"] for row in csv.DictReader(rows)]


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; --data names the folder that holds it")
    return path.read_text(encoding="utf-8").splitlines()
