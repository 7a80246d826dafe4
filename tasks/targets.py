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
from typing import Any, NamedTuple

from dlm_control.control import Control
from dlm_control.controller import Controller
from dlm_control.controllers.e2e import FIELDS
from dlm_control.controllers.infill import Infill
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.controllers.semantic import Semantic
from dlm_control.controllers.span import Span
from dlm_control.controllers.syntax import bare, constituents, read_tree
from dlm_control.controllers.tree import SyntaxTree
from dlm_control.errors import UsageError, shown, suggestion
from dlm_control.words import join_words, split_words


class Guides(NamedTuple):
    """Which guide the controls of a target are steered by, by kind of control; see the controls' `guide`."""

    semantic: Any = "words"
    structure: Any = "words"


WORDS = Guides()
NOISE_AWARE = Guides("classifier", "x_t")  # those that the 2022 update needs

_PRICES = {"more than £ 30": "more than £30", "less than £ 20": "less than £20", "£ 20 - 25": "£20-25"}


@dataclass(frozen=True)
class Target:
    """One item of a suite.

    Attributes:
        name: unique in its suite.
        controls: what is asked of the model.
        wanted: what the suite's metrics compare a text with, by kind: `value`, `fields`, `words`, `given`, `tags`,
            `tree`, `spans`.
        reference: the human text that the target was made from, or None.
        references: other human texts that would do, where there are.
        group: targets of one group are also scored by themselves.
    """

    name: str
    controls: Sequence[Controller | Control] = ()
    wanted: dict[str, Any] = field(default_factory=dict)
    reference: str | None = None
    references: tuple[str, ...] = ()
    group: str = ""


def attributes(data: Path, guides: Guides, file: str) -> Iterator[Target]:
    """Field = value, from JSON lines of tokens such as ["food", ":", "Japanese"] (the 2022 targets)."""
    for tokens in _records(data / file, list, "a list of tokens with a colon", lambda tokens: ":" in tokens):
        given, value = _attribute(tokens)
        control = Semantic(given, _PRICES.get(value, value), guide=guides.semantic)
        yield Target(f"{given}={value}", [control], {"value": value, "fields": control.fields})


def lengths(data: Path, guides: Guides, low: int, high: int) -> Iterator[Target]:
    """Every number of words from low to high."""
    for words in range(low, high + 1):
        yield Target(f"{words} words", [Length(words)], {"words": words})


def gaps(data: Path, guides: Guides, file: str, known: str, count: int, low: int, high: int, seed: int) -> Iterator[Target]:
    """Sentences of a CSV's `ref` column with a gap of low to high words cut at a random place; the gap's size is left open.

    Only sentences whose words all stand more than ten times in the `known` file, so that every model trained on it knows them.
    """
    counts = Counter(word for sentence in refs(data / known) for word in split_words(sentence))
    sentences = sorted(set(refs(data / file)))
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
        yield Target(f"gap {made}", [Infill(template.strip())], {"given": (words[:start], words[start + size :])}, sentence)


def free(data: Path, guides: Guides, count: int) -> Iterator[Target]:
    """Nothing at all, `count` times: unconditional text."""
    for i in range(count):
        yield Target(f"text {i}")


def tag_sequences(data: Path, guides: Guides, file: str) -> Iterator[Target]:
    """Universal tags, one a word, from JSON lines with `pos` and `words_` (the 2022 targets)."""
    for number, record in enumerate(_of_2022(data / file, "pos", "words_"), start=1):
        tags, words = _without_frame(record["pos"]), _without_frame(record["words_"])
        yield Target(f"tags {number}", [PartsOfSpeech(tags, guide=guides.structure)], {"tags": tuple(tags)}, join_words(words))


def spans(data: Path, guides: Guides, file: str) -> Iterator[Target]:
    """Constituents [first, last, label], from JSON lines with `spans` and `words_` (the 2022 targets)."""
    for number, record in enumerate(_of_2022(data / file, "spans", "words_"), start=1):
        wanted = [tuple(span) for span in record["spans"]]
        text = join_words(_without_frame(record["words_"]))
        yield Target(f"span {number}", [Span(record["spans"], guide=guides.structure)], {"spans": wanted}, text)


def weighted_spans(data: Path, guides: Guides, file: str, count: int, seed: int, weights: list[float]) -> Iterator[Target]:
    """A random constituent of each of `count` sentences of a CSV's `ref` column, asked for at every weight: for tuning."""
    from dlm_control.controllers.linguistics import tree_of

    sentences = sorted(set(refs(data / file)))
    rng = random.Random(seed)
    rng.shuffle(sentences)
    wanted = [(sentence, list(rng.choice(constituents(tree_of(sentence))))) for sentence in sentences[:count]]
    for weight in weights:
        for number, (sentence, span) in enumerate(wanted, start=1):
            control = Control("span", Span(span), weight)
            yield Target(
                f"weight {weight:g}: span {number}", [control], {"spans": [span]}, sentence, group=f"weight {weight:g}"
            )


def trees(data: Path, guides: Guides, file: str, count: int, seed: int) -> Iterator[Target]:
    """The trees, without tags and words, that benepar gives to sentences of a CSV's `ref` column (dev, which no model saw)."""
    from dlm_control.controllers.linguistics import trees_of

    sentences = sorted(set(refs(data / file)))
    random.Random(seed).shuffle(sentences)
    for number, (sentence, tree) in enumerate(zip(sentences, trees_of(sentences[:count]), strict=False), start=1):
        yield Target(f"tree {number}", [SyntaxTree(bare(tree), guide=guides.structure)], {"tree": tree}, sentence)


def tags_and_attributes(data: Path, guides: Guides, file: str) -> Iterator[Target]:
    """A tag sequence and a field's value, from JSON lines with `pos`, `attr` and `words_` (the 2022 targets)."""
    for number, record in enumerate(_of_2022(data / file, "pos", "attr", "words_"), start=1):
        tags, words = _without_frame(record["pos"]), _without_frame(record["words_"])
        name, value = _attribute(record["attr"])
        semantic = Semantic(name, _PRICES.get(value, value), guide=guides.semantic)
        controls = [semantic, PartsOfSpeech(tags, guide=guides.structure)]
        wanted = {"tags": tuple(tags), "value": value, "fields": semantic.fields}
        yield Target(f"pair {number}", controls, wanted, join_words(words))


def spaces(data: Path, guides: Guides, count: int) -> Iterator[Target]:
    """The same targets under each guide of each control: which space its energy is best a function of."""
    folder = "control_targets"
    readers: tuple[tuple[str, tuple[str, ...], Callable[[str], Iterator[Target]]], ...] = (
        ("pos", ("words", "counts", "x_t", "x0"),
         lambda guide: tag_sequences(data, Guides(structure=guide), f"{folder}/target_pos.json")),
        ("span", ("words", "x_t", "x0"), lambda guide: spans(data, Guides(structure=guide), f"{folder}/target_spans.json")),
        ("tree", ("words", "x_t", "x0"), lambda guide: trees(data, Guides(structure=guide), "e2e/devset.csv", count, 1)),
        ("semantic", ("words", "classifier"),
         lambda guide: attributes(data, Guides(guide), f"{folder}/target_attribute.json")),
    )  # fmt: skip
    for kind, kinds_of_guide, targets in readers:
        for guide in kinds_of_guide:
            for target in islice(targets(guide), count):
                yield replace(target, name=f"{kind} {guide}: {target.name}", group=f"{kind} {guide}")


def combinations_of_controls(
    data: Path, guides: Guides, file: str, count: int, seed: int, triples: list[list[str]]
) -> Iterator[Target]:
    """Every control alone, every pair, and some triples, on `count` targets each; those of one text come from one dev sentence.

    So a text that obeys them exists: the sentence itself.
    """
    kinds = list(KINDS)
    made = list(islice(obeyed(data / file, guides, kinds, seed, 12, 24), count))
    groups = [*((name,) for name in kinds), *combinations(kinds, 2), *map(tuple, triples)]
    for group in groups:
        for number, whole in enumerate(made, start=1):
            title = " + ".join(group)
            controls = [control for name, control in zip(kinds, whole.controls, strict=True) if name in group]
            yield Target(f"{title}: {number}", controls, {}, whole.reference, group=title)


def composed(
    data: Path, guides: Guides, file: str, controls: list[str], count: int, seed: int, fields: int = 1
) -> Iterator[Target]:
    """Several controls that one human sentence obeys, from a CSV of `mr` and `ref`: a text that obeys all of them exists."""
    for number, target in enumerate(islice(obeyed(data / file, guides, controls, seed, fields=fields), count), start=1):
        yield replace(target, name=f"{'+'.join(controls)} {number}")


def mixed(data: Path, guides: Guides, file: str, groups: list[list[str]], count: int, seed: int) -> Iterator[Target]:
    """As `composed`, `count` targets of each group of controls; a group is scored by itself, too."""
    for place, kinds in enumerate(groups):
        title = "+".join(kinds)
        for number, target in enumerate(islice(obeyed(data / file, guides, kinds, seed + place), count), start=1):
            yield replace(target, name=f"{title} {number}", group=title)


def made(data: Path, guides: Guides, file: str) -> Iterator[Target]:
    """Targets of a file that `dlm targets make` wrote, or in its format: a line says `controls` as a spec does."""
    from dlm_control.tasks.target_file import read_targets

    yield from read_targets(data / file, guides)


def stories(data: Path, guides: Guides, file: str, references: str, low: int, high: int) -> Iterator[Target]:
    """Two observations and the hypothesis that is missing between them (αNLG, Bhagavatula et al. 2020), as a gap.

    `file` is a JSON object of items with `obs1` and `obs2`; `references` one with lists of hypotheses, or "" to take each
    item's own `gold_labels`.
    """
    items = _json_object(data / file)
    human = _json_object(data / references) if references else {}
    for key, item in items.items():
        missing = [part for part in ("obs1", "obs2") if part not in item]
        if missing:
            raise UsageError(f"{data / file}: item {key!r} has no {' and no '.join(missing)}; expected the αNLG format")
        before, after = split_words(item["obs1"]), split_words(item["obs2"])
        template = f"{join_words(before)} [{low}-{high}] {join_words(after)}"
        given: Any = human.get(key, item.get("gold_labels") or [])
        known = [given] if isinstance(given, str) else [str(text) for text in given]
        whole = tuple(f"{item['obs1']} {text} {item['obs2']}" for text in known)
        yield Target(f"story {key}", [Infill(template)], {"given": (before, after)}, next(iter(whole), None), whole[1:])


KINDS: tuple[str, ...] = ("semantic", "pos", "tree", "span", "length", "infill", "keyword")


def obeyed(
    path: Path, guides: Guides, kinds: Sequence[str], seed: int, low: int = 5, high: int = 40, fields: int = 1
) -> Iterator[Target]:
    """Human sentences in random order, each with controls of these kinds that it obeys.

    Args:
        path: a CSV with the columns `ref` and, for semantic controls, `mr`.
        guides: of the controls.
        kinds: of KINDS.
        seed: of the order and of what is asked.
        low, high: words of a sentence.
        fields: E2E fields that a semantic control asks for.

    Raises:
        UsageError: unknown kinds, or a missing file or column.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"targets: unknown control {kind!r}{suggestion(kind, KINDS)}; there are: {', '.join(KINDS)}")
    rows = sorted({(row["ref"], row["mr"]) for row in _rows(path, ["ref", "mr"] if "semantic" in kinds else ["ref"])})
    rng = random.Random(seed)
    rng.shuffle(rows)
    for sentence, meaning in rows:
        words = split_words(sentence)
        asked = _asked(sentence, words, meaning, guides, kinds, fields, rng) if low <= len(words) <= high else None
        if asked is not None:
            yield asked


def _asked(
    sentence: str, words: list[str], meaning: str, guides: Guides, kinds: Sequence[str], count: int, rng: random.Random
) -> Target | None:
    """A target of each kind that a sentence obeys, or None if it has none of one kind."""
    from dlm_control.controllers.linguistics import tags_of, tree_of

    controls: list[Controller] = []
    given: tuple[list[str], list[str]] | None = None
    for kind in kinds:
        if kind == "semantic":
            told = re.findall(rf"({'|'.join(FIELDS)})\[([^\]]*)\]", meaning)
            said = {field: value for field, value in told if Semantic(field, value).check(sentence).passed}
            if len(said) < count:
                return None
            fields = {field: said[field] for field in sorted(rng.sample(sorted(said), count))}
            controls.append(Semantic(fields=fields, guide=guides.semantic))
        elif kind == "pos":
            controls.append(PartsOfSpeech(list(tags_of(sentence).universal), guide=guides.structure))
        elif kind == "tree":
            controls.append(SyntaxTree(bare(tree_of(sentence)), guide=guides.structure))
        elif kind == "span":
            phrases = [p for p in constituents(tree_of(sentence)) if p.label in ("NP", "PP", "VP") and p.last > p.first]
            if not phrases:
                return None
            controls.append(Span(list(rng.choice(phrases)), guide=guides.structure))
        elif kind == "length":
            controls.append(Length(len(words)))
        elif kind == "infill":
            if len(words) < 8:
                return None
            start = rng.randint(1, len(words) - 7)
            given = (words[:start], words[start + 6 :])
            controls.append(Infill(f"{join_words(given[0])} [6] {join_words(given[1])}".strip()))
        else:
            kept = sorted({word for word in words if word.isalpha() and word.islower() and len(word) > 4})
            if not kept:
                return None
            controls.append(Keyword(rng.choice(kept)))
    wanted = wanted_of(controls, tree_of(sentence) if "tree" in kinds else None)
    return Target("", controls, wanted | ({"given": given} if given else {}), sentence)


def wanted_of(controls: Sequence[Controller], tree: Any = None) -> dict[str, Any]:
    """What metrics compare a text with, read off the controls.

    Args:
        controls: of a target.
        tree: the whole tree, tags included, where a tree is wanted: they say which words are punctuation.
    """
    wanted: dict[str, Any] = {}
    for control in controls:
        match control:
            case Semantic(fields=fields):
                wanted["fields"] = fields
                if len(fields) == 1:
                    wanted["value"] = " ".join(split_words(next(iter(fields.values()))))
            case PartsOfSpeech(tags=tags, position=None):
                wanted["tags"] = tuple(tags.split())
            case SyntaxTree(tree=asked):
                wanted["tree"] = tree if tree is not None else read_tree(asked)
            case Span(spans=spans):
                wanted["spans"] = [tuple(span) for span in spans]
            case Length(at_least=int(low), at_most=high) if low == high:
                wanted["words"] = low
    return wanted


def _attribute(tokens: list[str]) -> tuple[str, str]:
    colon = tokens.index(":")
    return " ".join(tokens[:colon]), " ".join(tokens[colon + 1 :])


def _without_frame(tokens: list[str]) -> list[str]:
    """Without START, END and the newline that stands before it, which the 2022 tokens count as a word."""
    return tokens[1:-2]


READERS: dict[str, Callable[..., Iterator[Target]]] = {
    "attributes": attributes, "lengths": lengths, "gaps": gaps, "free": free, "tag_sequences": tag_sequences, "spans": spans,
    "weighted_spans": weighted_spans, "trees": trees, "tags_and_attributes": tags_and_attributes, "spaces": spaces,
    "combinations": combinations_of_controls, "composed": composed, "mixed": mixed, "made": made, "stories": stories,
}  # fmt: skip


def semantic_rows(data: Path, target: Target) -> list[str]:
    """The dev sentences whose meaning has the values that a target wants."""
    rows = _rows(data / "e2e" / "devset.csv", ["ref", "mr"])
    fields: dict[str, str] = target.wanted["fields"]
    return [row["ref"] for row in rows if all(f"{field}[{value}]" in row["mr"] for field, value in fields.items())]


NEED_NO_FILES = ("free", "lengths")  # readers


def refs(path: Path) -> list[str]:
    """The sentences of a CSV file."""
    return [row["ref"] for row in _rows(path, ["ref"])]


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file; a column that nobody asks for may be missing, and is empty then."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file; --data names the folder that holds it")
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        lacking = [column for column in columns if column not in (reader.fieldnames or ())]
        if lacking:
            has = ", ".join(reader.fieldnames or ()) or "no columns"
            raise UsageError(f"{path}: no column {' and no column '.join(map(repr, lacking))}; it has {has}")
        return [{"mr": "", **row} for row in reader]


def _records(path: Path, kind: type, expected: str, fits: Callable[[Any], bool]) -> Iterator[Any]:
    """The JSON lines of a file, each of one kind.

    Raises:
        UsageError: the file is missing, or a line is of another format; it is named.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; --data names the folder that holds it")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if not isinstance(record, kind) or not fits(record):
            raise UsageError(f"{path}:{number}: expected {expected}, got {shown(line)}; is it a target file of another suite?")
        yield record


def _of_2022(path: Path, *keys: str) -> Iterator[dict[str, Any]]:
    expected = f"a JSON object with {', '.join(keys)}"
    return _records(path, dict, expected, lambda record: all(isinstance(record.get(key), list) for key in keys))


def _json_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; --data names the folder that holds it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected one JSON object of items, got {type(content).__name__}")
    return content
