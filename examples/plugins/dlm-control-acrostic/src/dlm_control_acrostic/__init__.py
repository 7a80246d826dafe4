"""Acrostics: a control, a reader that makes targets for it, and a metric."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dlm_control import Check, Controller, Plan, State, register_controller
from dlm_control.eval import Target, register_metric, register_reader
from dlm_control.support.values import Fits
from dlm_control.text.words import split_words

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_control.diffusion.backbone import Backbone

Letters = Annotated[str, Fits("letters, such as pub", str.isalpha)]


@register_controller("acrostic")
class Acrostic(Controller):
    """The first words of the text begin with these letters, in this order.

    Args:
        letters: one for each word; capitals do not matter.
    """

    reads = "log_probs"
    closed_form = True

    def __init__(self, letters: Letters) -> None:
        self.letters = letters

    def plan(self, lm: Backbone) -> Plan:
        return Plan(min_words=len(self.letters))

    def bind(self, lm: Backbone) -> list[list[int]]:
        """For each letter the ids of the words that begin with it."""
        initials = [word[:1].lower() for word in lm.vocabulary]
        return [[i for i, initial in enumerate(initials) if initial == letter.lower()] for letter in self.letters]

    def energy(self, state: State) -> Tensor:
        """−log p(every letter is there)."""
        chances: Any = [state.log_probs[:, place, ids].logsumexp(-1) for place, ids in enumerate(state.bound)]
        return -sum(chances)

    def check(self, text: str) -> Check:
        found = "".join(word[0] for word in split_words(text)[: len(self.letters)])
        return Check(share(self.letters, text), f"spells {found!r}, expected {self.letters!r}")


@register_reader("acrostics", needs_files=False)
def acrostics(data: Path, guides: object, words: list[Letters]) -> Iterator[Target]:
    """A target for each word; a suite gives them under `targets`."""
    for word in words:
        yield Target(word, [Acrostic(word)], {"letters": word})


@register_metric("initials", wants="letters", judge="a count of letters")
def initials(text: str, target: Target) -> float:
    """The share of the letters that stand at their places."""
    return share(target.expected["letters"], text)


def share(letters: str, text: str) -> float:
    """The share of the letters with which the words at their places begin."""
    pairs = zip(letters.lower(), split_words(text), strict=False)
    return sum(word[:1].lower() == letter for letter, word in pairs) / len(letters)
