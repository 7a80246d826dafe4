"""The controller `level`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

from dlm_control import Check, Controller, State, UsageError, register_controller
from dlm_control_level.model import LEVELS, LevelModel, load_model, probabilities

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_control.diffusion.backbone import Backbone

Name = Literal["A1", "A2", "B1", "B2", "C1", "C2"]
assert get_args(Name) == LEVELS


@register_controller("level")
class Level(Controller):
    """The text is of a reading level, A1 to C2, or within bounds.

    A word at a place is as likely as the text would obey with it, the other places being what the model expects there. So a
    text that obeys is not pushed further. The check asks for the level of the whole text.

    Args:
        model: a file that `dlm-control-level --data TABLE --out FILE` wrote.
        at_most: no harder.
        at_least: no easier.
    """

    reads = "log_probs"
    calibrated = False

    def __init__(self, model: str, *, at_most: Name | None = None, at_least: Name | None = None) -> None:
        if (at_most is None) == (at_least is None):
            raise UsageError("level: give either at_most or at_least, such as at_most: A2")
        self.model, self.at_most, self.at_least = model, at_most, at_least
        self._model()

    def _model(self) -> LevelModel:
        try:
            return load_model(self.model)
        except UsageError as error:
            raise UsageError(f"level: model: {error}") from None

    def _obeys(self, found: list[float]) -> float:
        """p(level within the bounds), of the probabilities of all levels."""
        if self.at_most is not None:
            return sum(found[: LEVELS.index(self.at_most) + 1])
        return sum(found[LEVELS.index(str(self.at_least)) :])

    def bind(self, lm: Backbone) -> Tensor:
        """(vocab,), how hard each word is."""
        import torch

        weights = self._model().weights
        return torch.tensor([weights.get(word.lower(), 0.0) for word in lm.vocabulary], device=lm.device)

    def word_log_likelihoods(self, state: State) -> Tensor:
        """log p(level within the bounds | the word at a place, and what is expected at the others)."""
        import torch
        from torch.nn.functional import logsigmoid

        model, words = self._model(), state.length[:, None]
        live = torch.arange(state.log_probs.shape[1], device=state.t.device) < words
        expected = (state.log_probs.exp() @ state.bound) * live  # (batch, seq_len), how hard the word of each place is
        others = expected.sum(-1, keepdim=True) - expected
        difficulty = (others[..., None] + state.bound) / words[..., None] + model.slope * words[..., None].log()
        bound = LEVELS.index(self.at_most) if self.at_most else LEVELS.index(str(self.at_least)) - 1
        if not 0 <= bound < len(model.thresholds):  # every level is within the bounds
            return torch.zeros_like(difficulty)
        above = difficulty - model.thresholds[bound]
        return live[..., None] * logsigmoid(-above if self.at_most else above)

    def final_energy(self, state: State) -> Tensor:
        """−log p(level within the bounds | text)."""
        import torch

        model, ids, energies = self._model(), state.log_probs.argmax(-1), []
        for row, words in zip(state.bound[ids].tolist(), state.length.tolist(), strict=True):
            difficulty = sum(row[:words]) / words + model.slope * math.log(words)
            energies.append(-math.log(max(1e-9, self._obeys(probabilities(difficulty, model.thresholds)))))
        return torch.tensor(energies, device=state.t.device)

    def check(self, text: str) -> Check:
        found = self._model().probabilities(text)
        level, share = LEVELS[max(range(6), key=found.__getitem__)], self._obeys(found)
        inside = level <= self.at_most if self.at_most is not None else level >= str(self.at_least)
        expected = f"at most {self.at_most}" if self.at_most else f"at least {self.at_least}"
        return Check(1.0 if inside else min(share, 0.999), f"{level}, {expected} at {share:.0%}")
