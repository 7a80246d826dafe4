"""Text to words and back: the one rule that tokenizer, controls and scorers share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

# Contractions first ("is|n't", "it|'s"), then letters, numbers with inner points or commas, and single other characters.
# The class [^\W\d_] (letters) means the same to Python's re and to Oniguruma, which runs the fast tokenizer.
WORD = r"[^\W\d_]+(?=n['’]t\b)|n['’]t\b|['’](?:s|re|ve|ll|d|m|S)\b|[^\W\d_]+|\d+(?:[.,]\d+)*|[^\s\w]|_"
_WORD = re.compile(WORD)

_NO_SPACE_BEFORE = re.compile(r" (n['’]t|['’](?:s|re|ve|ll|d|m|S)|[.,!?;:%)\]])(?=\s|$)")
_NO_SPACE_AFTER = re.compile(r"([£$(\[]) ")
_HYPHEN = re.compile(r"(?<=[^\W_]) - (?=[^\W_]|£)")


def split_words(text: str) -> list[str]:
    """The words, numbers and punctuation marks of a text, nearly as spaCy's English rules part them."""
    return _WORD.findall(unicodedata.normalize("NFC", text))


def join_words(words: Iterable[str]) -> str:
    """Words as a sentence is written: no space before a full stop, none inside a hyphenated word.

    `split_words` gives the same words back: where closing the gaps would make others ("n't n't"), all spaces stay.
    """
    spaced = " ".join(words)
    text = _HYPHEN.sub("-", _NO_SPACE_BEFORE.sub(r"\1", _NO_SPACE_AFTER.sub(r"\1", spaced)))
    return text if split_words(text) == spaced.split(" ") else spaced


def occurrences(phrase: list[str], words: list[str]) -> list[int]:
    """The places at which a phrase begins in a list of words."""
    return [i for i in range(len(words) - len(phrase) + 1) if words[i : i + len(phrase)] == phrase]


def space_after(words: Sequence[str]) -> list[bool]:
    """Whether a space follows each word where the words are written as a sentence; False after the last."""
    text, at, spaces = join_words(words), 0, []
    for word in words:
        at = text.index(word, at) + len(word)
        spaces.append(text[at : at + 1] == " ")
    return spaces
