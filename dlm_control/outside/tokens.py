"""The tokens of a subword vocabulary as controls of characters see them, each with the characters that it spells."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import ClassVar

import torch

from dlm_control.control.controller import Unit
from dlm_control.outside.whole_words import BROKEN, WholeWords
from dlm_control.support.errors import UsageError
from dlm_control.text.tokenizer import END, MASK, PAD, UNK, WordTokenizer

_TRIED = 64  # tokens in the row that shows whether texts are what their tokens spell


class SpelledTokenizer(WordTokenizer):
    """A tokenizer whose words are spelled with their spaces, and joined without any."""

    def words(self, text: str) -> list[str]:
        """The text cut from left to right, each time behind the longest word; a character of no word stands alone."""
        known, found = self.get_vocab(), list[str]()
        longest = max(map(len, known))
        while text:
            size = next((n for n in range(min(longest, len(text)), 1, -1) if text[:n] in known), 1)
            found.append(text[:size])
            text = text[size:]
        return found

    def join(self, words: Iterable[str]) -> str:
        return "".join(words)


class Tokens(WholeWords):
    """Every token of a tokenizer, as what it spells between others: `Ġriver` is " river", and `er` is "er".

    In place of `WholeWords`, for controls that act on tokens, such as `json`. Parts of characters, and signs of the model's
    own, are never written.

    Args:
        tokenizer: of the model, any of transformers that writes texts by joining what its tokens spell.
        **ids: as `WholeWords`, but for `lexicon`.

    Raises:
        UsageError: it has no END, or writes texts in another way.
    """

    words_class: ClassVar[type[WordTokenizer]] = SpelledTokenizer
    unit: ClassVar[Unit] = "tokens"

    def _read(self, lexicon: Collection[str] | None) -> tuple[list[str], list[str]]:
        tokenizer, number = self.tokenizer, len(self.tokenizer)
        own = {*tokenizer.all_special_ids, self.mask_token_id, self.end_token_id, self.pad_token_id}
        neighbour = tokenizer("a", add_special_tokens=False)["input_ids"][-1]  # a space that begins a text may be dropped
        before = len(self._decoded([[neighbour]])[0])
        spelled = [text[before:] for text in self._decoded([[neighbour, token] for token in range(number)])]
        none = {"", UNK, PAD, END, MASK}
        kept = [i for i, text in enumerate(spelled) if i not in own and text not in none and BROKEN not in text]
        order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(0))[:_TRIED].tolist()
        row = [neighbour, *(kept[i] for i in order)]
        if self._decoded([row])[0][before:] != "".join(spelled[token] for token in row[1:]):
            raise UsageError(
                f"tokenizer {tokenizer.name_or_path!r}: its texts are not what its tokens spell one by one; Tokens needs a "
                "tokenizer of byte-level BPE or SentencePiece"
            )
        known = {*kept}
        words = [text if i in known else "" for i, text in enumerate(spelled)]
        return words, words
