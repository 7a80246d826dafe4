"""What a text says: one field of the E2E data has one value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dlm_control.controller import Check, Controller, Plan, State
from dlm_control.controllers.e2e import PHRASES, field_of, value_of
from dlm_control.errors import UsageError
from dlm_control.phrases import log_prob_any
from dlm_control.registry import register_controller
from dlm_control.words import occurrences, split_words

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_control.controllers.semantic_guide import LoadedGuide
    from dlm_control.language_model import LanguageModel


@register_controller("semantic")
class Semantic(Controller):
    """An E2E field has a value, such as food = Japanese.

    Args:
        field: name, eatType, area, customer rating, near, familyFriendly, food or priceRange.
        value: one of the field's values.
        guide: `words`: p(one of the value's wordings occurs) under the model's own word distributions;
            `classifier`: a noise-aware network's p(value | field, x_t), as in 2022 (`dlm train configs/e2e-semantic.yaml`).
    """

    def __init__(self, field: str, value: str, *, guide: Literal["words", "classifier"] = "words") -> None:
        if guide not in ("words", "classifier"):
            raise UsageError(f"semantic: guide: expected 'words' or 'classifier', got {guide!r}")
        self.field = field_of(field)
        self.value = value_of(self.field, value)
        self.guide = guide
        self._phrases = [split_words(phrase) for phrase in PHRASES[self.field][self.value]]
        self.reads = "logits" if guide == "words" else "x_t"

    def _known(self, lm: LanguageModel) -> tuple[tuple[int, ...], ...]:
        """The wordings that the vocabulary has, as word ids."""
        vocabulary = lm.tokenizer.get_vocab()
        return tuple(
            tuple(vocabulary[word] for word in phrase) for phrase in self._phrases if all(word in vocabulary for word in phrase)
        )

    @staticmethod
    def _classifier(lm: LanguageModel) -> LoadedGuide:
        from dlm_control.controllers.semantic_guide import semantic_guide

        return semantic_guide(lm)

    def plan(self, lm: LanguageModel) -> Plan:
        known = self._known(lm)
        if not known:
            raise UsageError(f"semantic: the model's vocabulary has no wording of {self.field} = {self.value}")
        if self.guide == "classifier":
            self._classifier(lm)  # a missing or unfitting guide is a fault to find now
        return Plan(phrases=(known,))

    def energy(self, state: State) -> Tensor:
        if self.guide == "classifier":
            return self._classifier(state.lm).energy(state.x_t, state.t, self.field, self.value)
        assert state.logits is not None
        known = state.lm.once(f"{self!r}", lambda: self._known(state.lm))
        return -log_prob_any(state.logits, known)

    def check(self, text: str) -> Check:
        words = [word.lower() for word in split_words(text)]
        for phrase in self._phrases:
            if occurrences([word.lower() for word in phrase], words):
                return Check(1.0, f"says {' '.join(phrase)!r}")
        return Check(0.0, f"does not say {self.field} = {self.value}")
