"""Controls that name few words: the same push as over the whole vocabulary, at the cost of their columns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import cast

import pytest
import torch
from torch import Tensor

from dlm_control import Check, Control, Controller, Gap, Plan, State
from dlm_control.control.columns import Columns, covariance
from dlm_control.diffusion.backbone import Backbone, normalise
from dlm_control.sampling.automata import feasible_lengths
from dlm_control.sampling.guidance import tilt, unit_rms, without_conflict
from dlm_control.sampling.word_sets import Words

VOCAB = 11


class Occurs(Controller):
    """A word stands somewhere: by its own column, by the whole table, or by both."""

    reads = "log_probs"

    def __init__(self, words: Sequence[int], how: str) -> None:
        self.words, self.how = tuple(words), how

    def energy(self, state: State) -> Tensor:
        terms = []
        for i, word in enumerate(self.words):
            whole = self.how == "whole" or (self.how == "both" and i == 0)
            p = (state.log_probs[..., word] if whole else state.log_probs_of([word])[..., 0]).exp()
            terms.append(-(1 - (1 - p).prod(-1)).log())
        return torch.stack(terms).sum(0)

    def check(self, text: str) -> Check:
        return Check(1.0, "")


def pushed(words: Sequence[int], how: str) -> tuple[Columns, State]:
    log_probs = torch.randn(3, 4, VOCAB, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    x = torch.zeros(3, 4, 2)
    state = State(x, torch.full((3,), 0.5), x, log_probs, torch.full((3,), 4), cast(Backbone, None))
    bound = Control("occurs", Occurs(words, how)).bind(cast(Backbone, _Spaces()))
    return tilt(bound, state)[0], state


class _Spaces:
    spaces, unit = ("log_probs",), "words"


def after(push: Columns, state: State) -> Tensor:
    return normalise(push.added_to(state.log_probs.clone()), torch.ones_like(state.log_probs, dtype=torch.bool))


@pytest.mark.parametrize("words", [(2,), (2, 7), (7, 2, 2)], ids=str)
def test_some_columns_push_as_the_whole_table_does(words: tuple[int, ...]) -> None:
    whole, state = pushed(words, "whole")
    for how in ("columns", "both"):
        push, _ = pushed(words, how)
        assert (push.words is None) == (how == "both")
        torch.testing.assert_close(after(push, state), after(whole, state))
    columns, _ = pushed(words, "columns")
    assert columns.words is not None and sorted(columns.words.tolist()) == sorted(set(words))


@pytest.mark.parametrize("how", [("columns", "columns"), ("columns", "whole"), ("whole", "columns")], ids=" ".join)
def test_scale_and_conflicts_are_those_of_the_whole_table(how: tuple[str, str]) -> None:
    (a, state), (b, _) = (pushed(words, each) for words, each in zip(((2, 7), (7, 5)), how, strict=True))
    b = b.times(-torch.ones(3))
    wholes = [Columns(push.added_to(torch.zeros(3, 4, VOCAB))) for push in (a, b)]
    torch.testing.assert_close(covariance(a, b, state.probs), covariance(wholes[0], wholes[1], state.probs))
    for push, whole in zip(without_conflict([a, b], state.probs), without_conflict(wholes, state.probs), strict=True):
        torch.testing.assert_close(after(push, state), after(whole, state))
    for push, whole in zip((a, b), wholes, strict=True):
        unit = [unit_rms(each, state.probs, state.length) for each in (push, whole)]
        torch.testing.assert_close(after(unit[0], state), after(unit[1], state))


def test_plans_over_a_large_vocabulary_are_merged_at_once() -> None:
    """50,000 words at 256 positions, the last word and half the vocabulary at each place included."""
    ordinary = Words(None, frozenset({0, 1, 2}), 50_000)
    half = frozenset(range(3, 50_000, 2))
    plans = [
        Plan(at={-1: frozenset({9})}),
        Plan(template=(Gap(0), 7, Gap(1))),
        Plan(at={place: half for place in range(100)}, forbidden=frozenset({11})),
    ]
    started = time.process_time()
    assert feasible_lengths(plans, 255, ordinary) == list(range(100, 256))
    assert time.process_time() - started < 1.0  # it took minutes where sets were listed
