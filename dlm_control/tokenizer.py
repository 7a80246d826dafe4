"""Word-level tokenizer: words, numbers and punctuation as spaCy's English rules part them, case kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

UNK, PAD, END = "UNK", "PAD", "END"

# Contractions first ("is|n't", "it|'s"), then letters, numbers with inner points or commas, and single other characters.
_WORD = r"\p{L}+(?=n['’]t\b)|n['’]t\b|['’](?:s|re|ve|ll|d|m|S)\b|\p{L}+|\d+(?:[.,]\d+)*|[^\s\p{L}\d]"

_NO_SPACE_BEFORE = re.compile(r" (n['’]t|['’](?:s|re|ve|ll|d|m|S)|[.,!?;:%)\]])(?=\s|$)")
_NO_SPACE_AFTER = re.compile(r"([£$(\[]) ")
_HYPHEN = re.compile(r"(?<=[^\W_]) - (?=[^\W_]|£)")


class WordTokenizer(PreTrainedTokenizerFast):
    """One token a word. Special tokens: UNK (unknown word), PAD, END (after the last word)."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**{"unk_token": UNK, "pad_token": PAD, "bos_token": END, "eos_token": END, **kwargs})  # type: ignore[arg-type]

    @classmethod
    def train(cls, texts: Iterable[str], min_count: int = 11) -> WordTokenizer:
        """A tokenizer whose vocabulary is every word seen at least `min_count` times, in order of first occurrence.

        The default is the count of the 2022 release (more than 10).
        """
        split = _tokenizer({UNK: 0}).pre_tokenizer
        normalize = _tokenizer({UNK: 0}).normalizer
        counts = Counter(word for text in texts for word, _ in split.pre_tokenize_str(normalize.normalize_str(text)))
        words = [word for word, count in counts.items() if count >= min_count and word not in (UNK, PAD, END)]
        return cls(tokenizer_object=_tokenizer({word: i for i, word in enumerate([UNK, PAD, END, *words])}))

    def words(self, text: str) -> list[str]:
        """The words of a text, unknown ones included, as written."""
        backend = self.backend_tokenizer
        return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))]

    def word_ids(self, text: str) -> list[int]:
        """The ids of a text's words, without END."""
        ids: list[int] = self.convert_tokens_to_ids(self.words(text))
        return ids

    def unknown(self, text: str) -> list[str]:
        """The words of a text that the vocabulary lacks."""
        return [word for word in self.words(text) if word not in self.get_vocab()]

    def join(self, words: Iterable[str]) -> str:
        """Words as a sentence is written: no space before a full stop, none inside a hyphenated word."""
        text = _NO_SPACE_AFTER.sub(r"\1", " ".join(words))
        return _HYPHEN.sub("-", _NO_SPACE_BEFORE.sub(r"\1", text))

    def until_end(self, ids: Iterable[int]) -> list[int]:
        """The ids before the first END; PADs among them stay, for a PAD inside a text is a fault worth seeing."""
        kept: list[int] = []
        for i in ids:
            if i == self.eos_token_id:
                break
            kept.append(int(i))
        return kept


def _tokenizer(vocab: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNK))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)
    return tokenizer
