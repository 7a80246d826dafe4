"""Metrics of texts: obedience of one text, and qualities of many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

from dlm_control.controllers.linguistics import parse, tags_of, tree_of
from dlm_control.controllers.syntax import Constituent, bracket_counts, constituents, f1
from dlm_control.eval import slots
from dlm_control.tasks.targets import Target
from dlm_control.words import split_words


def substring(text: str, target: Target) -> float:
    """1 if the value stands in the text's words joined by spaces (Li et al. 2022, as released: "not" contains "no")."""
    return float(str(target.wanted["value"]) in " ".join(split_words(text)))


def said(text: str, target: Target) -> float:
    """1 if the controller's own check finds a wording of the value (guide and check share their list of wordings)."""
    return target.controls[0].check(text).score


def realised(text: str, target: Target) -> float:
    """Share of the wanted fields whose value is said, and no other of theirs, by the patterns of `eval.slots` (strict)."""
    fields: dict[str, str] = target.wanted["fields"]
    return sum(slots.realised(field, value, text) for field, value in fields.items()) / len(fields)


def exact_length(text: str, target: Target) -> float:
    """1 if the text has exactly the wanted number of words."""
    return float(len(split_words(text)) == target.wanted["words"])


def length_within_2(text: str, target: Target) -> float:
    """1 if the text's length is within 2 of the wanted one (the paper's text; its code asks for exactness)."""
    return float(abs(len(split_words(text)) - target.wanted["words"]) <= 2)


def words_kept(text: str, target: Target) -> float:
    """Share of the given words that stand where they were given: before the gap from the start, after it from the end."""
    before: list[str]
    after: list[str]
    before, after = target.wanted["given"]
    words = split_words(text)
    pairs = [*zip(before, words, strict=False), *zip(reversed(after), reversed(words), strict=False)]
    kept = sum(given == word for given, word in pairs)
    return kept / max(1, len(before) + len(after))


def tag_match(text: str, target: Target) -> float:
    """Share of the wanted universal tags that spaCy finds in their places (Li et al. 2022, as released)."""
    wanted: tuple[str, ...] = target.wanted["tags"]
    found = tags_of(text).universal
    return sum(tag == there for tag, there in zip(wanted, found, strict=False)) / len(wanted)


def tags_strict(text: str, target: Target) -> float:
    """As `tag_match`, over the longer of the two sequences: a text of another length loses (strict)."""
    wanted: tuple[str, ...] = target.wanted["tags"]
    found = tags_of(text).universal
    return sum(tag == there for tag, there in zip(wanted, found, strict=False)) / max(len(wanted), len(found))


def bracket_f1(text: str, target: Target) -> float:
    """Labelled bracket F1 of benepar's tree and the wanted one (texts cut, or padded with full stops, to it)."""
    wanted = target.wanted["tree"]
    size = len(wanted.leaves())
    words = [*split_words(text), *["."] * size][:size]
    return f1(*bracket_counts(wanted, parse([words])[0] if len(words) != len(split_words(text)) else tree_of(text)))


def tree_strict(text: str, target: Target) -> float:
    """Labelled bracket F1 of benepar's tree of the whole text and the wanted one, nothing cut or padded (strict).

    Brackets are compared by their first and last word; where the lengths differ, those behind the difference are lost.
    """
    wanted, found = target.wanted["tree"], tree_of(text)
    if len(wanted.leaves()) == len(found.leaves()):
        return f1(*bracket_counts(wanted, found))
    sides = [
        Counter((c.first, c.last, part) for c in constituents(tree) for part in c.label.split("::")) for tree in (wanted, found)
    ]
    return f1((sides[0] & sides[1]).total(), sides[0].total(), sides[1].total())


def spans_exact(text: str, target: Target) -> float:
    """Share of the wanted spans that are constituents of benepar's tree, ends and label exact."""
    there = set(constituents(tree_of(text)))
    return sum(Constituent(*span) in there for span in target.wanted["spans"]) / len(target.wanted["spans"])


_ALL = (substring, said, realised, exact_length, length_within_2, words_kept, tag_match, tags_strict, bracket_f1, tree_strict,
        spans_exact)  # fmt: skip
METRICS: dict[str, Callable[[str, Target], float]] = {metric.__name__: metric for metric in _ALL}


def distinct(texts: Sequence[str], n: int, size: int | None = None) -> float:
    """Share of n-grams that are new among the n-grams of all texts (Li et al. 2016).

    Args:
        texts: any number.
        n: words in an n-gram.
        size: count only so many texts, the first ones: the measure falls with their number.
    """
    grams: Counter[tuple[str, ...]] = Counter()
    for text in texts[:size]:
        words = split_words(text)
        grams.update(zip(*(words[i:] for i in range(n)), strict=False))
    return len(grams) / max(1, grams.total())


def self_bleu(texts: Sequence[str], count: int = 100) -> float:
    """Mean BLEU-4 of each of the first `count` texts against the others of them (Zhu et al. 2018); less is more diverse."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    parted = [split_words(text) for text in texts[:count]]
    smooth = SmoothingFunction().method1
    scores = [
        sentence_bleu(parted[:i] + parted[i + 1 :], words, smoothing_function=smooth) for i, words in enumerate(parted) if words
    ]
    return fmean(scores) if len(parted) > 1 else 0.0


def copied(texts: Sequence[str], corpus: Sequence[str]) -> float:
    """Share of texts that stand, word for word, in a corpus."""
    known = {tuple(split_words(sentence)) for sentence in corpus}
    return sum(tuple(split_words(text)) in known for text in texts) / max(1, len(texts))


def length_distance(texts: Sequence[str], corpus: Sequence[str]) -> float:
    """Earth mover's distance between the two distributions of lengths, in words."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(*([len(split_words(text)) for text in side] for side in (texts, corpus))))
