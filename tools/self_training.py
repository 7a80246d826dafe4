"""Trees that a parser makes for sentences of its later use, and of which it is sure: more to learn from, without a treebank."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from nltk import Tree

from dlm_control.controllers.linguistics.taggers import sentences
from dlm_control.text.words import split_words

STAND_INS = ("London", "Paris")  # names of one word, of which every parser knows that they are names
_SMALL_WORDS = {"the": "DT", "a": "DT", "of": "IN", "in": "IN", "at": "IN", "on": "IN", "and": "CC", "&": "CC", "'s": "POS"}
Parse = Callable[[Sequence[Sequence[str]]], list[Tree]]


class Sentence(NamedTuple):
    """A sentence with stand-ins in place of names.

    Attributes:
        words: with the stand-ins.
        names: words of the name that each stand-in stands for.
    """

    words: tuple[str, ...]
    names: dict[str, tuple[str, ...]]


def restaurant_sentences(file: Path, most: int, seed: int) -> list[Sentence]:
    """Sentences of an E2E file (columns `mr`, `ref`), each kind once, whatever the names in it; drawn at random."""
    found: dict[tuple[str, ...], Sentence] = {}
    with open(file, encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            fields = dict(part.strip().rstrip("]").split("[", 1) for part in row["mr"].split(", "))
            names = {s: tuple(split_words(fields[f])) for s, f in zip(STAND_INS, ("name", "near"), strict=True) if f in fields}
            for words in sentences(split_words(row["ref"])):
                short, said = tuple(words), {}
                for stand_in, name in names.items():
                    short, times = _replaced(short, name, stand_in)
                    said |= {stand_in: name} if times else {}
                found.setdefault(short, Sentence(short, said))
    return _drawn(list(found.values()), most, seed)


def everyday_sentences(folder: Path, most: int, seed: int) -> list[Sentence]:
    """Sentences of .txt files of one a line and of the last column of .tsv files; as many of each file, drawn at random."""
    files = sorted([*folder.glob("*.txt"), *folder.glob("*.tsv")])
    found: list[Sentence] = []
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines()[file.suffix == ".tsv" :]
        texts = dict.fromkeys(tuple(words) for line in lines for words in sentences(split_words(line.split("\t")[-1])))
        found += _drawn([Sentence(words, {}) for words in texts], most // len(files), seed)
    return found


def _drawn(all_: list[Sentence], most: int, seed: int) -> list[Sentence]:
    usable = [each for each in all_ if 3 <= len(each.words) <= 40]
    return random.Random(seed).sample(usable, min(most, len(usable)))


def _replaced(words: tuple[str, ...], name: tuple[str, ...], stand_in: str) -> tuple[tuple[str, ...], int]:
    made: list[str] = []
    lowered, expected, at, times = [w.lower() for w in words], [w.lower() for w in name], 0, 0
    while at < len(words):
        if lowered[at : at + len(name)] == expected:
            made.append(stand_in)
            at, times = at + len(name), times + 1
        else:
            made.append(words[at])
            at += 1
    return tuple(made), times


def sure_trees(found: Sequence[Sentence], parse: Parse, others: Sequence[Parse]) -> list[Tree]:
    """Trees on which all parsers agree in every bracket, with the names put back for the stand-ins.

    Args:
        found: sentences.
        parse: whose trees they are, tags included.
        others: that must have the same brackets.
    """
    words = [each.words for each in found]
    kept = dict(enumerate(parse(words)))
    for other in others:
        places = list(kept)
        for i, tree in zip(places, other([words[i] for i in places]), strict=True):
            if _brackets(tree) != _brackets(kept[i]):
                del kept[i]
    made = [with_names(tree, found[i].names) for i, tree in kept.items()]
    return [tree for tree in made if tree is not None]


def _brackets(tree: Tree) -> str:
    """The tree without its tags."""
    return str(tree if isinstance(tree[0], str) else tree.label() + "".join(f"({_bare(child)})" for child in tree))


def _bare(tree: Tree) -> str:
    return "." if isinstance(tree[0], str) else _brackets(tree)


def with_names(tree: Tree, names: dict[str, tuple[str, ...]]) -> Tree | None:
    """The tree with each stand-in's name as the flat noun phrase that it is; None where it would be part of a larger one."""
    children: list[Tree] = []
    for child in tree:
        name = names.get(child[0]) if isinstance(child[0], str) else None
        if not isinstance(child[0], str):
            inner = with_names(child, names)
            if inner is None:
                return None
            children.append(inner)
        elif name is None:
            children.append(child)
        else:
            alone = len(tree) == 1 or (len(tree) == 2 and tree[1].label() == "POS")
            if len(name) > 1 and not (tree.label() == "NP" and alone):
                return None
            children += [Tree(_SMALL_WORDS.get(word.lower(), "NNP"), [word]) for word in name]
    return Tree(tree.label(), children)
