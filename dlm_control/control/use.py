"""A controller as one task uses it: how strongly, where, and with every answer of it checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, get_args

import torch
from torch import Tensor

from dlm_control.control.columns import ColumnReader, Columns
from dlm_control.control.controller import Check, Controller, Space, State
from dlm_control.control.plan import Plan
from dlm_control.support.errors import ErrorCollector, UsageError, short_repr, suggestion
from dlm_control.support.validation import check_arguments
from dlm_control.support.values import Bound, NoiseLevels, OneOf, plain

if TYPE_CHECKING:
    from dlm_control.diffusion.backbone import Backbone

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "rising": lambda t: 2 * (1 - t),
    "falling": lambda t: 2 * t,
}


@dataclass(frozen=True)
class Control:
    """A controller as one task uses it.

    Attributes:
        name: unique within the task; heads its checks and energies.
        controller: the constraint.
        weight: 1 is the controller's own posterior; w raises its likelihood to the power w; 0 only checks the text.
        interval: noise levels (from, to) within [0, 1] at which it acts.
        schedule: how the weight changes while noise falls from 1 to 0: `constant`, `rising` (from 0 to twice the weight) or
            `falling` (from twice the weight to 0).
    """

    name: str
    controller: Controller
    weight: Annotated[float, Bound("of 0 (check only) or more", lambda weight: weight >= 0)] = 1.0
    interval: NoiseLevels = (0.0, 1.0)
    schedule: Annotated[str, OneOf(lambda: SCHEDULES)] = "constant"

    def __post_init__(self) -> None:
        problems = ErrorCollector(f"control {self.name}")
        found = check_arguments(problems, "", Control, vars(self))
        reads = getattr(self.controller, "reads", None)
        if reads not in (None, *get_args(Space)):
            near = suggestion(str(reads), get_args(Space))
            known = f"there are: {', '.join(get_args(Space))}, or None"
            problems.add("", f"{self.controller!r} reads {short_repr(reads)}{near}; {known}")
        problems.raise_if_any()
        vars(self).update(found)

    def acts_at(self, t: float) -> bool:
        """Does its energy steer at noise level t?"""
        return self.controller.reads is not None and self.weight > 0 and self.interval[0] <= t <= self.interval[1]

    def weight_at(self, t: float) -> float:
        """The weight at noise level t."""
        return self.weight * SCHEDULES[self.schedule](t)

    def bind(self, lm: Backbone) -> BoundControl:
        """The control resolved for a model: its plan, and what its energy needs.

        Raises:
            UsageError: the model cannot obey it, or has not what it reads.
        """
        own = self.controller.for_model(lm)
        control, reads = self if own is self.controller else replace(self, controller=own), own.reads
        if self.weight == 0:
            return BoundControl(control, Plan(), None)
        if reads is not None and reads not in lm.spaces:
            raise UsageError(
                f"control {self.name}: its energy is a function of {reads}, which a {lm.kind} model does not have; it has "
                f"{', '.join(lm.spaces)}"
            )
        unit = getattr(own, "unit", None)
        if unit is not None and unit != lm.unit:
            where = "`Tokens` in place of the tokenizer" if unit == "tokens" else "the tokenizer itself, or `WholeWords`"
            raise UsageError(
                f"control {self.name}: it acts on {unit}, and this model writes {lm.unit}; give {where} (docs/patterns.md)"
            )
        plan = own.plan(lm)
        return BoundControl(control, plan, own.bind(lm) if reads is not None else None)

    def check(self, text: str) -> Check:
        """The controller's check of a finished text.

        Raises:
            UsageError: it raised, or returned no Check with a score in [0, 1] or NaN.
        """
        try:
            check: Any = self.controller.check(text)
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(f"{self.place}.check raised {type(error).__name__}: {error} (on {short_repr(text)})") from error
        if isinstance(check, Check):
            check = check._replace(score=plain(check.score))
        if not isinstance(check, Check) or not isinstance(check.score, (int, float)) or not isinstance(check.why, str):
            raise UsageError(f"{self.place}.check returned {short_repr(check)}, expected Check(score, why)")
        if check.judged and not 0 <= check.score <= 1:
            raise UsageError(
                f"{self.place}.check scored {check.score} on {short_repr(text)}, expected 0 to 1, or NaN for unjudged"
            )
        return check

    @property
    def place(self) -> str:
        return f"control {self.name}: {self.controller!r}"


@dataclass(frozen=True)
class BoundControl:
    """A control resolved for a model.

    Attributes:
        control: as its task gives it, its controller `for_model`.
        plan: what it fixes before sampling starts.
        bound: what its energy needs of the model.
    """

    control: Control
    plan: Plan
    bound: object

    @property
    def judges(self) -> bool:
        """Has it an energy of finished texts?"""
        return self.control.controller.reads is not None and self.control.weight > 0

    def log_potential(self, text: str) -> float:
        """The controller's at its weight, checked.

        Raises:
            UsageError: it raised, or returned no finite number.
        """
        place = f"{self.control.place}.log_potential"
        try:
            found = plain(self.control.controller.log_potential(text))
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(f"{place} raised {type(error).__name__}: {error} (on {short_repr(text)})") from error
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found):
            raise UsageError(f"{place} returned {short_repr(found)} on {short_repr(text)}, expected a finite number of nats")
        return self.control.weight * found

    def energy(self, state: State) -> Tensor:
        """The controller's energy, (batch,), checked.

        Raises:
            UsageError: it raised, or returned a wrong shape or a number that is not finite.
        """
        return self._asked("energy", state)

    def final_energy(self, state: State) -> Tensor:
        """The controller's energy of a finished text, (batch,), checked.

        Raises:
            UsageError: as `energy`.
        """
        return self._asked("final_energy", state)

    def word_log_likelihoods(self, state: State) -> Tensor | None:
        """The controller's, (batch or 1, seq_len, vocab), checked.

        Raises:
            UsageError: it raised, or returned a wrong shape, NaN, +inf, or −inf for all words of a position.
        """
        found, method = self._called("word_log_likelihoods", state), f"{self.control.place}.word_log_likelihoods"
        if found is None:
            return None
        size = tuple(state.log_probs.shape)
        if not isinstance(found, Tensor) or tuple(found.shape) not in (size, (1, *size[1:])):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UsageError(f"{method} returned {got}, expected a tensor {size} or {(1, *size[1:])}")
        if found.dtype != torch.float32:
            raise UsageError(f"{method} returned a tensor of {found.dtype}, expected torch.float32")
        finite = found.amax(-1).isfinite()
        if not finite.all():
            row, place = (~finite).nonzero()[0].tolist()
            where = f"t = {float(state.t[row]):.3f}, item {row}, position {place}"
            raise UsageError(f"{method} holds NaN, infinity, or no finite number at {where}")
        return found

    def _called(self, method: str, state: State) -> Any:
        try:
            return getattr(self.control.controller, method)(replace(state, bound=self.bound))
        except UsageError:
            raise
        except Exception as error:  # a plugin's: whatever it is, say whose
            where = f"t = {float(state.t[0]):.3f}, x_t {tuple(state.x_t.shape)}"
            raise UsageError(f"{self.control.place}.{method} raised {type(error).__name__}: {error} (at {where})") from error

    def _asked(self, method: str, state: State) -> Tensor:
        energy = self._called(method, state)
        if not isinstance(energy, Tensor) or energy.shape != (len(state.x_t),):
            got = tuple(energy.shape) if isinstance(energy, Tensor) else type(energy).__name__
            raise UsageError(f"{self.control.place}.{method} returned {got}, expected a tensor ({len(state.x_t)},)")
        if energy.dtype not in (torch.float32, state.x_t.dtype):
            raise UsageError(f"{self.control.place}.{method} returned a tensor of {energy.dtype}, expected torch.float32")
        if not torch.isfinite(energy).all():
            row = int((~torch.isfinite(energy)).nonzero()[0])
            value = float(energy[row].detach())
            raise UsageError(f"{self.control.place}.{method} is {value} at t = {float(state.t[row]):.3f}, item {row}")
        return energy

    def gradient(self, state: State, space: Space) -> tuple[Tensor, Columns]:
        """Energy (batch,) and its gradient with respect to a field of the state, of that field's shape.

        Raises:
            UsageError: the energy does not depend on the field, or its gradient is not finite.
        """
        reader = ColumnReader(getattr(state, space))
        with torch.enable_grad():
            given = state.with_values(space, reader.table)
            energy = self.energy(replace(given, columns=reader if space == "log_probs" else None))
            gradient = reader.gradient(energy)
        if gradient is None:
            raise UsageError(f"{self.control.place}.energy does not depend on state.{space}, which it says it reads")
        ends = torch.stack(gradient.values.aminmax()) if gradient.values.numel() else gradient.values
        if not torch.isfinite(ends).all():
            row = int((~torch.isfinite(gradient.values)).nonzero()[0][0])
            raise UsageError(
                f"{self.control.place}.energy has a gradient that is not finite at t = {float(state.t[row]):.3f}, item {row}"
            )
        return energy.detach(), gradient


def with_unique_names(controls: Sequence[Controller | Control]) -> list[Control]:
    """Controls with unique names: the registry's, numbered where several share one."""
    given = [c if isinstance(c, Control) else Control(c.name or type(c).__name__.lower(), c) for c in controls]
    counts: dict[str, int] = {}
    for control in given:
        counts[control.name] = counts.get(control.name, 0) + 1
    seen: dict[str, int] = {}
    unique = []
    for control in given:
        seen[control.name] = seen.get(control.name, 0) + 1
        name = control.name if counts[control.name] == 1 else f"{control.name}#{seen[control.name]}"
        unique.append(replace(control, name=name))
    return unique
