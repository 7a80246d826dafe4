"""One finished text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dlm_control.control.controller import Check
from dlm_control.sampling.firmness import Firmness


@dataclass(frozen=True)
class Sample:
    """One finished text.

    Attributes:
        text: as people write it.
        words: as the model wrote them.
        checks: what each control says of it.
        energies: −log p(control | text) in nats, as the controls' guides judge the finished text.
        nats_per_word: mean −log p(word | the others) under the model itself (`Backbone.nats_per_word`), where candidates are
            chosen by it; otherwise None.
        seed, index: with the spec and the preset, they give the same text again, alone or in any batch.
        calls: network calls spent on it.
        firmness: how firmly each control was held, by `firmness`: exact, conditioned, steered, weighed or checked only.
        log_weight: of a particle, how much it counts: log of its share in the estimate of p(controls); otherwise None.
        error: what went wrong with it, where `on_error` is `skip`, or that the run was stopped; it has no text then.
    """

    text: str
    words: tuple[str, ...]
    checks: dict[str, Check]
    energies: dict[str, float]
    nats_per_word: float | None
    seed: int
    index: int
    calls: int
    firmness: Mapping[str, Firmness] = field(default_factory=dict)
    log_weight: float | None = None
    error: str | None = None

    @property
    def passed(self) -> bool:
        """Every check passed."""
        return self.error is None and all(check.passed for check in self.checks.values())

    def __str__(self) -> str:
        return self.text
