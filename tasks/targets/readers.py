"""Readers of suites: each yields the targets of a suite's files, or makes them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from dlm_control.control.use import Control
from dlm_control.controllers.infill import Infill
from dlm_control.controllers.length import Length
from dlm_control.controllers.linguistics.trees import bare, constituents
from dlm_control.controllers.span import Span
from dlm_control.controllers.tree import SyntaxTree
from dlm_control.support.errors import UsageError
from dlm_control.tasks.targets.corpora import json_object, refs
from dlm_control.tasks.targets.file import read_targets
from dlm_control.tasks.targets.from_text import KINDS, satisfied
from dlm_control.tasks.targets.reader import register_reader
from dlm_control.tasks.targets.target import Guides, Target, expected_of
from dlm_control.text.words import join_words, split_words


@register_reader("lengths", needs_files=False)
def lengths(data: Path, guides: Guides, low: int, high: int) -> Iterator[Target]:
    """Every number of words from low to high.

    Args:
        data, guides: not used.
        low, high: words, both included.
    """
    for words in range(low, high + 1):
        control = Length(words)
        yield Target(f"{words} words", [control], expected_of([control]))


@register_reader("gaps")
def gaps(data: Path, guides: Guides, file: str, known: str, count: int, low: int, high: int, seed: int) -> Iterator[Target]:
    """Sentences of a CSV's `ref` column with a gap of low to high words cut at a random place; the gap's size is left open.

    Only sentences whose words all stand more than ten times in the `known` file, so that every model trained on it knows them.

    Args:
        data: folder of the files.
        guides: not used.
        file: CSV of the sentences.
        known: CSV of the training sentences.
        count: targets at most.
        low, high: words of a gap, both included.
        seed: of the choice of sentences and gaps.
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
        control = Infill(template.strip())
        yield Target(f"gap {made}", [control], expected_of([control]), sentence)


@register_reader("unconditional", needs_files=False)
def unconditional(data: Path, guides: Guides, count: int) -> Iterator[Target]:
    """Nothing at all, `count` times: unconditional text."""
    for i in range(count):
        yield Target(f"text {i}")


@register_reader("weighted_spans")
def weighted_spans(data: Path, guides: Guides, file: str, count: int, seed: int, weights: list[float]) -> Iterator[Target]:
    """A random constituent of each of `count` sentences of a CSV's `ref` column, asked for at every weight: for tuning.

    Args:
        data: folder of the file.
        guides: not used.
        file: CSV of the sentences.
        count: sentences at most.
        seed: of the choice of sentences and constituents.
        weights: of the control; those of one weight are a group.
    """
    from dlm_control.controllers.linguistics.taggers import tree_of

    sentences = sorted(set(refs(data / file)))
    rng = random.Random(seed)
    rng.shuffle(sentences)
    expected = [(sentence, list(rng.choice(constituents(tree_of(sentence))))) for sentence in sentences[:count]]
    for weight in weights:
        for number, (sentence, span) in enumerate(expected, start=1):
            control = Control("span", Span(span), weight)
            yield Target(
                f"weight {weight:g}: span {number}", [control], {"spans": [span]}, sentence, group=f"weight {weight:g}"
            )


@register_reader("trees")
def trees(data: Path, guides: Guides, file: str, count: int, seed: int) -> Iterator[Target]:
    """The trees, without tags and words, that benepar gives to sentences of a CSV's `ref` column (dev, which no model saw).

    Args:
        data: folder of the file.
        guides: of the controls.
        file: CSV of the sentences.
        count: targets at most.
        seed: of the choice of sentences.
    """
    from dlm_control.controllers.linguistics.taggers import trees_of

    sentences = sorted(set(refs(data / file)))
    random.Random(seed).shuffle(sentences)
    for number, (sentence, tree) in enumerate(zip(sentences, trees_of(sentences[:count]), strict=False), start=1):
        yield Target(f"tree {number}", [SyntaxTree(bare(tree), guide=guides.structure)], {"tree": tree}, sentence)


@register_reader("spaces")
def spaces(data: Path, guides: Guides, file: str, count: int, seed: int) -> Iterator[Target]:
    """The same targets under each guide of each control: which space its energy is best a function of.

    Args:
        data: folder of the file.
        guides: not used.
        file: CSV with `ref` and `mr`.
        count: targets of each control and guide.
        seed: of the choice of sentences and of what is asked.
    """
    known = {
        "pos": ("words", "counts", "x_t", "x0"), "span": ("words", "x_t", "x0"), "tree": ("words", "x_t", "x0"),
        "semantic": ("words", "classifier"),
    }  # fmt: skip
    for kind, kinds_of_guide in known.items():
        for guide in kinds_of_guide:
            made = islice(satisfied(data / file, Guides(guide, guide, guides.domain), [kind], seed), count)
            for number, target in enumerate(made, start=1):
                yield replace(target, name=f"{kind} {guide}: {number}", group=f"{kind} {guide}")


@register_reader("combinations")
def combinations_of_controls(
    data: Path, guides: Guides, file: str, count: int, seed: int, triples: list[list[str]]
) -> Iterator[Target]:
    """Every control alone, every pair, and some triples, on `count` targets each; those of one text come from one dev sentence.

    So a text that obeys them exists: the sentence itself.

    Args:
        data: folder of the file.
        guides: of the controls.
        file: CSV with `ref` and `mr`.
        count: targets of each combination.
        seed: of the choice of sentences and of what is asked.
        triples: names of three controls each.
    """
    kinds = list(KINDS)
    made = list(islice(satisfied(data / file, guides, kinds, seed, 12, 24), count))
    groups = [*((name,) for name in kinds), *combinations(kinds, 2), *map(tuple, triples)]
    for group in groups:
        for number, whole in enumerate(made, start=1):
            title = " + ".join(group)
            controls = [control for name, control in zip(kinds, whole.controls, strict=True) if name in group]
            yield Target(f"{title}: {number}", controls, {}, whole.reference, group=title)


@register_reader("composed")
def composed(
    data: Path, guides: Guides, file: str, controls: list[str], count: int, seed: int, fields: int = 1
) -> Iterator[Target]:
    """Several controls that one human sentence obeys, from a CSV of `mr` and `ref`: a text that obeys all of them exists.

    Args:
        data: folder of the file.
        guides: of the controls.
        file: CSV with `ref` and `mr`.
        controls: kinds of control, all of which every target has.
        count: targets at most.
        seed: of the choice of sentences and of what is asked.
        fields: how many fields a semantic control asks for.
    """
    for number, target in enumerate(islice(satisfied(data / file, guides, controls, seed, fields=fields), count), start=1):
        yield replace(target, name=f"{'+'.join(controls)} {number}")


@register_reader("mixed")
def mixed(data: Path, guides: Guides, file: str, groups: list[list[str]], count: int, seed: int) -> Iterator[Target]:
    """As `composed`, `count` targets of each group of controls; a group is scored by itself, too.

    Args:
        data, guides, file: as for `composed`.
        groups: kinds of control of each group.
        count: targets of a group.
        seed: of the first group; each next one has the next seed.
    """
    for place, kinds in enumerate(groups):
        title = "+".join(kinds)
        for number, target in enumerate(islice(satisfied(data / file, guides, kinds, seed + place), count), start=1):
            yield replace(target, name=f"{title} {number}", group=title)


@register_reader("made")
def made(data: Path, guides: Guides, file: str) -> Iterator[Target]:
    """Targets of a file that `dlm targets make` wrote, or in its format: a line says `controls` as a spec does."""
    yield from read_targets(data / file, guides)


@register_reader("stories")
def stories(data: Path, guides: Guides, file: str, references: str, low: int, high: int) -> Iterator[Target]:
    """Two observations and the hypothesis that is missing between them (αNLG, Bhagavatula et al. 2020), as a gap.

    Args:
        data: folder of the files.
        guides: not used.
        file: a JSON object of items with `obs1` and `obs2`.
        references: a JSON object with a list of hypotheses for each item, or "" to take each item's own `gold_labels`.
        low, high: words of a gap, both included.
    """
    items = json_object(data / file)
    human = json_object(data / references) if references else {}
    for key, item in items.items():
        missing = [part for part in ("obs1", "obs2") if not (isinstance(item, dict) and isinstance(item.get(part), str))]
        if missing:
            raise UsageError(f"{data / file}: item {key!r} has no {' and no '.join(missing)}; expected the αNLG format")
        before, after = split_words(item["obs1"]), split_words(item["obs2"])
        template = f"{join_words(before)} [{low}-{high}] {join_words(after)}"
        given: Any = human.get(key, item.get("gold_labels") or [])
        known = [given] if isinstance(given, str) else [str(text) for text in given]
        whole = tuple(f"{item['obs1']} {text} {item['obs2']}" for text in known)
        control = Infill(template)
        yield Target(f"story {key}", [control], expected_of([control]), next(iter(whole), None), whole[1:])
