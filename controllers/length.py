"""How many words a text has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from dlm_control.control.controller import Check, Controller
from dlm_control.control.plan import Plan
from dlm_control.control.registry import register_controller
from dlm_control.support.errors import UsageError
from dlm_control.support.values import Above
from dlm_control.text.words import split_words

if TYPE_CHECKING:
    from dlm_control.diffusion.backbone import Backbone

Count = Annotated[int, Above(0)]


@register_controller("length")
class Length(Controller):
    """A number of words, exact or within bounds; punctuation marks count as words.

    Exact by construction: END stands where the length says, and nowhere before (token guidance with a known position;
    Gulrajani & Hashimoto 2023, Plaid §6).

    Args:
        words: exactly so many.
        at_least: no fewer.
        at_most: no more.
    """

    def __init__(self, words: Count | None = None, *, at_least: Count | None = None, at_most: Count | None = None) -> None:
        if (words is None) == (at_least is None and at_most is None):
            raise UsageError("length: give either `words` or `at_least` and/or `at_most`")
        self.at_least = words if words is not None else at_least
        self.at_most = words if words is not None else at_most
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise UsageError(f"length: at_least ({self.at_least}) exceeds at_most ({self.at_most})")

    def plan(self, lm: Backbone) -> Plan:
        return Plan(min_words=self.at_least, max_words=self.at_most)

    def check(self, text: str) -> Check:
        words = len(split_words(text))
        low, high = self.at_least or 1, self.at_most
        expected = str(low) if low == high else f"{low} or more" if high is None else f"{low} to {high}"
        return Check(float(low <= words and (high is None or words <= high)), f"{words} words, expected {expected}")
