"""Metrics of texts: obedience of one text, and qualities of many."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean

from nltk import Tree

from dlm_control.control.use import Control, with_unique_names
from dlm_control.controllers.linguistics.taggers import parse, tags_of, tree_of
from dlm_control.controllers.linguistics.trees import Constituent, bracket_counts, constituents, f1
from dlm_control.controllers.semantic import Semantic
from dlm_control.eval.score import slots
from dlm_control.support.errors import ErrorCollector
from dlm_control.tasks.metric import METRICS, Metric, register_metric
from dlm_control.tasks.targets.target import Target
from dlm_control.text.words import split_words

_SPACY, _BENEPAR = "spaCy en_core_web_sm", "benepar-open"


@register_metric("substring", wants="value", judge="the value as a string", of_meaning=True)
def substring(text: str, target: Target) -> float:
    """1 if the text's words, joined by spaces, contain the value as a string (Li et al. 2022, as released:
    "not" contains "no").
    """
    return float(target.expected["value"] in " ".join(split_words(text)))


@register_metric(
    "phrase_match", wants="fields", judge="the control's own wordings", checks=True, of_meaning=True, shares_wordings=True
)
def phrase_match(text: str, target: Target) -> float:
    """Share of the expected fields for which a semantic control finds a wording (guide and check share their list)."""
    return fmean(control.check(text).score for control in semantic_controls(target))


@register_metric("slot_accuracy", wants="fields", judge="patterns of eval.slots", of_meaning=True)
def slot_accuracy(text: str, target: Target) -> float:
    """Share of the expected fields whose value, and no other value, is in the text by the patterns of its domain (strict)."""
    domain, fields = semantic_controls(target)[0].domain, target.expected["fields"]
    return sum(slots.is_realised(domain, field, value, text) for field, value in fields.items()) / len(fields)


def semantic_controls(target: Target) -> list[Semantic]:
    """Those of a target's controllers that ask for fields."""
    controls = (c.controller if isinstance(c, Control) else c for c in target.controls)
    return [control for control in controls if isinstance(control, Semantic)]


@register_metric("exact_length", wants="words", judge="a count of words", checks=True)
def exact_length(text: str, target: Target) -> float:
    """1 if the text has exactly the expected number of words."""
    return float(len(split_words(text)) == target.expected["words"])


@register_metric("length_within_2", wants="words", judge="a count of words")
def length_within_2(text: str, target: Target) -> float:
    """1 if the text's length is within 2 of the expected one (the paper's text; its code asks for exactness)."""
    return float(abs(len(split_words(text)) - target.expected["words"]) <= 2)


@register_metric("template_match", wants="given", judge="the words themselves")
def template_match(text: str, target: Target) -> float:
    """Share of the given words that are in their places: counted from the start before the gap, from the end after it."""
    before, after = target.expected["given"]
    words = split_words(text)
    pairs = [*zip(before, words, strict=False), *zip(reversed(after), reversed(words), strict=False)]
    kept: int = sum(given == word for given, word in pairs)
    return kept / max(1, len(before) + len(after))


@register_metric("tag_match", wants="tags", judge=_SPACY, tool="tags", checks=True)
def tag_match(text: str, target: Target) -> float:
    """Share of the expected universal tags that spaCy finds at their positions (Li et al. 2022, as released)."""
    expected: tuple[str, ...] = target.expected["tags"]
    found = tags_of(text).universal
    return sum(tag == there for tag, there in zip(expected, found, strict=False)) / len(expected)


@register_metric("tags_strict", wants="tags", judge=_SPACY, tool="tags", checks=True)
def tags_strict(text: str, target: Target) -> float:
    """As `tag_match`, over the longer of the two sequences: a text of another length loses (strict)."""
    expected: tuple[str, ...] = target.expected["tags"]
    found = tags_of(text).universal
    return sum(tag == there for tag, there in zip(expected, found, strict=False)) / max(len(expected), len(found))


@register_metric("bracket_f1", wants="tree", judge=_BENEPAR, tool="trees", checks=True)
def bracket_f1(text: str, target: Target) -> float:
    """Labelled bracket F1 of benepar's tree and the expected one, texts cut, or padded with full stops, to it (Li et al. 2022).

    As in their code every leaf counts: it makes all tags NN before EVALB, which then takes no punctuation out. Where theirs is
    one F1 of all brackets of a target's texts, a target's is the mean over its texts here.
    """
    expected = target.expected["tree"]
    size = len(expected.leaves())
    words = [*split_words(text), *["."] * size][:size]
    return _f1(expected, tree_of(text) if words == split_words(text) else parse([words])[0])


@register_metric("tree_strict", wants="tree", judge=_BENEPAR, tool="trees", checks=True)
def tree_strict(text: str, target: Target) -> float:
    """Labelled bracket F1 of benepar's tree of the whole text and the expected one, nothing cut or padded (strict).

    Punctuation is taken out, as by EVALB. Where the lengths differ, brackets are compared by their first and last word, so that
    those behind the difference are lost.
    """
    expected, found = target.expected["tree"], tree_of(text)
    if len(expected.leaves()) == len(found.leaves()):
        return f1(*bracket_counts(expected, found))
    return _f1(expected, found)


def _f1(expected: Tree, found: Tree) -> float:
    """F1 of brackets, each a label and the places of its first and last leaf."""
    sides = [
        Counter((c.first, c.last, part) for c in constituents(tree) for part in c.label.split("::"))
        for tree in (expected, found)
    ]
    return f1((sides[0] & sides[1]).total(), sides[0].total(), sides[1].total())


@register_metric("spans_exact", wants="spans", judge=_BENEPAR, tool="trees", checks=True)
def spans_exact(text: str, target: Target) -> float:
    """Share of the expected spans that are constituents of benepar's tree, ends and label exact."""
    there = set(constituents(tree_of(text)))
    return sum(Constituent(*span) in there for span in target.expected["spans"]) / len(target.expected["spans"])


def all_satisfied(text: str, target: Target) -> float:
    """1 if the text passes the check of every control, and has all expected fields by `slot_accuracy`.

    NaN if no control fails but one could not be judged because a tool is missing.
    """
    checks = [control.check(text) for control in target.controls]
    if any(check.judged and not check.passed for check in checks) or (
        "fields" in target.expected and slot_accuracy(text, target) < 1
    ):
        return 0.0
    return 1.0 if all(check.judged for check in checks) else math.nan


ALL_SATISFIED = Metric(
    "all_satisfied",
    all_satisfied,
    "the checks of all controls, and `slot_accuracy` for fields",
    checks=True,
    concerns=lambda target: bool(target.controls),
)


def metrics_of(names: Sequence[str], targets: Sequence[Target]) -> list[Metric]:
    """What judges the texts of some targets: the metrics that are named, or, if none is, the check of each control; and whether
    a text obeys all controls.

    Args:
        names: of metrics.
        targets: whose texts are judged.
    """
    found = [METRICS[name] for name in names] or [
        _check_of(name) for name in sorted({control.name for each in targets for control in with_unique_names(each.controls)})
    ]
    return [*found, *([ALL_SATISFIED] if any(target.controls for target in targets) else [])]


def _check_of(control: str) -> Metric:
    """The metric that a control brings: does the text pass its check?"""

    def passed(text: str, target: Target) -> float:
        check = next(each for each in with_unique_names(target.controls) if each.name == control).check(text)
        return float(check.passed) if check.judged else math.nan

    def concerns(target: Target) -> bool:
        return any(each.name == control for each in with_unique_names(target.controls))

    return Metric(f"check_{control}", passed, "the control's own check", checks=True, concerns=concerns)


def check_metrics(suite: str, metrics: Iterable[str], targets: Sequence[Target]) -> None:
    """
    Raises:
        UsageError: some targets lack what a metric compares texts with.
    """
    problems = ErrorCollector(f"suite {suite}")
    for metric in (METRICS[name] for name in metrics):
        without = [target.name for target in targets if not metric.is_of(target)]
        if without:
            found = f"{len(without)} of {len(targets)} targets have none, such as {without[0]!r}"
            problems.add("metrics", f"{metric.name} compares texts with a target's {metric.wants}, and {found}")
    problems.raise_if_any()


def evenly_spaced(texts: Sequence[str], count: int) -> list[str]:
    """So many of the texts, evenly from all over the list."""
    return [texts[i * len(texts) // count] for i in range(count)]


def distinct(texts: Sequence[str], n: int) -> float:
    """Share of n-grams that are new among the n-grams of all texts (Li et al. 2016); it falls with the number of texts."""
    grams: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = split_words(text)
        grams.update(zip(*(words[i:] for i in range(n)), strict=False))
    return len(grams) / max(1, grams.total())


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU-4 of each text against the others (Zhu et al. 2018); less is more diverse; 0 where there are no others."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    parted = [words for text in texts if (words := split_words(text))]
    if len(parted) < 2:
        return 0.0
    smooth = SmoothingFunction().method1
    return fmean(
        sentence_bleu(parted[:i] + parted[i + 1 :], words, smoothing_function=smooth) for i, words in enumerate(parted)
    )


def copied(texts: Sequence[str], corpus: Sequence[str]) -> float:
    """Share of texts that are, word for word, in a corpus."""
    known = {tuple(split_words(sentence)) for sentence in corpus}
    return sum(tuple(split_words(text)) in known for text in texts) / max(1, len(texts))


def length_distance(texts: Sequence[str], corpus: Sequence[str]) -> float:
    """Earth mover's distance between the two distributions of lengths, in words."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(*([len(split_words(text)) for text in side] for side in (texts, corpus))))
