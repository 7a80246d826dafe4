"""What every control does at every step: energy, share of the update, agreement with the others, words changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dlm_control.control.columns import Columns, covariance


@dataclass(frozen=True)
class Moment:
    """One control, one item, one step.

    Attributes:
        t: noise level in [0, 1].
        index: of the item.
        control: name of the control.
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
        log_probs: Tensor,
        energies: Mapping[str, Tensor],
        pushes: Mapping[str, Columns],
    ) -> None:
        """Note one step.

        Args:
            t: noise level.
            indices: of the items in the first rows of the batch; the others are not noted.
            log_probs: (batch, seq_len, vocab), log-probabilities of words before the pushes.
            energies: (batch,) by control.
            pushes: of (batch, seq_len, vocab) by control.
        """
        probs, likeliest = log_probs.exp(), log_probs.argmax(-1)
        lengths = {name: covariance(push, push, probs).clamp(min=0).sqrt() for name, push in pushes.items()}
        total = sum(lengths.values(), torch.zeros(len(log_probs), device=log_probs.device)).clamp(min=1e-12)
        for name, push in pushes.items():
            changed = (push.added_to(log_probs.clone()).argmax(-1) != likeliest).sum(-1)
            cosines = {
                other: covariance(push, pushes[other], probs) / (lengths[name] * lengths[other])
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
