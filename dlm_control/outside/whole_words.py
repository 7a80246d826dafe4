"""The whole words of a subword vocabulary: what controls of words see of a model from outside."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from dlm_control.control.controller import Unit
from dlm_control.support.errors import UsageError
from dlm_control.text.tokenizer import END, MASK, PAD, UNK, WordTokenizer
from dlm_control.text.words import split_words

_CHUNK = 8192  # tokens that are decoded at a time
_COMMON = ("a", "the", "of", "in", "is", "A", "The", "1", ".", ",")  # one of them is a token in every vocabulary
BROKEN = "\ufffd"  # what a part of a character is decoded to
_LEAST = 1e-38  # probability of a word; float32 holds it


class WholeWords:
    """The words that are one token of a tokenizer.

    A token is a word if it is read as one between two others: `Ġriver` and `.` are, but not `river`, which is glued to the word
    before it. At the first position such tokens are words too. Several tokens can be one word; its probability is their sum.

    Args:
        tokenizer: of the model, any of transformers.
        mask_token_id: that stands for a token to come, by default the tokenizer's; it may lie outside the vocabulary.
        end_token_id: behind the last word; by default the tokenizer's `eos_token`.
        pad_token_id: behind that; by default END again.
        lexicon: words that texts may hold, such as those of a corpus, punctuation marks among them; by default all. Tokens that
            begin longer words (`Ġexpens`) look like words, and a lexicon keeps them out.

    Attributes:
        words: a tokenizer of the whole words.
        unit: what controls see.

    Raises:
        UsageError: it has no END, or no whole words.
    """

    words_class: ClassVar[type[WordTokenizer]] = WordTokenizer
    unit: ClassVar[Unit] = "words"

    def __init__(
        self,
        tokenizer: Any,
        mask_token_id: int | None = None,
        end_token_id: int | None = None,
        pad_token_id: int | None = None,
        lexicon: Collection[str] | None = None,
    ) -> None:
        end = tokenizer.eos_token_id if end_token_id is None else end_token_id
        if end is None:
            raise UsageError(f"tokenizer {tokenizer.name_or_path!r}: has no eos_token, which ends a text; give end_token_id")
        self.tokenizer = tokenizer
        self.mask_token_id: int | None = tokenizer.mask_token_id if mask_token_id is None else mask_token_id
        self.end_token_id, self.pad_token_id = int(end), int(end if pad_token_id is None else pad_token_id)
        first, later = self._read(lexicon)
        vocab = {word: i for i, word in enumerate([UNK, PAD, END, *dict.fromkeys(word for word in later if word), MASK])}
        self.words = self.words_class.from_vocab(vocab, mask_token=MASK)
        self._word_of = torch.tensor([[vocab.get(word, -1) for word in each] for each in (first, later)])
        for token, sign in ((self.pad_token_id, PAD), (self.end_token_id, END), (self.mask_token_id, MASK)):
            if token is not None and token < self._word_of.shape[1]:
                self._word_of[:, token] = vocab[sign]

    def _read(self, lexicon: Collection[str] | None) -> tuple[list[str], list[str]]:
        """The word that each token is at the first position, and at later ones; empty where it is none."""
        signs, number = {UNK, PAD, END, MASK, *self.tokenizer.all_special_tokens}, len(self.tokenizer)
        neighbour, written = self._neighbour()
        before = len(self._decoded([[neighbour]])[0])
        first, later = list[str](), list[str]()
        for start in range(0, number, _CHUNK):
            tokens = range(start, min(start + _CHUNK, number))
            for text in self._decoded([[token, neighbour] for token in tokens]):
                word, *others = split_words(text) or [""]
                first.append(word if others == [written] else "")
            for text in self._decoded([[neighbour, token, neighbour] for token in tokens]):
                words = split_words(text)
                alone = len(words) == 3 and words[::2] == [written, written]
                later.append(words[1] if alone and not (_glues(words[1]) and not text[before].isspace()) else "")
        known = {word for word in {*later} - signs if word.isprintable() and BROKEN not in word}
        known = known if lexicon is None else known & {*lexicon}
        return [word if word in known else "" for word in first], [word if word in known else "" for word in later]

    def _neighbour(self) -> tuple[int, str]:
        """A token that is a word with a space before it, where the tokenizer marks spaces, and that word."""
        for word in _COMMON:
            found = self.tokenizer(f"{word} {word} {word}", add_special_tokens=False)["input_ids"]
            if len(found) == 3 and split_words(self._decoded([found])[0]) == [word] * 3:
                return int(found[-1]), word
        raise UsageError(
            f"tokenizer {self.tokenizer.name_or_path!r}: none of {', '.join(map(repr, _COMMON))} is one token; it has no "
            "whole words, and controls of words cannot work with it"
        )

    def _decoded(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        return [str(text) for text in self.tokenizer.batch_decode(sequences, clean_up_tokenization_spaces=False)]

    def pieces(self, word: str) -> list[str]:
        """The tokens that the tokenizer writes a word with, behind another."""
        before = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        ids = self.tokenizer(f"a {word}", add_special_tokens=False)["input_ids"]
        return [str(token) for token in self.tokenizer.convert_ids_to_tokens(ids[len(before) :])]

    def word_of(self, size: int, device: torch.device) -> Tensor:
        """(2, size), the word of each of so many tokens at the first position and at later ones; −1 for those that are none."""
        known = self._word_of[:, :size]
        return torch.cat([known, known.new_full((2, size - known.shape[1]), -1)], 1).to(device)

    def word_ids(self, tokens: Tensor) -> Tensor:
        """(batch, positions), the words of tokens from the first position on; −1 for tokens that are none."""
        known = (tokens >= 0) & (tokens < self._word_of.shape[1])
        places = torch.ones_like(tokens[0]).index_fill(0, tokens.new_zeros(1), 0)  # 0 at the first position, 1 later
        words = self._word_of.to(tokens.device)[places, tokens.where(known, 0)].where(known, -1)
        return words if self.mask_token_id is None else words.masked_fill(tokens == self.mask_token_id, self.mask)

    def token_ids(self, words: Tensor) -> Tensor:
        """(batch, positions), a token for each word, from the first position on: of several the one with the lowest id."""
        places = torch.ones_like(words[0]).index_fill(0, words.new_zeros(1), 0)
        return self._token_of.to(words.device)[places, words]

    def inner_token_ids(self, words: Tensor) -> Tensor:
        """(…), a token for each of some words behind the first position: of several the one with the lowest id."""
        return self._token_of.to(words.device)[1, words]

    @cached_property
    def _token_of(self) -> Tensor:
        """(2, words)"""
        token_of = torch.zeros(2, len(self.words), dtype=torch.long)
        for place, each in enumerate(self._word_of.tolist()):
            for token in reversed([token for token, word in enumerate(each) if word >= 0]):
                token_of[place, each[token]] = token
        pad, end = self.words.pad_token_id, self.words.eos_token_id
        signs: dict[int, int | None] = {pad: self.pad_token_id, end: self.end_token_id, self.mask: self.mask_token_id}
        for sign, written in signs.items():
            token_of[:, sign] = written or 0
        return token_of

    @property
    def mask(self) -> int:
        """The word that stands for one to come."""
        mask: int = self.words.mask_token_id
        return mask

    def log_probs(self, logits: Tensor, offset: int) -> Tensor:
        """Log-probabilities of words, among all tokens: (batch, positions, words).

        Args:
            logits: (batch, positions, tokens).
            offset: of the first of these positions in the text.
        """
        probs, word_of = logits.float().softmax(-1), self.word_of(logits.shape[-1], logits.device)
        parts = []
        for part, numbers in zip(_first_and_later(probs, offset), word_of, strict=True):
            words = part.new_zeros(*part.shape[:-1], len(self.words))
            words.index_add_(-1, numbers.clamp(min=0), part * (numbers >= 0))
            words[..., self.words.pad_token_id] = part[..., self.pad_token_id]
            parts.append(words)
        return torch.cat(parts, 1).clamp_(min=_LEAST).log_()

    def of_tokens(self, table: Tensor, size: int, offset: int, none: float | bool) -> Tensor:
        """A table of words for the tokens that are these words: (batch, positions, size).

        Args:
            table: (batch, positions, words).
            size: number of tokens.
            offset: of the first of these positions in the text.
            none: for tokens that are no word.
        """
        word_of = self.word_of(size, table.device)
        parts = []
        for part, numbers in zip(_first_and_later(table, offset), word_of, strict=True):
            parts.append(part[..., numbers.clamp(min=0)].masked_fill(numbers < 0, none))
        return torch.cat(parts, 1)


def _glues(word: str) -> bool:
    """Would it be one word with letters or digits right before it? (`n't` and `'s` would not.)"""
    return word.isalnum() or word[0].isdigit()


def _first_and_later(table: Tensor, offset: int) -> tuple[Tensor, Tensor]:
    """The positions that are first in the text, and the others."""
    first = int(offset == 0)
    return table[:, :first], table[:, first:]
