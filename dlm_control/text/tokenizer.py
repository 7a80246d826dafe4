"""Word-level tokenizer: words, numbers and punctuation as spaCy's English rules part them, case kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import cast

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dlm_control.text.words import WORD, join_words, split_words

UNK, PAD, END, MASK = "UNK", "PAD", "END", "MASK"


class WordTokenizer(PreTrainedTokenizerFast):
    """One token a word. Special tokens: UNK (unknown word), PAD, END (after the last word); MASK where a model needs one."""

    # No __init__ here: transformers 5 would then rebuild the backend as BPE when it loads tokenizer.json.

    @classmethod
    def train(cls, texts: Iterable[str], min_count: int = 11, mask: bool = False) -> WordTokenizer:
        """A tokenizer of a corpus.

        Args:
            texts: the corpus.
            min_count: every word seen at least that often has an id, in order of first occurrence. The default is the count of
                the 2022 release (more than 10).
            mask: add a mask token behind the words, whose ids are the same with and without it.
        """
        special = [UNK, PAD, END, *[MASK][: int(mask)]]
        counts = Counter(word for text in texts for word in split_words(text))
        words = [word for word, count in counts.items() if count >= min_count and word not in special]
        vocab = {word: i for i, word in enumerate([*special[:3], *words, *special[3:]])}
        return cls.from_vocab(vocab, **({"mask_token": MASK} if mask else {}))

    @classmethod
    def from_vocab(cls, vocab: Mapping[str, int], signs: Iterable[str] = (), **special: str) -> WordTokenizer:
        """A tokenizer of given words.

        Args:
            vocab: the ids of all words and signs, UNK, PAD and END among them.
            signs: further words that stand in no text.
            **special: further special tokens, such as mask_token="MASK".
        """
        usual = {"unk_token": UNK, "pad_token": PAD, "bos_token": END, "eos_token": END}
        named = {**usual, **special}
        further = sorted({*signs} - {*named.values()}, key=lambda sign: vocab[sign])
        extra = {"extra_special_tokens": further} if further else {}
        return cls(tokenizer_object=_tokenizer(dict(vocab)), **named, **extra)

    def words(self, text: str) -> list[str]:
        """The words of a text, unknown ones included, as written."""
        return split_words(text)

    def word_ids(self, text: str) -> list[int]:
        """The ids of a text's words, without END."""
        return cast(list[int], self.convert_tokens_to_ids(self.words(text)))

    def unknown(self, text: str) -> list[str]:
        """The words of a text that the vocabulary lacks."""
        return [word for word in self.words(text) if word not in self.get_vocab()]

    def join(self, words: Iterable[str]) -> str:
        """Words as a sentence is written: no space before a full stop, none inside a hyphenated word."""
        return join_words(words)

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
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    return tokenizer
