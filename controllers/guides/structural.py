"""What the controls of tags, spans and trees share: two guides, and how they are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dlm_control.control.controller import Controller, State
from dlm_control.control.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_control.controllers.guides.energies import Asked
    from dlm_control.controllers.guides.syntax_guide import Labels
    from dlm_control.diffusion.backbone import Backbone


class Structural(Controller):
    """A constraint on parts of speech or constituents.

    Attributes:
        guide: `words`, `x_t` or `x0`: what steers.
        power: to which `words` raises p(structure | word, x_t).
    """

    guide: str
    power: ClassVar[float] = 1.0

    @property
    def calibrated(self) -> bool:  # type: ignore[override]
        """`words` leaves p(structure | x_t) out, which no guide knows."""
        return self.guide != "words"

    def plan(self, lm: Backbone) -> Plan:
        """Nothing is fixed; a guide that is missing, or that does not fit, is a fault to find now."""
        from dlm_control.controllers.guides.structure_guide import structure_guide
        from dlm_control.controllers.guides.syntax_guide import syntax_guide

        if self.guide in ("words", "counts"):
            structure_guide(lm)
        else:
            syntax_guide(lm)
        return Plan()

    def labels(self) -> tuple[Labels, bool]:
        """What is wanted, and whether it is the whole tree."""
        raise NotImplementedError

    def bind(self, lm: Backbone) -> Asked:
        """The labels, and the guides that the energies ask."""
        from dlm_control.controllers.guides.energies import Asked
        from dlm_control.controllers.guides.lookup import find_guide
        from dlm_control.controllers.guides.structure_guide import structure_guide
        from dlm_control.controllers.guides.syntax_guide import syntax_guide

        by_words = self.guide in ("words", "counts")
        syntax = None if by_words and find_guide("syntax", lm) is None else syntax_guide(lm)
        return Asked(*self.labels(), structure_guide(lm) if by_words else None, syntax)

    def word_log_likelihoods(self, state: State) -> Tensor | None:
        from dlm_control.controllers.guides import energies

        return energies.word_log_likelihoods(state, state.bound, self.power) if self.guide == "words" else None

    def energy(self, state: State) -> Tensor:
        from dlm_control.controllers.guides.energies import network_energy

        if self.guide in ("x_t", "x0"):
            return network_energy(state, "x_t" if self.guide == "x_t" else "x0", state.bound)
        return super().energy(state)

    def final_energy(self, state: State) -> Tensor:
        """By the noise-aware tagger and span classifier, whatever steered; by what steered where the model has none."""
        from dlm_control.controllers.guides.energies import network_energy

        if state.bound.syntax is None:
            return self.energy(state)
        return network_energy(state, "x0", state.bound)
