"""What a text says: fields of the E2E data and their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from dlm_control.control.controller import Check, Controller, State
from dlm_control.control.phrases import log_prob_any, log_prob_none
from dlm_control.control.plan import Plan
from dlm_control.control.registry import register_controller
from dlm_control.controllers.e2e.fields import ABSENT, MENTIONS, PHRASES, field_of, value_of
from dlm_control.support.errors import ErrorCollector, UsageError
from dlm_control.support.values import Bound
from dlm_control.text.words import occurrences, split_words

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_control.controllers.e2e.classifier import LoadedGuide
    from dlm_control.diffusion.backbone import Backbone


Value = str | bool | int | float  # YAML reads yes as a truth value, and 5 as a number


@register_controller("semantic")
class Semantic(Controller):
    """E2E fields have values, such as food = Japanese, or are not spoken of.

    Args:
        field: name, eatType, area, customer rating, near, familyFriendly, food or priceRange.
        value: one of the field's values, or `absent`: the text must not speak of it.
        fields: several at once, in place of `field` and `value`, such as {food: Japanese, price: absent}.
        guide: `words`: p(one of the value's wordings occurs) under the model's own word distributions;
            `classifier`: a noise-aware network's p(value | field, x_t), as in 2022 (`dlm train configs/e2e-semantic.yaml`).
    """

    def __init__(
        self,
        field: str | None = None,
        value: Value | None = None,
        *,
        fields: Annotated[Mapping[str, Value], Bound("such as {food: Japanese}", bool)] | None = None,
        guide: Literal["words", "classifier"] = "words",
    ) -> None:
        if (fields is None) == (field is None and value is None):
            raise UsageError("semantic: give either `field` and `value`, or `fields`, such as {food: Japanese, price: absent}")
        given = fields or {}
        if fields is None:
            if field is None or value is None:
                raise UsageError(f"semantic: {'field' if field is None else 'value'}: missing")
            given = {field: value}
        problems = ErrorCollector("semantic")
        self.fields: dict[str, str] = {}
        for key, expected in given.items():
            try:
                name = field_of(key)
                if name in self.fields:
                    problems.add("fields", f"{name} is given twice")
                self.fields[name] = value_of(name, expected)
            except UsageError as error:
                problems.add("", str(error).removeprefix("semantic: "))
        problems.raise_if_any()
        self.guide = guide
        self.reads = "log_probs" if guide == "words" else "x_t"

    @property
    def closed_form(self) -> bool:  # type: ignore[override]
        """The wordings' probability has one, the classifier's verdict has not."""
        return self.guide == "words"

    def _known(self, lm: Backbone, field: str) -> tuple[tuple[int, ...], ...]:
        """The wordings of a field's value (for an absent one: of all values) that the vocabulary has, as ids."""
        vocabulary = lm.tokenizer.get_vocab()
        return tuple(
            tuple(vocabulary[word] for word in phrase)
            for phrase in _wordings(field, self.fields[field])
            if all(word in vocabulary for word in phrase)
        )

    @staticmethod
    def _classifier(lm: Backbone) -> LoadedGuide:
        from dlm_control.controllers.e2e.classifier import semantic_guide

        return semantic_guide(lm)

    def plan(self, lm: Backbone) -> Plan:
        demands, forbidden = [], frozenset[int]()
        for field, value in self.fields.items():
            known = self._known(lm, field)
            if value == ABSENT:
                forbidden |= {phrase[0] for phrase in known if len(phrase) == 1}
            elif not known:
                raise UsageError(f"semantic: the model's vocabulary has no wording of {field} = {value}")
            else:
                demands.append(known)
        if self.guide == "classifier":
            self._classifier(lm)  # a missing or unfitting guide is a fault to find now
        return Plan(phrases=tuple(demands), forbidden=forbidden)

    def bind(self, lm: Backbone) -> LoadedGuide | dict[str, tuple[tuple[int, ...], ...]]:
        """The classifier; or the wordings of each field that the vocabulary has."""
        return self._classifier(lm) if self.guide == "classifier" else {field: self._known(lm, field) for field in self.fields}

    def energy(self, state: State) -> Tensor:
        if self.guide == "classifier":
            network = state.bound
            return sum_of([network.energy(state.x_t, state.t, field, value) for field, value in self.fields.items()])
        terms = []
        for field, value in self.fields.items():
            known = state.bound[field]
            seq_len = state.log_probs.shape[1]
            longer = [phrase for phrase in known if 1 < len(phrase) <= seq_len]  # single words are forbidden by the plan
            if value != ABSENT:
                terms.append(-log_prob_any(state, known))
            elif longer:
                terms.append(-log_prob_none(state, longer))
        return sum_of(terms) if terms else state.log_probs_of(()).sum((1, 2))  # 0

    def check(self, text: str) -> Check:
        words = [word.lower() for word in split_words(text)]
        verdicts = [_verdict(field, value, words) for field, value in self.fields.items()]
        wrong = [verdict for verdict in verdicts if not verdict.passed]
        return Check(1 - len(wrong) / len(verdicts), "; ".join(verdict.why for verdict in wrong or verdicts))


def _wordings(field: str, value: str) -> list[list[str]]:
    """How texts say a value; for ABSENT all ways to speak of the field."""
    phrases = PHRASES[field][value] if value != ABSENT else [*MENTIONS[field], *(p for v in PHRASES[field].values() for p in v)]
    return [split_words(phrase) for phrase in phrases]


def _verdict(field: str, value: str, words: list[str]) -> Check:
    said = next((p for p in _wordings(field, value) if occurrences([word.lower() for word in p], words)), None)
    if value == ABSENT:
        return Check(float(said is None), f"says {' '.join(said)!r} of {field}" if said else f"does not mention {field}")
    return Check(float(said is not None), f"says {' '.join(said)!r}" if said else f"does not say {field} = {value}")


def sum_of(terms: list[Tensor]) -> Tensor:
    """The sum of (batch,) tensors."""
    import torch

    return torch.stack(terms).sum(0)
