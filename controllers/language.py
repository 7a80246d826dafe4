"""What controls share whose texts are a regular language."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from dlm_control.control.controller import Controller, State
from dlm_control.control.plan import Language, Plan

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_control.control.regular import RegularEvent
    from dlm_control.diffusion.backbone import Backbone


class LanguageController(Controller):
    """Its texts are those that an automaton accepts, and word distributions are conditioned on that, exactly."""

    reads = "log_probs"
    closed_form = True

    @abstractmethod
    def language(self, lm: Backbone) -> Language:
        """The texts that obey.

        Raises:
            UsageError: as `plan`.
        """

    def plan(self, lm: Backbone) -> Plan:
        return Plan(language=self.language(lm))

    def bind(self, lm: Backbone) -> RegularEvent:
        """The texts that obey, as an event."""
        from dlm_control.control.regular import RegularEvent

        return RegularEvent(self.language(lm), lm.device)

    def energy(self, state: State) -> Tensor:
        event: RegularEvent = state.bound
        return -event.log_prob(state.log_probs, state.length)
