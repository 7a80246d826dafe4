"""The conformance kit: does a controller keep the contract that engine and harness rely on?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dlm_control.control.controller import Controller, State
from dlm_control.control.plan import Plan
from dlm_control.control.use import BoundControl, Control
from dlm_control.diffusion.backbone import Draws
from dlm_control.diffusion.seq_len import seq_len_of
from dlm_control.pipeline import LanguageModel, load
from dlm_control.sampling.guidance import finished_state, state_of
from dlm_control.sampling.layout import Layouts
from dlm_control.support.errors import Issue, UsageError, short_repr

ITEMS = 3  # in a batch
LEVELS = (0.001, 0.5, 1.0)  # both ends of the noise range, and its middle
STEPS = (
    0.3,
    0.1,
    0.03,
    0.01,
    0.003,
)  # of finite differences; one must agree: float32 rounds the smallest, bends spoil the largest
AGREEMENT = 0.05  # relative, of the finite difference and the gradient


class ConformanceError(AssertionError):
    """A controller breaks rules.

    Attributes:
        issues: `place` is the rule's name.
    """

    def __init__(self, subject: str, issues: Sequence[Issue]) -> None:
        listed = "\n".join(f"  - {fault}" for fault in issues)
        super().__init__(f"{subject} breaks {len({f.place for f in issues})} of {len(RULES)} rules\n{listed}")
        self.issues = tuple(issues)


def check_controller(
    controller: Controller,
    *,
    satisfying: Sequence[str],
    violating: Sequence[str],
    faulty: Sequence[Callable[[], object]] = (),
    lm: LanguageModel | None = None,
) -> None:
    """Hold a controller to every rule of the contract.

    Args:
        controller: with some target.
        satisfying: texts that obey it, of words the language model knows; at least one.
        violating: texts that do not; at least one.
        faulty: calls with bad arguments, such as `lambda: Length(-1)`; each must raise a UsageError.
        lm: the language model; the bundled `e2e` by default.

    Raises:
        ConformanceError: rules are broken; all in one report.
        ValueError: no obeying or no breaking text.
    """
    if not satisfying or not violating:
        raise ValueError("check_controller needs at least one obeying and one breaking text")
    case = Case(controller, tuple(satisfying), tuple(violating), tuple(faulty), lm or load())
    issues = []
    for name, rule in RULES.items():
        try:
            issues += [Issue(name, message) for message in rule(case)]
        except UsageError as error:
            issues.append(Issue(name, str(error)))
        except Exception as error:
            issues.append(Issue(name, f"raised {type(error).__name__}: {error}"))
    if issues:
        raise ConformanceError(repr(controller), issues)


@dataclass(frozen=True)
class Case:
    """What the rules look at.

    Attributes:
        controller: the one that is tested.
        satisfying, violating: texts that its check must pass, and texts that it must fail.
        faulty: calls that make it with a mistake, each of which must raise a UsageError.
        lm: a model that it steers.
    """

    controller: Controller
    satisfying: tuple[str, ...]
    violating: tuple[str, ...]
    faulty: tuple[Callable[[], object], ...]
    lm: LanguageModel

    @property
    def control(self) -> Control:
        """The controller in use; it checks shapes and numbers."""
        return Control("tested", self.controller)

    @property
    def steers(self) -> bool:
        """Has it an energy?"""
        return self.controller.reads is not None

    @cached_property
    def bound(self) -> BoundControl:
        """The controller resolved for the model."""
        return self.control.bind(self.lm.backbone)

    def layouts(self, *plans: tuple[str, Plan]) -> Layouts:
        """What plans leave open."""
        return Layouts(plans, self.lm.backbone.tokenizer, self.lm.backbone.length_counts, self.lm.backbone.max_seq_len)

    @cached_property
    def states(self) -> list[State]:
        """States as sampling meets them, one a noise level: noised texts, what the denoiser says of them."""
        lm, draws = self.lm.backbone, _OneStream(self.lm.backbone.device)
        layouts = self.layouts(("tested", self.controller.plan(lm)))
        drawn = [layouts.draw(draws.generator)]
        for _ in range(200):  # some of one sequence length
            another = layouts.draw(draws.generator)
            if another.seq_len == drawn[0].seq_len:
                drawn.append(another)
            if len(drawn) == ITEMS:
                break
        drawn += [drawn[0]] * (ITEMS - len(drawn))
        words = torch.randint(3, len(lm.tokenizer), (ITEMS, drawn[0].seq_len), generator=draws.generator).to(lm.device)
        allowed = torch.stack([layout.allowed for layout in drawn]).to(lm.device)
        length = torch.tensor([layout.words for layout in drawn], device=lm.device)
        states, process = [], lm.process(1)
        for t in LEVELS:
            with torch.no_grad():
                latents = process.diffuse(words, allowed, length, t, draws)
                states.append(state_of(lm, process.predict(latents, t), latents, t))
        return states

    def gradient(self, state: State) -> tuple[Tensor, Tensor]:
        """Energy and gradient in the space it reads."""
        assert self.controller.reads is not None
        space = self.controller.reads
        energy, gradient = self.bound.gradient(state, space)
        return energy, gradient.added_to(torch.zeros_like(getattr(state, space)))

    def text_state(self, text: str) -> State:
        """The state of a finished text."""
        lm, tokenizer = self.lm.backbone, self.lm.backbone.tokenizer
        ids = list(lm.ids(text, "text"))
        seq_len = seq_len_of(len(ids), lm.max_seq_len)
        row = [*ids, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * seq_len][:seq_len]
        return finished_state(lm, torch.tensor([row], device=lm.device), torch.tensor([len(ids)], device=lm.device))


class _OneStream(Draws):
    """Random numbers of all rows from one stream, drawn on the CPU: the same on every device."""

    def __init__(self, device: torch.device) -> None:
        self.generator, self.device = torch.Generator().manual_seed(0), device

    def normal(self, *shape: int) -> Tensor:
        return torch.randn((ITEMS, *shape), generator=self.generator).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand((ITEMS, *shape), generator=self.generator).to(self.device)


Rule = Callable[[Case], Iterator[str]]


def _named(case: Case) -> Iterator[str]:
    """Its repr names the control and its arguments."""
    text = repr(case.controller)
    if type(case.controller).__name__ not in text or " object at 0x" in text:
        yield f"repr is {text!r}; expected the class and its target, such as Length(words=18)"


def _judges(case: Case) -> Iterator[str]:
    """Its check passes what obeys, fails what does not, says the same twice, and gives a reason."""
    for text, passes in [*((text, True) for text in case.satisfying), *((text, False) for text in case.violating)]:
        check = case.control.check(text)
        if not check.judged:
            continue
        if check.passed != passes:
            expected = "1 (this text obeys)" if passes else "less than 1 (this text does not obey)"
            yield f"check({text!r}) scored {check.score}, expected {expected}"
        if case.control.check(text) != check:
            yield f"check({text!r}) says something else the second time"
        if not isinstance(check.why, str) or (not passes and not check.why.strip()):
            yield f"check({text!r}) gives no reason; expected a few words such as '17 words, expected 18'"


def _plans(case: Case) -> Iterator[str]:
    """Its plan allows the texts that its check passes."""
    plan = case.controller.plan(case.lm.backbone)
    if not isinstance(plan, Plan):
        yield f"plan returned {short_repr(plan)}, expected a Plan"
        return
    for text in case.satisfying:
        try:
            case.layouts(("plan", plan), ("text", Plan(template=case.lm.backbone.ids(text, "obeying text"))))
        except UsageError as error:
            yield f"the check passes {text!r}, but the plan forbids it: {error}"


def _energies(case: Case) -> Iterator[str]:
    """Its energy is one finite number an item, on the state's device, at all noise levels."""
    for state in case.states if case.steers else ():
        energy = case.bound.energy(state)
        if energy.device != state.x_t.device or not energy.is_floating_point():
            yield f"energy is {energy.dtype} on {energy.device}, expected floating point on {state.x_t.device}"
        final = case.bound.final_energy(state)
        if final.device != state.x_t.device:
            yield f"final_energy is on {final.device}, expected {state.x_t.device}"


def _differentiates(case: Case) -> Iterator[str]:
    """Its gradient is finite, and the slope that finite differences see."""
    for state in case.states if case.steers else ():
        _, gradient = case.gradient(state)
        space = case.controller.reads
        assert space is not None
        size = gradient.flatten(1).norm(dim=1)
        moving = size > 1e-6
        if not moving.any():
            continue
        direction = gradient / size.clamp(min=1e-12)[:, None, None]
        value = getattr(state, space)
        with torch.no_grad():
            errors = []
            for step in STEPS:
                up, down = (case.bound.energy(replace(state, **{space: value + way * step * direction})) for way in (1, -1))
                errors.append(((up - down) / (2 * step) - size).abs() / size.clamp(min=1e-6))
        best = torch.stack(errors).min(0).values[moving]
        if (best > AGREEMENT).any():
            yield (
                f"at t = {float(state.t[0]):g} the gradient by state.{space} is off by {float(best.max()):.0%} from finite "
                "differences; is a part of energy() detached?"
            )


def _keeps_apart(case: Case) -> Iterator[str]:
    """An item's energy depends on that item alone."""
    for state in case.states if case.steers else ():
        together = case.bound.energy(state).detach()
        for row in range(ITEMS):
            alone = case.bound.energy(_row(state, row)).detach()
            if not torch.allclose(alone[0], together[row], rtol=1e-3, atol=1e-3):
                there, by_itself = float(together[row]), float(alone[0])
                yield f"at t = {float(state.t[0]):g} item {row} has energy {there:.4g} in the batch, {by_itself:.4g} alone"
                break


def _is_pure(case: Case) -> Iterator[str]:
    """Its energy is the same twice, draws no global random numbers, and leaves the state as it was."""
    for state in case.states if case.steers else ():
        kept = {name: value.clone() for name, value in vars(state).items() if isinstance(value, Tensor)}
        rng = torch.random.get_rng_state()
        first, second = case.bound.energy(state).detach(), case.bound.energy(state).detach()
        if not torch.equal(torch.random.get_rng_state(), rng):
            yield "energy() draws from torch's global random numbers: the same seed would not give the same text"
            torch.random.set_rng_state(rng)
        elif not torch.equal(first, second):
            yield "energy() says something else the second time"
        changed = [name for name, value in kept.items() if not torch.equal(getattr(state, name), value)]
        if changed:
            yield f"energy() changes state.{', state.'.join(changed)} in place"
            return


def _stays_on_the_device(case: Case) -> Iterator[str]:
    """Its energy, gradient and final energy make their tensors where the model lies.

    Tried on torch's meta device, whose tensors have no values; an energy that asks for values cannot be tried.
    """
    if not case.steers:
        return
    lm, state = copy.deepcopy(case.lm.backbone).to("meta"), case.states[1]
    parts: dict[str, Any] = {name: value.to("meta") for name, value in _tensors(state).items()}
    space = str(case.controller.reads)
    for method in ("energy", "final_energy"):
        leaf = parts[space].detach().requires_grad_()
        try:
            there = replace(state, **{**parts, space: leaf}, lm=lm, bound=case.controller.bind(lm))
            with torch.enable_grad(), OneDevice():
                energy = getattr(case.controller, method)(there)
                if energy.requires_grad:
                    torch.autograd.grad(energy.sum(), leaf, allow_unused=True)
        except MixedDevicesError as error:
            yield f"{method}() {error}"
            return
        except Exception:  # it asks for values; what else is wrong with it, other rules tell
            continue
        if energy.device != leaf.device:
            yield f"{method}() is on {energy.device} where the model lies on {leaf.device}"
            return


class MixedDevicesError(RuntimeError):
    """An operation had tensors of two devices."""


class OneDevice(TorchDispatchMode):
    """Under it an operation on tensors of two devices raises, on the meta device as on a real one.

    As on a real one, a single number or an index may lie on the CPU. A mask without values counts as true everywhere.

    Raises:
        MixedDevicesError: an operation on tensors of two devices.
    """

    _copies = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    _indexings = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs, asked = kwargs or {}, [*args, kwargs]
        if func in self._indexings:
            args = [args[0], _without_masks(args[1]), *args[2:]]
            asked = [args[0], [index for index in args[1] if index is not None and not index.is_cpu], *args[2:]]
        tensors = [each for each in tree_leaves(asked) if isinstance(each, Tensor) and each.ndim > 0]
        devices = sorted({str(each.device) for each in tensors})
        if len(devices) > 1 and func not in self._copies:
            shapes = ", ".join(f"{tuple(each.shape)} on {each.device}" for each in tensors)
            raise MixedDevicesError(
                f"mixes devices in {func}: {shapes}; make tensors in bind() on lm.device, or with device=state.x_t.device"
            )
        if func is torch.ops.aten.nonzero.default and args[0].is_meta:
            return torch.empty(args[0].numel(), args[0].ndim, dtype=torch.long, device="meta")
        return func(*args, **kwargs)


def _without_masks(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Indices with numbers in place of masks that have no values: one a dimension, for every place of the mask."""
    found: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.is_meta and index.dtype == torch.bool:
            found += [torch.empty(index.numel(), dtype=torch.long, device="meta")] * index.ndim
        else:
            found.append(index)
    return found


def _prefers(case: Case) -> Iterator[str]:
    """Its final energy is lower for texts that obey than for texts that do not."""
    if not case.steers:
        return
    satisfying, violating = (
        [float(case.bound.final_energy(case.text_state(text))[0].detach()) for text in texts]
        for texts in (case.satisfying, case.violating)
    )
    if sum(satisfying) / len(satisfying) >= sum(violating) / len(violating):
        yield f"final energies of obeying texts {_list(satisfying)} are not below those of breaking ones {_list(violating)}"


def _generates(case: Case) -> Iterator[str]:
    """Texts come out under it, the same alone and in a batch."""
    both = case.lm.generate([case.controller], 2, seed=0, steps=3)
    alone = case.lm.generate([case.controller], 1, seed=0, steps=3, indices=[1])
    if both[1].text != alone[0].text:
        yield f"item 1 of seed 0 is {both[1].text!r} in a batch and {alone[0].text!r} alone"


def _refuses(case: Case) -> Iterator[str]:
    """Bad arguments raise a UsageError with a message."""
    for number, call in enumerate(case.faulty):
        try:
            made = call()
        except UsageError as error:
            if len(str(error)) < 15:
                yield f"faulty[{number}] raised UsageError({str(error)!r}); say what was given and what was expected"
        except Exception as error:
            yield f"faulty[{number}] raised {type(error).__name__}: {error}; expected a UsageError"
        else:
            yield f"faulty[{number}] made {made!r}; expected a UsageError"


RULES: dict[str, Rule] = {
    "repr": _named,
    "check": _judges,
    "plan": _plans,
    "energy": _energies,
    "gradient": _differentiates,
    "batch": _keeps_apart,
    "purity": _is_pure,
    "device": _stays_on_the_device,
    "preference": _prefers,
    "generation": _generates,
    "arguments": _refuses,
}


def _row(state: State, row: int) -> State:
    """One item of a state, as a batch of its own."""
    one: dict[str, Any] = {name: value[row : row + 1] for name, value in _tensors(state).items()}
    return replace(state, **one)


def _tensors(state: State) -> dict[str, Tensor]:
    parts = {field.name: getattr(state, field.name) for field in fields(state)}
    return {name: value for name, value in parts.items() if isinstance(value, Tensor)}


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
