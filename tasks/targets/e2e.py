"""What is about the E2E data alone: the target files that Li et al. (2022) made of it, in its own notation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlm_control.controllers.fields.lookup import domain_at
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.controllers.semantic import Semantic
from dlm_control.controllers.span import Span
from dlm_control.tasks.targets.corpora import of_2022, records
from dlm_control.tasks.targets.reader import register_reader
from dlm_control.tasks.targets.target import Expected, Guides, Target
from dlm_control.text.words import join_words

DOMAIN = "e2e"
_PRICES = {"more than £ 30": "more than £30", "less than £ 20": "less than £20", "£ 20 - 25": "£20-25"}


@register_reader("attributes")
def attributes(data: Path, guides: Guides, file: str) -> Iterator[Target]:
    """Field = value, from JSON lines of tokens such as ["food", ":", "Japanese"] (the 2022 targets)."""
    for tokens in records(data / file, list, "a list of words with a colon", lambda tokens: ":" in tokens and _texts(tokens)):
        given, value = _attribute(tokens)
        control = Semantic(given, _PRICES.get(value, value), guide=guides.semantic, domain=domain_at(DOMAIN))
        yield Target(f"{given}={value}", [control], {"value": value, "fields": control.fields})


@register_reader("tag_sequences")
def tag_sequences(data: Path, guides: Guides, file: str) -> Iterator[Target]:
    """Universal tags, one a word, from JSON lines with `pos` and `words_` (the 2022 targets)."""
    for number, record in enumerate(of_2022(data / file, "pos", "words_"), start=1):
        tags, words = _without_frame(record["pos"]), _without_frame(record["words_"])
        yield Target(f"tags {number}", [PartsOfSpeech(tags, guide=guides.structure)], {"tags": tuple(tags)}, join_words(words))


@register_reader("spans")
def spans(data: Path, guides: Guides, file: str) -> Iterator[Target]:
    """Constituents [first, last, label], from JSON lines with `spans` and `words_` (the 2022 targets)."""
    for number, record in enumerate(of_2022(data / file, "spans", "words_"), start=1):
        expected = [tuple(span) for span in record["spans"]]
        text = join_words(_without_frame(record["words_"]))
        yield Target(f"span {number}", [Span(record["spans"], guide=guides.structure)], {"spans": expected}, text)


@register_reader("tags_and_attributes")
def tags_and_attributes(data: Path, guides: Guides, file: str) -> Iterator[Target]:
    """A tag sequence and a field's value, from JSON lines with `pos`, `attr` and `words_` (the 2022 targets)."""
    for number, record in enumerate(of_2022(data / file, "pos", "attr", "words_"), start=1):
        tags, words = _without_frame(record["pos"]), _without_frame(record["words_"])
        name, value = _attribute(record["attr"])
        semantic = Semantic(name, _PRICES.get(value, value), guide=guides.semantic, domain=domain_at(DOMAIN))
        controls = [semantic, PartsOfSpeech(tags, guide=guides.structure)]
        expected: Expected = {"tags": tuple(tags), "value": value, "fields": semantic.fields}
        yield Target(f"pair {number}", controls, expected, join_words(words))


def _texts(tokens: list[Any]) -> bool:
    return all(isinstance(token, str) for token in tokens)


def _attribute(tokens: list[str]) -> tuple[str, str]:
    colon = tokens.index(":")
    return " ".join(tokens[:colon]), " ".join(tokens[colon + 1 :])


def _without_frame(tokens: list[str]) -> list[str]:
    """Without START, END and the newline that stands before it, which the 2022 tokens count as a word."""
    return tokens[1:-2]
