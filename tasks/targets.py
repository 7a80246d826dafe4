"""Targets of benchmark suites: what each item asks for."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dlm_control.controller import Controller
from dlm_control.controllers.infill import Infill
from dlm_control.controllers.length import Length
from dlm_control.controllers.semantic import Semantic
from dlm_control.errors import UsageError
from dlm_control.words import join_words, split_words

_PRICES = {"more than £ 30": "more than £30", "less than £ 20": "less than £20", "£ 20 - 25": "£20-25"}


@dataclass(frozen=True)
class Target:
    """One item of a suite.

    Attributes:
        name: unique in its suite.
        controls: what is asked of the model.
        wanted: what the suite's metric compares a text with.
    """

    name: str
    controls: list[Controller] = field(default_factory=list)
    wanted: Any = None


def attributes(data: Path, file: str, guide: Literal["words", "classifier"]) -> Iterator[Target]:
    """Field = value, from JSON lines of tokens such as ["food", ":", "Japanese"] (the 2022 targets), steered by a guide."""
    for line in _lines(data / file):
        tokens = json.loads(line)
        colon = tokens.index(":")
        given, value = " ".join(tokens[:colon]), " ".join(tokens[colon + 1 :])
        yield Target(f"{given}={value}", [Semantic(given, _PRICES.get(value, value), guide=guide)], value)


def lengths(data: Path, low: int, high: int) -> Iterator[Target]:
    """Every number of words from low to high."""
    for words in range(low, high + 1):
        yield Target(f"{words} words", [Length(words)], words)


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
        yield Target(f"gap {made}", [Infill(template.strip())], (words[:start], words[start + size :]))


def free(data: Path, count: int) -> Iterator[Target]:
    """Nothing at all, `count` times: unconditional text."""
    for i in range(count):
        yield Target(f"text {i}")


READERS: dict[str, Callable[..., Iterator[Target]]] = {"attributes": attributes, "lengths": lengths, "gaps": gaps, "free": free}


def _refs(path: Path) -> list[str]:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; --data names the folder that holds it")
    with open(path, encoding="utf-8", newline="") as rows:
        return [row["ref"] for row in csv.DictReader(rows)]


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; --data names the folder that holds it")
    return path.read_text(encoding="utf-8").splitlines()
