"""The contract between the engine and a control."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from dlm_control.control.plan import Plan
from dlm_control.support.validation import checked_constructor

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_control.control.columns import ColumnReader
    from dlm_control.diffusion.backbone import Backbone

Space = Literal["x_t", "x0", "log_probs"]
Unit = Literal["words", "tokens"]
OBEDIENCE = 10.0  # nats that a check passed is worth to particles: a text that fails it counts 22,000 times less


class Check(NamedTuple):
    """Did a finished text obey?

    Attributes:
        score: in [0, 1]; 1 is full obedience; NaN where it could not be judged, because a tool is missing.
        why: a few words for a reader, such as "17 words, expected 18".
    """

    score: float
    why: str

    @property
    def passed(self) -> bool:
        """Full obedience."""
        return self.score >= 1.0

    @property
    def judged(self) -> bool:
        """Could it be judged?"""
        return self.score == self.score


@dataclass(frozen=True)
class State:
    """What a controller may read at one denoising step; differentiable where its `reads` says so.

    Attributes:
        x_t: (batch, seq_len, dim), noisy embeddings.
        t: (batch,), noise level in [0, 1].
        clean: the engine's, for `x0`: the clean embeddings, or what makes them.
        log_probs: (batch, seq_len, vocab), log-probabilities of the words; (batch, seq_len, 0) where the 2022
            update asks an energy of x_t alone. `log_probs_of` reads some words.
        length: (batch,), how many words each text will have.
        lm: the frozen language model: vocabulary, embedding table, guides.
        bound: what the controller's `bind` made of its target for this model; of a type that the controller alone knows.
        columns: the engine's, for `log_probs_of`.
    """

    x_t: Tensor
    t: Tensor
    clean: Tensor | Callable[[], Tensor]
    log_probs: Tensor
    length: Tensor
    lm: Backbone
    bound: Any = None
    columns: ColumnReader | None = None

    @cached_property
    def x0(self) -> Tensor:
        """(batch, seq_len, dim), the denoiser's clean embeddings; made when they are first read."""
        return self.clean() if callable(self.clean) else self.clean

    @cached_property
    def probs(self) -> Tensor:
        """(batch, seq_len, vocab), probabilities of the words."""
        return self.log_probs.exp()

    def rows(self, index: Tensor) -> State:
        """Some items of the batch."""
        parts = {name: getattr(self, name)[index] for name in ("x_t", "t", "log_probs", "length")}
        return replace(self, **parts, clean=lambda: self.x0[index])

    def with_values(self, space: Space, values: Tensor) -> State:
        """With other values of the field that `space` names."""
        field: dict[str, Any] = {"clean" if space == "x0" else space: values}
        return replace(self, **field)

    def log_probs_of(self, words: Sequence[int]) -> Tensor:
        """(batch, seq_len, words), log-probabilities of distinct words.

        An energy that names few words reads them here: then its gradient is of their columns alone, however large the
        vocabulary.
        """
        return self.log_probs[..., list(words)] if self.columns is None else self.columns(words)


class Controller(ABC):
    """One constraint. A subclass's constructor takes its target; the registry gives it a name.

    Arguments are checked against the constructor's annotations before it runs, so that it need not check types itself; see
    `dlm_control.support.values` for rules such as `Annotated[int, Above(0)]`.

    Attributes:
        reads: the space in which its energy is a function: `x_t` (a noise-aware guide), `x0` (any differentiable function of
            clean embeddings) or `log_probs` (of word distributions, with no pass through the denoiser). None: it has no energy
            and acts through its plan, or through `check` and particles.
        closed_form: is its energy of `log_probs` −log p(`check` passes) under the word distributions? Then they are conditioned
            on the control itself, and not on what a guide says of it.
        unit: what the positions of its plan and its energy hold. Most models write words; one from outside may write its
            tokenizer's tokens. None: it works with both.
        calibrated: is its energy −log p, or that up to a constant? Only the first can say that a control is unlikely.
        name: set by the registry.
    """

    reads: Space | None = None
    closed_form: bool = False
    unit: Unit | None = "words"
    calibrated: bool = True
    name: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_constructor(cls)

    def for_model(self, lm: Backbone) -> Controller:
        """This controller, with what its target means for a model, such as the fields that the model's texts speak of; by
        default itself. All that follows is asked of what this returns.

        Raises:
            UsageError: as `plan`.
        """
        return self

    def bind(self, lm: Backbone) -> object:
        """What the energy needs of this model and does not change from step to step: word ids, a guide, constant tensors on the
        model's device. Asked for once, and then found in `state.bound`; None by default.

        Raises:
            UsageError: as `plan`.
        """
        return None

    def word_log_likelihoods(self, state: State) -> Tensor | None:
        """log p(c | word w at position i, state), for a controller of `log_probs` that speaks of every word by itself.

        Returns:
            (batch or 1, seq_len, vocab), up to a constant at each position; 0 where it says nothing. The energy is then
            −Σ_i log E_p[likelihood of the word at i], and the engine needs no gradient. None: it has an `energy` of its own.
        """
        return None

    def energy(self, state: State) -> Tensor:
        """−log p(c | state), one number an item: (batch,), differentiable in the space that `reads` names.

        A controller of `log_probs` returns −log of an expectation under the product of the positions' word distributions; the
        engine then conditions those distributions exactly. One of `x_t` or `x0` returns any differentiable energy.
        """
        likelihoods = self.word_log_likelihoods(state)
        if likelihoods is None:
            raise NotImplementedError(f"{type(self).__name__} reads {self.reads!r} but has no energy()")
        return -(state.log_probs + likelihoods).logsumexp(-1).sum(-1)

    def final_energy(self, state: State) -> Tensor:
        """−log p(c | finished text), (batch,), as a guide judges it: what candidates are compared by (`select: energies`).

        Its state holds a finished text: x_t and x0 are the embeddings of its words, t is almost 0, logits are 0 for the words
        and −50 for all others. By default the energy of that state.
        """
        return self.energy(state)

    def log_potential(self, text: str) -> float:
        """log of a factor of the text's probability that no energy speaks of, in nats: particles are weighed by it.

        Asked of finished texts, and of texts as they stand. By default 10 nats for full obedience where the control has no
        energy, and 0 where it has one.
        """
        if self.reads is not None:
            return 0.0
        check = self.check(text)
        return OBEDIENCE * check.score if check.judged else 0.0

    @abstractmethod
    def check(self, text: str) -> Check:
        """Did this finished text obey? Judged from the text alone."""

    def explanation(self, lm: Backbone) -> str:
        """What it makes of its target for this model, in a few words for `dlm explain`; nothing by default."""
        return ""

    def plan(self, lm: Backbone) -> Plan:
        """What is fixed before sampling starts.

        Raises:
            UsageError: the target cannot be met by this language model (a word it does not know, …).
        """
        return Plan()

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if k[0] != "_" and k != "reads")
        return f"{type(self).__name__}({arguments})"


def check_constructor(cls: type[Controller]) -> None:
    """Have the arguments of a class's constructor checked, whoever calls it."""
    if "__init__" in vars(cls):
        cls.__init__ = checked_constructor(cls.__init__, _title)  # type: ignore[method-assign]


def _title(controller: Controller) -> str:
    return controller.name or type(controller).__name__


def log_sum(terms: list[Tensor]) -> Tensor:
    """log Σ exp of a list of (batch,) tensors."""
    import torch

    return torch.stack(terms).logsumexp(0)
