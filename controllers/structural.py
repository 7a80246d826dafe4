"""What the controls of tags, spans and trees share: two guides, and how they are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dlm_control.controller import Controller, State

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_control.controllers.syntax_guide import Labels


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

    def labels(self) -> tuple[Labels, bool]:
        """What is wanted, and whether it is the whole tree."""
        raise NotImplementedError

    def energy(self, state: State) -> Tensor:
        from dlm_control.controllers import structure_energy as energies

        labels, complete = self.labels()
        if self.guide == "words":
            return energies.words_energy(state, labels, complete, self.power)
        return energies.network_energy(state, "x_t" if self.guide == "x_t" else "x0", labels, complete)

    def final_energy(self, state: State) -> Tensor:
        """By the noise-aware tagger and span classifier, whatever steered."""
        from dlm_control.controllers.structure_energy import network_energy

        return network_energy(state, "x0", *self.labels())
