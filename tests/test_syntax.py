"""Tags, trees and spans: reading them, counting brackets, and judging texts by spaCy and benepar."""

from __future__ import annotations

from pathlib import Path

import pytest
from nltk import Tree

from dlm_control.controllers.linguistics.taggers import parse, sentences, tag
from dlm_control.controllers.linguistics.trees import Constituent, bare, bracket_counts, constituents, f1, leaves, read_tree
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.controllers.span import Span
from dlm_control.controllers.tree import SyntaxTree
from dlm_control.support.errors import UsageError

PUB = "(S (NP (DT The) (NN pub)) (VP (VBZ is) (ADJP (JJ cheap))) (. .))"


def test_constituents_are_inclusive_and_join_unary_chains() -> None:
    tree = read_tree("(TOP (S (NP (PRP It)) (VP (VBZ is) (S (VP (VBG serving) (NP (NN food)))))))")
    assert constituents(tree) == [(0, 3, "S"), (0, 0, "NP"), (1, 3, "VP"), (2, 3, "S::VP"), (3, 3, "NP")]


def test_constituents_are_nltks_subtrees() -> None:
    """Every phrase of nltk's tree, counted by another walk: its leaf positions."""
    tree = Tree.fromstring("(S (NP (NP (DT a) (NN b)) (PP (IN c) (NP (NN d)))) (VP (VBZ e) (ADJP (RB f) (JJ g))) (. .))")
    order = {position: i for i, position in enumerate(tree.treepositions("leaves"))}
    expected = set()
    for position in tree.treepositions():
        if isinstance(tree[position], Tree) and tree[position].height() > 2:
            below = [i for leaf, i in order.items() if leaf[: len(position)] == position]
            expected.add((min(below), max(below), tree[position].label()))
    assert set(constituents(tree)) == expected


def test_leaves_may_be_open() -> None:
    assert leaves(read_tree("(S (NP (DT) (NN ?)) (VP ? (NP pub)))")) == [
        ("DT", None),
        ("NN", None),
        (None, None),
        (None, "pub"),
    ]
    assert str(bare(read_tree(PUB))) == "(S (NP ? ?) (VP ? (ADJP ?)) ?)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a bracketed tree"),
        ("(S (NP ?)", r"column 1: the bracket '\(S \(NP \?\)' is never closed"),
        ("(S (NP ?)))", r"column 11: '\)' stands after the tree"),
        ("(S (NP ?)) (NP ?)", "column 12: .* stands after the tree, which ends at column 10"),
        ("S (NP ?)", "column 1: expected '\\('"),
        ("(S () (NP ?))", "column 4: a bracket without a label"),
    ],
)
def test_a_malformed_tree_is_told_where(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SyntaxTree(text)


def test_brackets_are_counted_as_evalb_does() -> None:
    """By hand. Wanted: S 0-6, NP 0-2, VP 2-6, NP 3-6, NP 3-4, PP 4-6, NP 5-6, without the full stop: 7 brackets.

    Found: the NP over "cheap" and the PP is missing, so the six others match.
    """
    expected = read_tree("(TOP (S (NP (DT The) (NN pub)) (VP (VBZ is) (NP (NP (JJ cheap)) (PP (IN by) (NP (NN x))))) (. .)))")
    found = read_tree("(TOP (S (NP (DT The) (NN pub)) (VP (VBZ is) (NP (JJ cheap)) (PP (IN by) (NP (NN x)))) (. .)))")
    assert bracket_counts(expected, found) == (6, 7, 6)
    assert f1(6, 7, 6) == pytest.approx(2 * (6 / 7) * 1 / (6 / 7 + 1))
    assert bracket_counts(expected, expected) == (7, 7, 7)


def test_punctuation_and_prt_count_as_in_collins_prm() -> None:
    """A comma inside or outside an NP makes no difference, PRT is ADVP, a chain counts for each label."""
    inside = read_tree("(S (NP (NN a) (, ,)) (VP (VBZ b) (PRT (RP up))))")
    outside = read_tree("(S (NP (NN a)) (, ,) (VP (VBZ b) (ADVP (RP up))))")
    assert bracket_counts(inside, outside) == (4, 4, 4)
    chain, top = read_tree("(S (VP (VB a) (NN b)))"), read_tree("(S (VB a) (NN b))")
    assert bracket_counts(chain, top) == (1, 2, 1)


def test_trees_of_other_lengths_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="5 leaves expected, 1 found"):
        bracket_counts(read_tree(PUB), read_tree("(NP (NN a))"))


def test_sentences_end_at_stops() -> None:
    assert sentences("a . b ! ? c".split()) == [["a", "."], ["b", "!", "?"], ["c"]]


def test_spacy_and_benepar_judge_a_plain_sentence() -> None:
    words = "The pub is cheap . It serves food .".split()
    assert tag([words])[0].universal == ("DET", "NOUN", "AUX", "ADJ", "PUNCT", "PRON", "VERB", "NOUN", "PUNCT")
    found = parse([words])[0]
    assert found.leaves() == words
    assert {(0, 4, "S"), (0, 1, "NP"), (2, 3, "VP"), (5, 8, "S"), (7, 7, "NP")} <= set(constituents(found))


@pytest.mark.parametrize(
    ("control", "text", "score"),
    [
        (PartsOfSpeech("DET NOUN AUX ADJ PUNCT"), "The pub is cheap.", 1.0),
        (PartsOfSpeech("DT NN VBZ ? ."), "The pub is cheap.", 1.0),
        (PartsOfSpeech("DET NOUN AUX NOUN PUNCT"), "The pub is cheap.", 0.8),
        (PartsOfSpeech("AUX", position=2), "The pub is cheap and small.", 1.0),
        (PartsOfSpeech("DET NOUN"), "The pub is cheap.", 0.4),
        (Span([0, 1, "NP"]), "The pub is cheap.", 1.0),
        (Span([[0, 1, "NP"], [0, 2, "NP"]]), "The pub is cheap.", 0.5),
        (SyntaxTree(PUB), "The pub is cheap.", 1.0),
        (SyntaxTree(PUB), "The pub is very cheap.", 0.0),
        (SyntaxTree(PUB), "The food is cheap.", 0.99),
        (SyntaxTree("(S (NP ? ?) (VP ? ? ?))", partial=True), "The pub is cheap.", 2 / 3),
    ],
)
def test_checks_judge_texts(control: PartsOfSpeech | Span | SyntaxTree, text: str, score: float) -> None:
    check = control.check(text)
    assert check.score == pytest.approx(score), check.why
    assert check.why


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PartsOfSpeech("DET NOWN"), "unknown universal tag 'NOWN'.*NOUN"),
        (lambda: PartsOfSpeech("DET NN"), "it is a penn tag: do not mix"),
        (lambda: PartsOfSpeech("? ?"), "leaves every tag open"),
        (lambda: PartsOfSpeech("DET", position=-1), "position: expected a whole number"),
        (lambda: Span([2, 1, "NP"]), "0 <= first <= last"),
        (lambda: Span([0, 1, "NPP"]), "unknown label 'NPP'"),
        (lambda: Span([[0, 2, "NP"], [1, 3, "VP"]]), "overlap without nesting"),
        (lambda: Span([[0, 2, "NP"], [0, 2, "S"]]), "unary chain"),
        (lambda: SyntaxTree("(S (NN pub))"), None),
        (lambda: SyntaxTree("(NN pub)"), "no phrase"),
        (lambda: SyntaxTree("(S (NOWN pub) ?)"), "unknown tag 'NOWN'"),
        (lambda: SyntaxTree("(Q ? ?)", guide="best"), "guide: unknown 'best'; there are: words, x_t, x0"),  # type: ignore[arg-type]
    ],
)
def test_faulty_targets_are_explained(make: object, message: str | None) -> None:
    assert callable(make)
    if message is None:
        make()
        return
    with pytest.raises(UsageError, match=message):
        make()


def test_a_constituent_prints_as_it_is_given() -> None:
    assert repr(Span([0, 1, "NP"])) == "Span(spans=[[0, 1, 'NP']], guide='words')"
    assert Constituent(0, 1, "NP") == (0, 1, "NP")


def test_a_missing_tool_leaves_a_text_unjudged(monkeypatch: pytest.MonkeyPatch) -> None:
    from dlm_control.controllers.linguistics import taggers as linguistics

    def missing() -> None:
        raise UsageError("part-of-speech tags need spaCy: pip install 'dlm-control[syntax]'")

    monkeypatch.setattr(linguistics, "_spacy", missing)
    check = PartsOfSpeech("DET").check("The")
    assert not check.judged and not check.passed and "pip install" in check.why


def test_annotating_resumes_and_names_what_the_parser_rejects(tmp_path: Path) -> None:
    from dlm_control.controllers.linguistics.annotate import annotate_file

    corpus = tmp_path / "corpus.csv"
    corpus.write_text('id,ref\n1,The pub is cheap.\n2,"It serves food."\n3,The pub is cheap.\n4,' + "very " * 200 + "long\n")
    first = annotate_file(corpus, "ref", tmp_path / "out")
    assert (first.texts, first.new) == (3, 3) and [text[:9] for text in first.rejected] == ["very very"]
    assert "up to 150 words, got 201" in next(iter(first.rejected.values()))
    rows = first.file.read_text().splitlines()
    assert rows[0] == "id,ref,words,penn,pos,tree" and len(rows) == 4
    assert rows[1].startswith("1,The pub is cheap.,The pub is cheap .,DT NN VBZ JJ .,DET NOUN AUX ADJ PUNCT,(TOP (S ")
    store = tmp_path / "out" / "annotations.jsonl"
    store.write_text(store.read_text()[:-20])  # killed while writing
    again = annotate_file(corpus, "ref", tmp_path / "out")
    assert again.new == 1 and again.file.read_text().splitlines() == rows


def test_trees_are_kept_within_bounds_and_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from dlm_control.controllers.linguistics import taggers as linguistics

    nltk = pytest.importorskip("nltk")
    asked: list[str] = []

    def parse(texts: list[list[str]]) -> list[object]:
        asked.extend(" ".join(words) for words in texts)
        return [nltk.Tree("TOP", words) for words in texts]

    monkeypatch.setattr(linguistics, "parse", parse)
    monkeypatch.setattr(linguistics, "_trees", {})
    monkeypatch.setattr(linguistics, "_MOST_TREES", 3)
    assert [tree.leaves() for tree in linguistics.trees_of("abcdea")] == [[letter] for letter in "abcdea"]
    assert list(linguistics._trees) == ["c", "d", "e"]
    linguistics.trees_of("cfa")
    assert asked == [*"abcdefa"] and list(linguistics._trees) == ["c", "f", "a"]


def test_no_words_are_no_sentence() -> None:
    assert sentences([]) == []


@pytest.mark.parametrize("text", ["", " ", "\n"])
@pytest.mark.parametrize("control", [Span([0, 1, "NP"]), SyntaxTree("(S NP VP)"), PartsOfSpeech("DET NOUN")])
def test_a_text_without_words_obeys_nothing(control: PartsOfSpeech | Span | SyntaxTree, text: str) -> None:
    assert not control.check(text).passed
