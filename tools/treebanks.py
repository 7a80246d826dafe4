"""Trees of the open treebanks as the bundled parser learns them: read, brought to one convention, split into parts."""

from __future__ import annotations

import random
import re
from pathlib import Path

from nltk import Tree

MASC = ("masc1_written", "masc1_spoken")  # hand-validated; every other file holds trees of another parser
HELD_OUT = "masc1_written"
BLOCK, BLOCKS = 50, {"test": 6, "dev": 3}  # sentences in a row that are held out together, and how many such blocks
_WH = {"WDT": "WHNP", "WP": "WHNP", "WP$": "WHNP"}


def read_trees(file: Path) -> list[Tree]:
    """The trees of a file of one a line, in this package's convention (`convention`)."""
    trees = [Tree.fromstring(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [convention(tree) for tree in trees]


def convention(tree: Tree) -> Tree:
    """One convention for all files: NML spliced out, relative phrases called WH-, no X over a single X, TOP on top."""
    return Tree("TOP", [_without_chains(child) for child in _spliced(_with_wh(tree))])


def _with_wh(tree: Tree) -> Tree:
    """Trees of GUM call most relative pronouns NP: (SBAR (NP (WDT that)) …) becomes (SBAR (WHNP (WDT that)) …)."""
    if isinstance(tree[0], str):
        return tree
    children = [_with_wh(child) for child in tree]
    if tree.label() in ("SBAR", "SBARQ"):
        children[0] = _wh(children[0])
    return Tree(tree.label(), children)


def _wh(phrase: Tree) -> Tree:
    first = phrase[0]
    if isinstance(first, str):
        return phrase
    if phrase.label() == "NP" and (first.label() in _WH or (first.label() == "NP" and _wh(first) is not first)):
        return Tree("WHNP", [_wh(first), *phrase[1:]])
    if phrase.label() == "PP" and len(phrase) == 2 and _wh(phrase[1]).label() == "WHNP":
        return Tree("WHPP", [first, _wh(phrase[1])])
    return phrase


def _spliced(tree: Tree) -> list[Tree]:
    """The children of a tree, with those of each NML in its place."""
    found: list[Tree] = []
    for child in tree:
        if isinstance(child[0], str):
            found.append(child)
        elif child.label() == "NML":
            found += _spliced(child)
        else:
            found.append(Tree(child.label(), _spliced(child)))
    return found


def _without_chains(tree: Tree) -> Tree:
    if isinstance(tree[0], str):
        return tree
    children = [_without_chains(child) for child in tree]
    if len(children) == 1 and children[0].label() == tree.label():
        return children[0]
    return Tree(tree.label(), children)


def join_hyphens(tree: Tree) -> Tree:
    """The Penn Treebank's convention of words: (ADJP (NN family) (HYPH -) (JJ friendly)) becomes (JJ family-friendly).

    Before a noun such a word is an adjective, unless it is a number or a name. Hyphens between phrases stay as they are.
    """
    return _joined(tree, modifies=False)


def _joined(tree: Tree, *, modifies: bool) -> Tree:
    if isinstance(tree[0], str):
        return tree
    children: list[Tree] = list(tree)
    at = 1
    while at < len(children) - 1:
        three = children[at - 1 : at + 2]
        if children[at].label() == "HYPH" and all(isinstance(each[0], str) for each in three):
            noun = modifies if at + 2 == len(children) else _noun(children[at + 2])
            tag = three[2].label()
            if noun and tag not in ("CD", "NNP", "NNPS", "HYPH"):
                tag = "JJ"
            children[at - 1 : at + 2] = [Tree(tag, ["".join(each[0] for each in three)])]
        else:
            at += 1
    if len(children) == 1 < len(tree) and tree.label() in ("ADJP", "NP", "QP", "NX") and modifies:
        return children[0]
    following = [*children[1:], None]
    return Tree(tree.label(), [_joined(child, modifies=_noun(after)) for child, after in zip(children, following, strict=True)])


def _noun(tree: Tree | None) -> bool:
    return tree is not None and (tree.label().startswith(("NN", "JJ")) or tree.label() in ("NX", "NP"))


def without_stop(tree: Tree) -> Tree:
    """The tree without the full stop that ends it, if it has one below its root and other words."""
    root = tree[0]
    if len(tree) == 1 and len(root) > 1 and isinstance(root[-1][0], str) and root[-1].label() == ".":
        return _without_chains(Tree("TOP", [Tree(root.label(), list(root[:-1]))]))
    return tree


def key(tree: Tree) -> str:
    """What two copies of a sentence share, whatever their quotation marks, case and hyphens."""
    return re.sub(r"[^a-z0-9]", "", "".join(tree.leaves()).lower())


def prepared(folder: Path) -> dict[str, list[tuple[Tree, str]]]:
    """The parts `train`, `dev` and `test`: trees, each with the file it comes from.

    dev and test are blocks of consecutive sentences of MASC's written part at equal distances, since its file no longer tells
    where a document ends. A sentence of a held-out part, or a copy of one that came earlier, is not in train.

    Args:
        folder: of the .mrg files.

    Raises:
        FileNotFoundError: the folder has no .mrg file of the held-out treebank.
    """
    files = sorted(folder.glob("*.mrg"), key=lambda file: (not file.stem.startswith(MASC), file.stem))
    banks = {file.stem: read_trees(file) for file in files}
    source = next((stem for stem in banks if stem.startswith(HELD_OUT)), None)
    if source is None:
        raise FileNotFoundError(f"{folder}: no {HELD_OUT}*.mrg")
    trees = banks[source]
    order = ["test", "dev", "test"] * BLOCKS["dev"]
    starts = [round((i + 0.5) * len(trees) / len(order)) for i in range(len(order))]
    place = {start + k: part for start, part in zip(starts, order, strict=True) for k in range(BLOCK)}
    parts: dict[str, list[tuple[Tree, str]]] = {"train": [], "dev": [], "test": []}
    for i, tree in enumerate(trees):
        if i in place:
            parts[place[i]].append((tree, source))
    seen = {key(tree) for part in ("dev", "test") for tree, _ in parts[part]}
    for stem, bank in banks.items():
        for i, tree in enumerate(bank):
            if (stem == source and i in place) or key(tree) in seen:
                continue
            seen.add(key(tree))
            parts["train"].append((tree, stem))
    return parts


def varied(tree: Tree, chance: random.Random) -> Tree:
    """The tree as one epoch sees it: half of the time with hyphens joined, one time in eight without its full stop."""
    if chance.random() < 0.5:
        tree = join_hyphens(tree)
    return without_stop(tree) if chance.random() < 0.125 else tree
