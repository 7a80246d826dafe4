"""Controls that speak of every word by itself: the closed form is Bayes' rule, the gradient's push, and well guarded."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor

from dlm_control import Check, Control, Controller, State, UsageError
from dlm_control.diffusion.backbone import FLOOR, NEVER, Backbone
from dlm_control.sampling.guidance import LEAST_RATIO, tilt

ROWS, SEQ_LEN, VOCAB = 3, 4, 7


class Speaks(Controller):
    """Likelihoods of words, given as they are."""

    reads = "log_probs"

    def __init__(self, likelihoods: object) -> None:
        self.likelihoods = likelihoods

    def word_log_likelihoods(self, state: State) -> Tensor:
        return cast(Tensor, self.likelihoods)

    def check(self, text: str) -> Check:
        return Check(1.0, "")


class Differentiated(Speaks):
    """The same, known to the engine by its energy alone."""

    def word_log_likelihoods(self, state: State) -> None:  # type: ignore[override]
        return None

    def energy(self, state: State) -> Tensor:
        return -(state.log_probs + cast(Tensor, self.likelihoods)).logsumexp(-1).sum(-1)


class _Spaces:
    spaces, unit = ("log_probs",), "words"


def state_of_words() -> State:
    log_probs = torch.randn(ROWS, SEQ_LEN, VOCAB, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    x = torch.zeros(ROWS, SEQ_LEN, 2)
    return State(x, torch.full((ROWS,), 0.5), x, log_probs, torch.full((ROWS,), SEQ_LEN), cast(Backbone, None))


def pushed(controller: Controller, state: State) -> tuple[Tensor, Tensor]:
    push, energy = tilt(Control("speaks", controller).bind(cast(Backbone, _Spaces())), state)
    return push.added_to(torch.zeros(ROWS, SEQ_LEN, VOCAB)), energy


def random(rows: int) -> Tensor:
    return -3 * torch.rand(rows, SEQ_LEN, VOCAB, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("rows", [1, ROWS])
def test_the_push_is_the_log_ratio_of_bayes_rule(rows: int) -> None:
    state, likelihoods = state_of_words(), random(rows)
    push, energy = pushed(Speaks(likelihoods), state)
    joint = state.probs * likelihoods.exp()
    posterior = joint / joint.sum(-1, keepdim=True)
    torch.testing.assert_close(state.probs * push.exp(), posterior)
    torch.testing.assert_close(energy, -joint.sum(-1).log().sum(-1))


def test_the_gradient_of_the_same_energy_pushes_alike() -> None:
    state, likelihoods = state_of_words(), random(ROWS)
    for closed, through in zip(*(pushed(kind(likelihoods), state) for kind in (Speaks, Differentiated)), strict=True):
        torch.testing.assert_close(closed, through, atol=1e-4, rtol=1e-4)


def test_a_word_that_cannot_be_is_lowered_without_limitless_numbers() -> None:
    state, likelihoods = state_of_words(), torch.zeros(1, SEQ_LEN, VOCAB)
    likelihoods[0, 1, 2] = -torch.inf
    push, energy = pushed(Speaks(likelihoods), state)
    assert push[:, 1, 2].exp().tolist() == pytest.approx([LEAST_RATIO] * ROWS)
    torch.testing.assert_close(energy, -(1 - state.probs[:, 1, 2]).log())


def test_words_that_may_not_stand_leave_the_numbers_finite() -> None:
    state = state_of_words()
    state.log_probs[:, 0] = NEVER
    state.log_probs[:, 0, 3] = 0.0
    state.log_probs[:, 1, 4] = FLOOR
    push, energy = pushed(Speaks(random(1)), state)
    assert torch.isfinite(push).all() and torch.isfinite(energy).all()


@pytest.mark.parametrize(
    ("likelihoods", "message"),
    [
        (torch.zeros(SEQ_LEN, VOCAB), "returned (4, 7), expected a tensor (3, 4, 7) or (1, 4, 7)"),
        (torch.zeros(2, SEQ_LEN, VOCAB), "returned (2, 4, 7), expected a tensor (3, 4, 7) or (1, 4, 7)"),
        (torch.zeros(1, SEQ_LEN, VOCAB, dtype=torch.float64), "returned a tensor of torch.float64, expected torch.float32"),
        (
            torch.full((1, SEQ_LEN, VOCAB), torch.nan),
            "holds NaN, infinity, or no finite number at t = 0.500, item 0, position 0",
        ),
        (torch.full((1, SEQ_LEN, VOCAB), torch.inf), "holds NaN, infinity"),
        (torch.full((1, SEQ_LEN, VOCAB), -torch.inf), "no finite number"),
        ("words", "returned str, expected a tensor"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_table_of_likelihoods_is_refused_by_name(likelihoods: object, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        pushed(Speaks(likelihoods), state_of_words())


def test_an_exception_names_the_control_and_the_method() -> None:
    class Failing(Speaks):
        def word_log_likelihoods(self, state: State) -> Tensor:
            raise KeyError("lexicon")

    with pytest.raises(UsageError, match=r"control speaks: Failing.*\.word_log_likelihoods raised KeyError: 'lexicon'"):
        pushed(Failing(None), state_of_words())


def test_a_control_without_energy_says_what_it_lacks() -> None:
    class Mute(Speaks):
        word_log_likelihoods: Callable[..., None] = lambda self, state: None  # type: ignore[assignment]

    with pytest.raises(UsageError, match="reads 'log_probs' but has no energy"):
        pushed(Mute(None), state_of_words())
