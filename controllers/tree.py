"""Syntax trees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dlm_control.control.controller import Check
from dlm_control.control.plan import Plan
from dlm_control.control.registry import register_controller
from dlm_control.controllers.guides.structural import Structural
from dlm_control.controllers.linguistics.trees import (  # fmt: skip
    PENN,
    Constituent,
    Leaf,
    bracket_counts,
    check_label,
    constituents,
    f1,
    leaves,
    read_tree,
)
from dlm_control.support.errors import ErrorCollector, UsageError, suggestion
from dlm_control.text.words import split_words

if TYPE_CHECKING:
    from nltk import Tree

    from dlm_control.controllers.guides.syntax_guide import Labels
    from dlm_control.diffusion.backbone import Backbone


@register_controller("tree")
class SyntaxTree(Structural):
    """The syntax tree of a text, in brackets, such as "(S (NP (PRP ?)) (VP (VBZ is) (ADJP (JJ ?))) (. .))".

    Every leaf is one word; `?` or nothing leaves it open. Phrases may hold bare open words: "(NP ? ?)".

    Args:
        tree: brackets, or an nltk.Tree.
        partial: True asks for these phrases and allows others among them; False asks for this tree.
        guide: `words`: p(tree | word, x_t) for every word, by the structure guide; `x_t`, `x0`: a noise-aware span classifier's
            gradient in that space. The first was best at equal network calls (docs/composition.md).
    """

    def __init__(self, tree: str | Tree, *, partial: bool = False, guide: Literal["words", "x_t", "x0"] = "words") -> None:
        problems = ErrorCollector("tree")
        text = tree if isinstance(tree, str) else " ".join(str(tree).split())
        try:
            self._tree = read_tree(text)
        except UsageError as error:
            problems.add("tree", str(error))
            problems.raise_if_any()
        self._leaves, self._phrases = leaves(self._tree), constituents(self._tree)
        for label in dict.fromkeys(phrase.label for phrase in self._phrases):
            try:
                check_label(label)
            except UsageError as error:
                problems.add("tree", str(error))
        if not self._phrases:
            problems.add("tree", f"no phrase in {text!r}; expected at least one, such as (NP ? ?)")
        for tag in dict.fromkeys(leaf.tag for leaf in self._leaves):
            if tag is not None and tag not in PENN:
                problems.add("tree", f"unknown tag {tag!r}{suggestion(tag, PENN)}; there are: {' '.join(PENN)}")
        problems.raise_if_any()
        self.tree, self.partial, self.guide = " ".join(text.split()), partial, guide
        self.reads = "log_probs" if guide == "words" else guide

    def labels(self) -> tuple[Labels, bool]:
        from dlm_control.controllers.guides.syntax_guide import Labels

        tags = tuple(0 if leaf.tag is None else 1 + PENN.index(leaf.tag) for leaf in self._leaves)
        return Labels((), tags if any(tags) else (), tuple(self._phrases)), not self.partial

    def plan(self, lm: Backbone) -> Plan:
        from dlm_control.controllers.guides.energies import words_bearing

        super().plan(lm)
        problems = ErrorCollector("tree")
        at = {}
        for place, leaf in enumerate(self._leaves):
            if leaf.word is not None:
                try:
                    ids = lm.ids(leaf.word, "tree")
                except UsageError as error:
                    problems.extend("tree", error)
                    continue
                if len(ids) > 1:
                    problems.add("tree", f"the leaf {leaf.word!r} is {len(ids)} words: {', '.join(split_words(leaf.word))}")
                at[place] = frozenset(ids[:1])
            elif leaf.tag is not None:
                at[place] = words_bearing(lm, 1 + PENN.index(leaf.tag), "penn")
                if not at[place]:
                    problems.add("tree", f"no word that the model knows is a {leaf.tag} (expected at position {place})")
        problems.raise_if_any()
        return Plan(min_words=len(self._leaves), max_words=len(self._leaves), at=at)

    def check(self, text: str) -> Check:
        """benepar's tree; the score is labelled bracket F1 as EVALB counts it, or the share of phrases found if `partial`."""
        from dlm_control.controllers.linguistics.taggers import tree_of, unjudged

        missing = unjudged("trees")
        if missing:
            return missing
        words = split_words(text)
        if len(words) != len(self._leaves):
            return Check(0.0, f"{len(words)} words, expected {len(self._leaves)}")
        lost = [leaf for leaf, word in zip(self._leaves, words, strict=True) if leaf.word not in (None, word)]
        found = tree_of(text)
        score = self._found(found) if self.partial else f1(*bracket_counts(self._judged(found), found))
        if lost:
            return Check(min(score, 0.99), f"{_shown(lost[0])} is missing")
        return Check(score, f"{'phrases found' if self.partial else 'bracket F1'} {score:.2f}")

    def _found(self, tree: Tree) -> float:
        there: set[Constituent] = set(constituents(tree))
        return sum(phrase in there for phrase in self._phrases) / max(1, len(self._phrases))

    def _judged(self, found: Tree) -> Tree:
        """This tree with the found tags where its own are open: they say which words are punctuation."""
        tags = iter(leaf.tag for leaf in leaves(found))
        return _tagged(self._tree, tags)


def _tagged(tree: Tree, tags: object) -> Tree:
    from nltk import Tree

    from dlm_control.controllers.linguistics.trees import ANY, is_leaf

    children: list[object] = []
    for child in tree:
        if isinstance(child, str):
            children.append(Tree(next(tags), [child]))  # type: ignore[call-overload]
        elif is_leaf(child):
            tag = next(tags)  # type: ignore[call-overload]
            children.append(Tree(tag if child.label() in ANY else child.label(), list(child) or ["?"]))
        else:
            children.append(_tagged(child, tags))
    return Tree(tree.label(), children)


def _shown(leaf: Leaf) -> str:
    return f"the word {leaf.word!r}"
