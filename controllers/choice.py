"""One of several phrases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from dlm_control.control.controller import Check
from dlm_control.control.plan import Language
from dlm_control.control.registry import register_controller
from dlm_control.controllers.language import LanguageController
from dlm_control.controllers.pattern import Pattern
from dlm_control.support.errors import UsageError
from dlm_control.support.values import Fits
from dlm_control.text.words import split_words

if TYPE_CHECKING:
    from dlm_control.diffusion.backbone import Backbone

Phrase = Annotated[str, Fits("at least one word", lambda words: bool(split_words(words)))]


@register_controller("choice")
class Choice(LanguageController):
    """The text is exactly one of several phrases, or one of them stands at a position.

    Which one it is is the model's choice: a `pattern` of alternatives conditions its word distributions.

    Args:
        phrases: as written in a text, capitals and punctuation marks included.
        position: of the phrase's first word, counted from 0; negative counts from the end, and is that of its last word: −1
            says that the text ends with the phrase. None: the phrase is the whole text.
    """

    def __init__(self, phrases: Sequence[Phrase], *, position: int | None = None) -> None:
        if not phrases:
            raise UsageError("choice: phrases: expected one phrase or more")
        self.phrases, self.position = phrases, position
        one = f"({'|'.join(map(_literally, phrases))})"
        if position is None:
            self._pattern = Pattern(one)
        elif position >= 0:
            self._pattern = Pattern(f"?{{{position}}} {one} *")
        else:
            self._pattern = Pattern(f"* {one} ?{{{-1 - position}}}")

    def language(self, lm: Backbone) -> Language:
        lm.ids(" ".join(self.phrases), "choice")
        return self._pattern.language(lm)

    def check(self, text: str) -> Check:
        obeys = self._pattern.check(text).passed
        place = "the text" if self.position is None else f"what stands at {self.position}"
        return Check(float(obeys), f"{place} is {'one' if obeys else 'none'} of {len(self.phrases)} phrases")


def _literally(phrase: str) -> str:
    """The phrase as a pattern: marks that mean something there lose their meaning."""
    marks = {word for word in split_words(phrase) if len(word) == 1 and not word.isalnum()} - {"_"}
    return " ".join(f"\\{word}" if word in marks else word for word in split_words(phrase))
