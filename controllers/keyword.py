"""Words that must, or must not, occur."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from dlm_control.control.controller import Check, Controller, State
from dlm_control.control.phrases import log_prob_any, log_prob_none
from dlm_control.control.plan import Plan
from dlm_control.control.registry import register_controller
from dlm_control.support.errors import UsageError
from dlm_control.support.values import Fits
from dlm_control.text.words import occurrences, split_words

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_control.diffusion.backbone import Backbone

Phrase = Annotated[str, Fits("at least one word", lambda words: bool(split_words(words)))]


@register_controller("keyword")
class Keyword(Controller):
    """A word or phrase that must occur, or must not; anywhere, or at one position.

    Anywhere: the energy is −log p(it occurs) under the model's own word distributions, so that the place is the model's choice
    (as "anywhere" of Gulrajani & Hashimoto 2023, Plaid §6). A position is exact by construction, and so is the absence of a
    single word.

    Args:
        words: as written in a text, capitals included.
        present: False forbids it.
        position: of its first word, counted from 0; negative counts from the end (−1 is the last word).
    """

    closed_form = True

    def __init__(self, words: Phrase, *, present: bool = True, position: int | None = None) -> None:
        if position is not None and not present:
            raise UsageError(
                "keyword: a position goes with a word that must occur; leave out one of position and present: false"
            )
        self.words, self.present, self.position = words, present, position
        self._phrase = split_words(words)
        if position is not None and position < 0 and position + len(self._phrase) > 0:
            raise UsageError(f"keyword: position: {len(self._phrase)} words do not fit at {position}, counted from the end")
        if position is None and (present or len(self._phrase) > 1):
            self.reads = "log_probs"

    def plan(self, lm: Backbone) -> Plan:
        ids = lm.ids(self.words, "keyword")
        if not self.present:
            return Plan(forbidden=frozenset(ids) if len(ids) == 1 else frozenset())
        if self.position is None:
            return Plan(phrases=((ids,),))
        return Plan(at={self.position + i: frozenset({word}) for i, word in enumerate(ids)})

    def bind(self, lm: Backbone) -> tuple[int, ...]:
        return lm.ids(self.words, "keyword")

    def energy(self, state: State) -> Tensor:
        return -(log_prob_any if self.present else log_prob_none)(state, [state.bound])

    def check(self, text: str) -> Check:
        words = split_words(text)
        places = occurrences(self._phrase, words)
        found = f"at {', '.join(map(str, places))}" if places else "absent"
        if not self.present:
            return Check(float(not places), f"{self.words!r} {found}, expected absent")
        if self.position is None:
            return Check(float(bool(places)), f"{self.words!r} {found}")
        at = self.position if self.position >= 0 else len(words) + self.position
        return Check(float(at in places), f"{self.words!r} {found}, expected at {at}")
