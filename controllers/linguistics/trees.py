"""Tags, trees and spans as controls, guides and judges share them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from dlm_control.support.errors import UsageError, suggestion

if TYPE_CHECKING:
    from nltk import Tree

UNIVERSAL = tuple("ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split())
PENN = tuple(
    "$ '' , -LRB- -RRB- . : ADD AFX CC CD DT EX FW HYPH IN JJ JJR JJS LS MD NFP NN NNP NNPS NNS PDT POS PRP PRP$ RB RBR RBS RP "
    "SYM TO UH VB VBD VBG VBN VBP VBZ WDT WP WP$ WRB XX ``".split()
)
LABELS = tuple(
    "ADJP ADVP CONJP FRAG INTJ LST NAC NML NP NX PP PRN PRT QP RRC S SBAR SBARQ SINV SQ UCP VP WHADJP WHADVP WHNP WHPP "
    "X".split()
)
ANY = ("?", "*", "_")  # a word or tag that is left open
_PUNCTUATION = frozenset([",", ":", "``", "''", "."])
_ROOTS = frozenset(["", "TOP", "ROOT", "S1"])


class Constituent(NamedTuple):
    """A phrase: the words `first` to `last`, inclusive, counted from 0; unary chains are one label, such as S::VP."""

    first: int
    last: int
    label: str


def read_tree(text: str) -> Tree:
    """A bracketed tree such as "(S (NP (DT the) (NN pub)) (VP (VBZ is) (ADJP (JJ ?))) (. .))".

    Leaves are words; `?` or nothing leaves the word open, as in "(NP (DT ?) (NN))". Phrases may hold open words without tags:
    "(NP ? ?)". A TOP or ROOT around it is taken off.

    Raises:
        UsageError: brackets do not match, or a bracket has no label; the message gives the column, counted from 1.
    """
    from nltk import Tree

    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"expected a bracketed tree, got {text!r}")
    opened: list[int] = []
    ended = None
    for match in re.finditer(r"[()]|[^()\s]+", text):
        at, token = match.start(), match.group()
        if ended is not None:
            raise UsageError(f"column {at + 1}: {_excerpt(text, at)!r} stands after the tree, which ends at column {ended + 1}")
        if token == "(":
            opened.append(at)
            if re.match(r"\(\s*(\)|$)", text[at:]):
                raise UsageError(f"column {at + 1}: a bracket without a label: {_excerpt(text, at)!r}")
        elif not opened:
            raise UsageError(f"column {at + 1}: expected '(', got {_excerpt(text, at)!r}")
        elif token == ")":
            opened.pop()
            ended = None if opened else at
    if opened:
        at = opened[-1]
        raise UsageError(f"column {at + 1}: the bracket {_excerpt(text, at)!r} is never closed ({len(opened)} in all are open)")
    tree = Tree.fromstring(text, remove_empty_top_bracketing=True)
    while tree.label() in _ROOTS and len(tree) == 1 and not isinstance(tree[0], str):
        tree = tree[0]
    return tree


def _excerpt(text: str, at: int) -> str:
    return text[at : at + 16] + ("…" if len(text) > at + 16 else "")


class Leaf(NamedTuple):
    """The end of a branch: a tag and a word, each None where it is left open."""

    tag: str | None
    word: str | None


def leaves(tree: Tree) -> list[Leaf]:
    """The leaves, from left to right."""
    found: list[Leaf] = []
    for child in tree:
        if isinstance(child, str):
            found.append(Leaf(None, None if child in ANY else child))
        elif is_leaf(child):
            word = child[0] if len(child) else None
            tag = None if child.label() in ANY else child.label()
            found.append(Leaf(tag, None if word in (None, *ANY) else str(word)))
        else:
            found += leaves(child)
    return found


def is_leaf(tree: Tree) -> bool:
    """Is it a tag over at most one word? A phrase over one bare open word, such as (NP ?), is no leaf: NP is no tag."""
    return len(tree) == 0 or (len(tree) == 1 and isinstance(tree[0], str) and tree.label() not in LABELS)


def constituents(tree: Tree) -> list[Constituent]:
    """The phrases of a tree, root first; TOP is none."""
    found: list[Constituent] = []

    def walk(node: Tree, first: int) -> int:
        if is_leaf(node):
            return first + 1
        chain = [node.label()]
        while len(node) == 1 and not isinstance(node[0], str) and not is_leaf(node[0]):
            node = node[0]
            chain.append(node.label())
        place = len(found)
        end = first
        for child in node:
            end = end + 1 if isinstance(child, str) else walk(child, end)
        label = "::".join(part for part in chain if part not in _ROOTS)
        if label:
            found.insert(place, Constituent(first, end - 1, label))
        return end

    walk(tree, 0)
    return found


def bare(tree: Tree) -> Tree:
    """The tree with every tag and word left open."""
    from nltk import Tree

    children: list[object] = []
    for child in tree:
        children += ["?"] if isinstance(child, str) or is_leaf(child) else [bare(child)]
    return Tree(tree.label(), children)


def check_label(label: object) -> str:
    """A constituent label or unary chain.

    Raises:
        UsageError: not a label of the treebank.
    """
    unknown = [part for part in str(label).split("::") if part not in LABELS]
    if not isinstance(label, str) or unknown:
        part = unknown[0] if unknown else str(label)
        raise UsageError(
            f"unknown label {part!r}{suggestion(part, LABELS)}; there are: {', '.join(LABELS)}; a unary chain is S::VP"
        )
    return label


def bracket_counts(expected: Tree, found: Tree) -> tuple[int, int, int]:
    """Labelled brackets that match, that were expected, that were found: as EVALB counts them with COLLINS.prm.

    Words whose tag in `expected` is a punctuation mark's are taken out of both trees, TOP does not count, PRT is ADVP; a unary
    chain counts once for each of its labels.

    Raises:
        ValueError: the trees have different numbers of leaves.
    """
    tags = [leaf.tag for leaf in leaves(expected)]
    if len(tags) != len(leaves(found)):
        raise ValueError(f"{len(tags)} leaves expected, {len(leaves(found))} found")
    kept = [0]
    for tag in tags:
        kept.append(kept[-1] + (tag not in _PUNCTUATION))
    sides = [_brackets(tree, kept) for tree in (expected, found)]
    return (sides[0] & sides[1]).total(), sides[0].total(), sides[1].total()


def _brackets(tree: Tree, kept: Sequence[int]) -> Counter[tuple[int, int, str]]:
    counted: Counter[tuple[int, int, str]] = Counter()
    for first, last, label in constituents(tree):
        if kept[last + 1] > kept[first]:
            counted.update((kept[first], kept[last + 1], "ADVP" if part == "PRT" else part) for part in label.split("::"))
    return counted


def f1(matched: int, expected: int, found: int) -> float:
    """Harmonic mean of precision and recall; 1 where nothing is expected and nothing found."""
    return 2 * matched / (expected + found) if expected + found else 1.0
