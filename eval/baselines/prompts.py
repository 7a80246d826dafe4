"""Controls as tokens before a text, which fine-tuned models and discriminators read."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import chain

from nltk import Tree

from dlm_control.control.controller import Controller
from dlm_control.controllers.fields.lookup import domain_at
from dlm_control.controllers.fields.meaning import fields_of
from dlm_control.controllers.length import Length
from dlm_control.controllers.linguistics.trees import LABELS, UNIVERSAL, bare, constituents, read_tree
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.controllers.semantic import Semantic
from dlm_control.controllers.span import Span
from dlm_control.controllers.tree import SyntaxTree
from dlm_control.support.errors import UsageError
from dlm_control.tasks.targets.e2e import DOMAIN as E2E

KINDS: dict[str, tuple[str, ...]] = {"semantic": ("mr",), "pos": ("pos",), "tree": ("tree",), "span": ("tree",), "length": ()}
_WORDS = 96  # in a text at most
LEAF, CLOSE = "*", ")"

MEANINGS: tuple[str, ...] = tuple(  # the baselines are those that were published for this corpus
    f"{field}={value}" for field, what in domain_at(E2E).fields.items() for value in what.values
)
# Every token that a prompt can hold.
TOKENS: tuple[str, ...] = (
    *MEANINGS,
    *(f"tag:{tag}" for tag in UNIVERSAL),
    *(f"({label}" for label in LABELS), CLOSE, LEAF,
    *(f"@{place}" for place in range(_WORDS)),
    *(f"label:{label}" for label in LABELS),
    *(f"#{words}" for words in range(_WORDS)),
)  # fmt: skip


def prompt_of(control: Controller) -> tuple[str, list[str]]:
    """A control's kind and its tokens (Li et al. 2022, App. D: attribute, tags, flat tree with `*` for words, span, length).

    Raises:
        UsageError: there is no prompt for such a control.
    """
    match control:
        case Semantic(fields=fields):
            return "semantic", [f"{field}={value}" for field, value in fields.items()]
        case PartsOfSpeech(tags=tags, position=None, tagset="universal") if "?" not in tags:
            return "pos", [f"tag:{tag}" for tag in tags.split()]
        case SyntaxTree(tree=tree, partial=False):
            return "tree", _flat(read_tree(tree))
        case Span(spans=[[int(first), int(last), str(label)]]):
            return "span", _span(first, last, label)
        case Length(at_least=int(low), at_most=high) if low == high:
            return "length", [f"#{low}"]
    raise UsageError(f"baselines: no prompt for {control!r}; they know {', '.join(KINDS)}, each whole and exact")


def drawn(kind: str, row: Mapping[str, str], words: int, rng: random.Random) -> list[str]:
    """Tokens of a control that a row of an annotated corpus obeys; [] if there is none.

    Args:
        kind: of control.
        row: of the corpus: its columns by name.
        words: in the row's text.
        rng: chooses among the controls that the row obeys.
    """
    if kind == "semantic":
        phrases = said(row["mr"])
        return [rng.choice(phrases)] if phrases else []
    if kind == "pos":
        return [f"tag:{tag}" for tag in row["pos"].split()]
    if kind == "tree":
        return _flat(bare(read_tree(row["tree"])))
    if kind == "span":
        return _span(*rng.choice(constituents(Tree.fromstring(row["tree"]))))
    return [f"#{words}"]


def wrong(kind: str, row: Mapping[str, str], words: int, other: Sequence[str], rng: random.Random) -> list[str]:
    """Tokens of a control that a row does not obey: one detail changed, or, half the time, another row's control.

    Args:
        kind: of control.
        row: of an annotated corpus.
        words: in its text.
        other: tokens of another row's control.
        rng: random numbers.
    """
    right = drawn(kind, row, words, rng)
    if kind == "semantic":
        phrases = set(said(row["mr"]))
        return [rng.choice([token for token in MEANINGS if token not in phrases])]
    if kind == "span":
        there = {tuple(_span(*phrase)) for phrase in constituents(Tree.fromstring(row["tree"]))}
        changed = [_shifted(right, rng) for _ in range(8)]
        return next((tokens for tokens in [list(other), *changed][rng.random() < 0.7 :] if tuple(tokens) not in there), ["#0"])
    if kind == "length":
        return [f"#{min(_WORDS - 1, max(1, words + rng.choice([-6, -4, -3, -2, -1, 1, 2, 3, 4, 6])))}"]
    if rng.random() < 0.5 and list(other) != right:
        return list(other)
    return _tag_changed(right, rng) if kind == "pos" else _bracket_changed(right, rng)


def place_ids(tokens: Sequence[str], words: int, judged: bool = False) -> list[int]:
    """Position ids of a prompt, of the END before a text and of the text's words.

    A text's words are at 1, 2, …, whatever its prompt, and each token of a prompt is where the word that it speaks of is
    predicted (or, for a discriminator, read): a network need not count to find them. With GPT-2's own positions it would have
    to learn that for every length of prompt, which small ones did not (docs/design-notes.md).

    Args:
        tokens: of the prompt.
        words: in the text, END included.
        judged: for a discriminator.
    """
    places, word = [], 0
    for token in tokens:
        if token[0] == "@" or token[0] == "#":
            word = int(token[1:])
        places.append(word if token != CLOSE else max(0, word - 1))
        word += token == LEAF or token.startswith("tag:")
    return [*(place + judged for place in places), *range(words + 1)]


def said(meaning: str) -> list[str]:
    """The tokens of a meaning representation, such as `name[The Mill], food[English]`."""
    return [token for field, value in fields_of(meaning).items() if (token := f"{field}={value}") in MEANINGS]


def _flat(tree: Tree) -> list[str]:
    inside = list(chain.from_iterable(_flat(child) if isinstance(child, Tree) else [LEAF] for child in tree))
    return [f"({tree.label()}", *inside, CLOSE] if tree.label() in LABELS else inside  # a TOP over several phrases is none


def _span(first: int, last: int, label: str) -> list[str]:
    return [f"@{first}", *(f"label:{part}" for part in label.split("::")), f"@{last}"]


def _shifted(tokens: Sequence[str], rng: random.Random) -> list[str]:
    first, last = int(tokens[0][1:]), int(tokens[-1][1:])
    change = rng.randrange(3)
    if change == 0:
        first = rng.randint(max(0, first - 3), last)
    elif change == 1:
        last = rng.randint(first, min(_WORDS - 1, last + 3))
    return (
        _span(first, last, rng.choice(["NP", "VP", "PP", "S", "ADJP"]))
        if change == 2
        else [f"@{first}", *tokens[1:-1], f"@{last}"]
    )


def _tag_changed(tokens: Sequence[str], rng: random.Random) -> list[str]:
    changed = list(tokens)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(changed))
        changed[place] = rng.choice([f"tag:{tag}" for tag in UNIVERSAL if f"tag:{tag}" != tokens[place]])
    return changed


def _bracket_changed(tokens: Sequence[str], rng: random.Random) -> list[str]:
    """A phrase's label changed, or a word more or less somewhere."""
    changed = list(tokens)
    opening = [i for i, token in enumerate(tokens) if token[0] == "("]
    places = [i for i, token in enumerate(tokens) if token == LEAF]
    if rng.random() < 0.5 or len(places) < 2:
        place = rng.choice(opening)
        changed[place] = rng.choice(
            [f"({label}" for label in ("NP", "VP", "PP", "S", "SBAR", "ADJP") if f"({label}" != tokens[place]]
        )
    elif rng.random() < 0.5:
        del changed[rng.choice(places)]
    else:
        changed.insert(rng.choice(places), LEAF)
    return changed
