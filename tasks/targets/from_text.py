"""Controls that human sentences obey."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dlm_control.control.controller import Controller
from dlm_control.controllers.fields.domain import Domain
from dlm_control.controllers.fields.meaning import fields_of, meaning_columns, meaning_of
from dlm_control.controllers.infill import Infill
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.linguistics.trees import bare, constituents
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.controllers.semantic import Semantic
from dlm_control.controllers.span import Span
from dlm_control.controllers.tree import SyntaxTree
from dlm_control.support.errors import ErrorCollector, UsageError, suggestion
from dlm_control.tasks.targets.corpora import rows
from dlm_control.tasks.targets.target import Guides, Target, expected_of
from dlm_control.text.words import join_words, split_words

_GAP = 6  # words


def satisfied(
    path: Path, guides: Guides, kinds: Sequence[str], seed: int, low: int = 5, high: int = 40, fields: int = 1
) -> Iterator[Target]:
    """Human sentences in random order, each with controls of these kinds that it obeys.

    Args:
        path: a CSV with a column `ref` and, for semantic controls, `mr` or a column for each field.
        guides: of the controls.
        kinds: of KINDS.
        seed: of the order and of what is asked.
        low, high: words of a sentence.
        fields: how many fields a semantic control asks for.

    Raises:
        UsageError: unknown kinds, or a missing file or column.
    """
    problems = ErrorCollector("targets")
    for kind in dict.fromkeys(kinds):
        if kind not in KINDS:
            problems.add("controls", f"unknown {kind!r}{suggestion(kind, KINDS)}; there are: {', '.join(KINDS)}")
        elif kinds.count(kind) > 1:
            problems.add("controls", f"{kind} is given {kinds.count(kind)} times; a sentence gives one control of a kind")
    if not kinds:
        problems.add("controls", f"there are none; expected some of: {', '.join(KINDS)}")
    problems.raise_if_any()
    found = sorted(set(_texts(path, guides.domain, "semantic" in kinds)))
    rng = random.Random(seed)
    rng.shuffle(found)
    for text, meaning in found:
        sentence = _Sentence(text, split_words(text), meaning, guides, fields, rng)
        if low <= len(sentence.words) <= high and (target := _target(sentence, kinds)) is not None:
            yield target


def _texts(path: Path, domain: Domain | None, with_meaning: bool) -> list[tuple[str, str]]:
    """The sentences of a file, each with its meaning representation where it is asked for."""
    found = rows(path, ["ref"])
    if not with_meaning:
        return [(row["ref"], row.get("mr") or "") for row in found]  # a sentence of two meanings stands for two
    if domain is None:
        raise UsageError("targets: semantic controls need to know which fields there are; --domain names a file, or e2e")
    columns = meaning_columns(found[0].keys() if found else (), domain)
    if not columns:
        raise UsageError(
            f"{path}: no column 'mr' and none of the fields {', '.join(domain.fields)}; semantic controls are made of these"
        )
    return [(row["ref"], meaning_of(row, columns)) for row in found]


class _Sentence(NamedTuple):
    """A human sentence, and how to choose among what it obeys."""

    text: str
    words: list[str]
    meaning: str
    guides: Guides
    fields: int
    rng: random.Random


def _target(sentence: _Sentence, kinds: Sequence[str]) -> Target | None:
    """A control of each kind that a sentence obeys, or None if it has none of one kind."""
    from dlm_control.controllers.linguistics.taggers import tree_of

    controls: list[Controller] = []
    for kind in kinds:
        control = KINDS[kind](sentence)
        if control is None:
            return None
        controls.append(control)
    return Target("", controls, expected_of(controls, tree_of(sentence.text) if "tree" in kinds else None), sentence.text)


def _semantic(sentence: _Sentence) -> Controller | None:
    fields, domain = fields_of(sentence.meaning), sentence.guides.domain
    said = {
        field: value
        for field, value in fields.items()
        if domain and field in domain.fields and Semantic(field, value, domain=domain).check(sentence.text).passed
    }
    if len(said) < sentence.fields:
        return None
    chosen = sorted(sentence.rng.sample(sorted(said), sentence.fields))
    return Semantic(fields={field: said[field] for field in chosen}, guide=sentence.guides.semantic, domain=domain)


def _pos(sentence: _Sentence) -> Controller | None:
    from dlm_control.controllers.linguistics.taggers import tags_of

    return PartsOfSpeech(list(tags_of(sentence.text).universal), guide=sentence.guides.structure)


def _tree(sentence: _Sentence) -> Controller | None:
    from dlm_control.controllers.linguistics.taggers import tree_of

    return SyntaxTree(bare(tree_of(sentence.text)), guide=sentence.guides.structure)


def _span(sentence: _Sentence) -> Controller | None:
    from dlm_control.controllers.linguistics.taggers import tree_of

    phrases = [p for p in constituents(tree_of(sentence.text)) if p.label in ("NP", "PP", "VP") and p.last > p.first]
    return Span(list(sentence.rng.choice(phrases)), guide=sentence.guides.structure) if phrases else None


def _length(sentence: _Sentence) -> Controller | None:
    return Length(len(sentence.words))


def _infill(sentence: _Sentence) -> Controller | None:
    words = sentence.words
    if len(words) < _GAP + 2:
        return None
    start = sentence.rng.randint(1, len(words) - _GAP - 1)
    return Infill(f"{join_words(words[:start])} [{_GAP}] {join_words(words[start + _GAP :])}".strip())


def _keyword(sentence: _Sentence) -> Controller | None:
    kept = sorted({word for word in sentence.words if word.isalpha() and word.islower() and len(word) > 4})
    return Keyword(sentence.rng.choice(kept)) if kept else None


KINDS: dict[str, Callable[[_Sentence], Controller | None]] = {
    "semantic": _semantic, "pos": _pos, "tree": _tree, "span": _span, "length": _length, "infill": _infill, "keyword": _keyword,
}  # fmt: skip
