"""What every control does at every step: energy, share of the update, agreement with the others, words changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moment:
    """One control, one item, one step.

    Attributes:
        t: noise level in [0, 1]; index: of the item; control: its name.
        energy: −log p(control | state), nats, before the push.
        share: of this control's push in the lengths of all pushes, in [0, 1].
        words_changed: positions whose likeliest word this push alone changes.
        cosines: with the pushes of the other controls, in [−1, 1]; absent where one of the two is zero.
    """

    t: float
    index: int
    control: str
    energy: float
    share: float
    words_changed: int
    cosines: Mapping[str, float]


@dataclass
class Trace:
    """Moments of a whole call of `LanguageModel.generate`, in the order of sampling."""

    moments: list[Moment] = field(default_factory=list)

    def record(
        self,
        t: float,
        indices: Sequence[int],
        logits: Tensor,
        energies: Mapping[str, Tensor],
        pushes: Mapping[str, Tensor],
    ) -> None:
        """Note one step.

        Args:
            t: noise level.
            indices: of the items in the first rows of the batch; the others are not noted.
            logits: (batch, seq_len, vocab), log-probabilities of words before the pushes.
            energies: (batch,) by control.
            pushes: (batch, seq_len, vocab) by control.
        """
        probs, likeliest = logits.exp(), logits.argmax(-1)
        centred = {name: push - (probs * push).sum(-1, keepdim=True) for name, push in pushes.items()}
        lengths = {name: (probs * push.square()).sum((1, 2)).sqrt() for name, push in centred.items()}
        total = sum(lengths.values(), torch.zeros(len(logits), device=logits.device)).clamp(min=1e-12)
        for name, push in pushes.items():
            changed = ((logits + push).argmax(-1) != likeliest).sum(-1)
            cosines = {
                other: (probs * centred[name] * centred[other]).sum((1, 2)) / (lengths[name] * lengths[other])
                for other in pushes
                if other != name
            }
            for row, index in enumerate(indices):
                self.moments.append(
                    Moment(
                        t=t,
                        index=index,
                        control=name,
                        energy=float(energies[name][row]),
                        share=float(lengths[name][row] / total[row]),
                        words_changed=int(changed[row]),
                        cosines={o: float(c[row]) for o, c in cosines.items() if torch.isfinite(c[row])},
                    )
                )
