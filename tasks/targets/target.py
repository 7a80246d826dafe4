"""A target, one item of a benchmark suite: what is asked for, and what metrics compare a text with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from dlm_control.control.controller import Controller
from dlm_control.control.registry import parameters
from dlm_control.control.use import Control
from dlm_control.controllers.fields.domain import Domain
from dlm_control.controllers.infill import Infill
from dlm_control.controllers.length import Length
from dlm_control.controllers.linguistics.trees import read_tree
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.controllers.semantic import Semantic
from dlm_control.controllers.span import Span
from dlm_control.controllers.tree import SyntaxTree
from dlm_control.text.words import split_words

if TYPE_CHECKING:
    from nltk import Tree


class Guides(NamedTuple):
    """What the controls of targets are made with, beside what is asked.

    Attributes:
        semantic, structure: which guide steers them, by kind of control; see the controls' `guide`.
        domain: the fields of semantic ones; None leaves them to the model.
    """

    semantic: Any = "words"
    structure: Any = "words"
    domain: Domain | None = None


WORDS = Guides()
NOISE_AWARE = Guides("classifier", "x_t")  # those that the 2022 update needs


class Expected(TypedDict, total=False):
    """What metrics compare a text with, by kind; only what a target asks for is there.

    Attributes:
        value: the words of the one field's value, parted by spaces.
        fields: the value of each field.
        words: how many.
        given: words before and after a gap.
        tags: universal tags, one a word.
        tree: the tree of the whole text, tags included.
        spans: constituents, each its first and last word and its label.
    """

    value: str
    fields: Mapping[str, str]
    words: int
    given: tuple[Sequence[str], Sequence[str]]
    tags: tuple[str, ...]
    tree: Tree
    spans: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Target:
    """One item of a suite.

    Attributes:
        name: unique in its suite.
        controls: what is asked of the model.
        expected: what the suite's metrics compare a text with: by the keys of `Expected`, or by those of metrics of your own.
        reference: the human text that the target was made from, or None.
        references: other human texts that would do, where there are.
        group: targets of one group are also scored by themselves.
    """

    name: str
    controls: Sequence[Controller | Control] = ()
    expected: Mapping[str, Any] = field(default_factory=dict)
    reference: str | None = None
    references: tuple[str, ...] = ()
    group: str = ""


def digest_of(targets: Sequence[Target]) -> str:
    """Hash of what targets ask for; how their controls are guided is not part of it."""
    digest = hashlib.sha256()
    for target in targets:
        asked = [_asked(control) for control in target.controls]
        expected = sorted((key, str(value)) for key, value in target.expected.items())
        digest.update(repr((target.name, asked, expected, target.reference, target.references, target.group)).encode())
    return digest.hexdigest()[:12]


def _asked(given: Controller | Control) -> tuple[Any, ...]:
    control, use = (given.controller, (given.weight, given.interval)) if isinstance(given, Control) else (given, ())
    plain = parameters(type(control)).keys() - {"guide"}
    return type(control).__name__, use, sorted((key, str(value)) for key, value in vars(control).items() if key in plain)


def expected_of(controls: Sequence[Controller | Control], tree: Tree | None = None) -> Expected:
    """What metrics compare a text with, read off the controls.

    Args:
        controls: of a target.
        tree: the whole tree, tags included, where a tree is wanted: they say which words are punctuation.
    """
    expected: Expected = {}
    for each in controls:
        control = each.controller if isinstance(each, Control) else each
        match control:
            case Semantic(fields=fields):
                expected["fields"] = fields
                if len(fields) == 1:
                    expected["value"] = " ".join(split_words(next(iter(fields.values()))))
            case PartsOfSpeech(tags=tags, position=None):
                expected["tags"] = tuple(tags.split())
            case SyntaxTree(tree=asked):
                expected["tree"] = tree if tree is not None else read_tree(asked)
            case Span(spans=spans):
                expected["spans"] = [tuple(span) for span in spans]
            case Infill(given=given):
                expected["given"] = given
            case Length(at_least=int(low), at_most=high) if low == high:
                expected["words"] = low
    return expected
