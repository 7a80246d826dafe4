"""What a text says: fields of its domain and their values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from dlm_control.control.controller import Check, Controller, State
from dlm_control.control.phrases import log_prob_any, log_prob_none
from dlm_control.control.plan import Plan
from dlm_control.control.registry import register_controller
from dlm_control.controllers.fields.domain import ABSENT, Domain
from dlm_control.support.errors import ErrorCollector, UsageError
from dlm_control.support.values import Bound
from dlm_control.text.words import occurrences, split_words

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_control.controllers.fields.classifier import LoadedGuide
    from dlm_control.diffusion.backbone import Backbone


Value = str | bool | int | float  # YAML reads yes as a truth value, and 5 as a number


class _Said(NamedTuple):
    """A field's value as ids: of its wordings that the vocabulary has; for an absent one of all ways to speak of the field."""

    absent: bool
    wordings: tuple[tuple[int, ...], ...]


@register_controller("semantic")
class Semantic(Controller):
    """Fields have values, such as food = Japanese, or are not spoken of.

    Args:
        field: one of the domain's; those of the bundled restaurants are name, eatType, area, customer rating, near,
            familyFriendly, food and priceRange.
        value: one of the field's values, or `absent`: the text must not speak of it.
        fields: several at once, in place of `field` and `value`, such as {food: Japanese, price: absent}.
        guide: `words`: p(one of the value's wordings occurs) under the model's own word distributions;
            `classifier`: a noise-aware network's p(value | field, x_t), as in 2022 (`dlm train --kind semantic-guide`).
        domain: which fields there are: a domain file (docs/own-corpus.md) or a bundled name (`e2e`); by default the model's
            own, which is `fields.yaml` in its folder or what its config names.
    """

    def __init__(
        self,
        field: str | None = None,
        value: Value | None = None,
        *,
        fields: Annotated[Mapping[str, Value], Bound("such as {food: Japanese}", bool)] | None = None,
        guide: Literal["words", "classifier"] = "words",
        domain: str | Path | Domain | None = None,
    ) -> None:
        if (fields is None) == (field is None and value is None):
            raise UsageError("semantic: give either `field` and `value`, or `fields`, such as {food: Japanese, price: absent}")
        given = fields or {}
        if fields is None:
            if field is None or value is None:
                raise UsageError(f"semantic: {'field' if field is None else 'value'}: missing")
            given = {field: value}
        self.fields = {key: _plain(expected) for key, expected in given.items()}
        self.guide = guide
        self.reads = "log_probs" if guide == "words" else "x_t"
        self._domain = _domain_at(domain)
        if self._domain is not None:
            self.fields = _known(self.fields, self._domain)

    @property
    def closed_form(self) -> bool:  # type: ignore[override]
        """The wordings' probability has one, the classifier's verdict has not."""
        return self.guide == "words"

    @property
    def has_domain(self) -> bool:
        """Is it known which fields there are?"""
        return self._domain is not None

    @property
    def domain(self) -> Domain:
        """Which fields there are.

        Raises:
            UsageError: it was not given, and the control was not made `for_model`.
        """
        if self._domain is None:
            raise UsageError("semantic: the fields are those of a model, which is not known here; give `domain`, such as 'e2e'")
        return self._domain

    def for_model(self, lm: Backbone) -> Semantic:
        if self._domain is not None:
            return self
        from dlm_control.controllers.fields.lookup import domain_of

        try:
            return Semantic(fields=self.fields, guide=self.guide, domain=domain_of(lm))
        except UsageError as error:
            raise error if str(error).startswith("semantic: ") else UsageError(f"semantic: {error}") from None

    def _said(self, lm: Backbone) -> dict[str, _Said]:
        vocabulary = lm.tokenizer.get_vocab()
        found = {}
        for field, value in self.fields.items():
            wordings = [split_words(wording) for wording in self.domain.wordings(field, value)]
            known = [wording for wording in wordings if all(word in vocabulary for word in wording)]
            found[field] = _Said(value == ABSENT, tuple(tuple(vocabulary[word] for word in wording) for wording in known))
        return found

    def _classifier(self, lm: Backbone) -> LoadedGuide:
        from dlm_control.controllers.fields.classifier import semantic_guide

        return semantic_guide(lm, self.fields)

    def plan(self, lm: Backbone) -> Plan:
        if self._domain is None:
            return self.for_model(lm).plan(lm)
        demands, forbidden = [], frozenset[int]()
        for field, (absent, wordings) in self._said(lm).items():
            if absent:
                forbidden |= {wording[0] for wording in wordings if len(wording) == 1}
            elif not wordings:
                raise UsageError(f"semantic: the model's vocabulary has no wording of {field} = {self.fields[field]}")
            else:
                demands.append(wordings)
        if self.guide == "classifier":
            self._classifier(lm)  # a missing or unfitting guide is a fault to find now
        return Plan(phrases=tuple(demands), forbidden=forbidden)

    def bind(self, lm: Backbone) -> LoadedGuide | list[_Said]:
        """The classifier; or the wordings of each field that the vocabulary has."""
        if self._domain is None:
            return self.for_model(lm).bind(lm)
        return self._classifier(lm) if self.guide == "classifier" else list(self._said(lm).values())

    def energy(self, state: State) -> Tensor:
        if self.guide == "classifier":
            return sum_of([state.bound.energy(state.x_t, state.t, field, value) for field, value in self.fields.items()])
        terms = []
        seq_len = state.log_probs.shape[1]
        for absent, wordings in state.bound:
            longer = [wording for wording in wordings if 1 < len(wording) <= seq_len]  # single words are forbidden by the plan
            if not absent:
                terms.append(-log_prob_any(state, wordings))
            elif longer:
                terms.append(-log_prob_none(state, longer))
        return sum_of(terms) if terms else state.log_probs_of(()).sum((1, 2))  # 0

    def check(self, text: str) -> Check:
        words = [word.lower() for word in split_words(text)]
        verdicts = [_verdict(self.domain, field, value, words) for field, value in self.fields.items()]
        wrong = [verdict for verdict in verdicts if not verdict.passed]
        return Check(1 - len(wrong) / len(verdicts), "; ".join(verdict.why for verdict in wrong or verdicts))


def _plain(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _domain_at(given: str | Path | Domain | None) -> Domain | None:
    from dlm_control.controllers.fields.lookup import domain_at

    if given is None or isinstance(given, Domain):
        return given
    try:
        return domain_at(given)
    except UsageError as error:
        raise UsageError(f"semantic: domain: {error}") from None


def _known(given: Mapping[str, str], domain: Domain) -> dict[str, str]:
    """The fields and values by the names that the domain has for them."""
    problems, fields = ErrorCollector("semantic"), dict[str, str]()
    for key, expected in given.items():
        try:
            name = domain.field_of(key)
            if name in fields:
                problems.add("fields", f"{name} is given twice")
            fields[name] = domain.value_of(name, expected)
        except UsageError as error:
            problems.add("", str(error))
    problems.raise_if_any()
    return fields


def _verdict(domain: Domain, field: str, value: str, words: list[str]) -> Check:
    wordings = [split_words(wording) for wording in domain.wordings(field, value)]
    said = next((p for p in wordings if occurrences([word.lower() for word in p], words)), None)
    if value == ABSENT:
        return Check(float(said is None), f"says {' '.join(said)!r} of {field}" if said else f"does not mention {field}")
    return Check(float(said is not None), f"says {' '.join(said)!r}" if said else f"does not say {field} = {value}")


def sum_of(terms: list[Tensor]) -> Tensor:
    """The sum of (batch,) tensors."""
    import torch

    return torch.stack(terms).sum(0)
