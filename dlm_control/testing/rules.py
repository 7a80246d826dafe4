"""The rules of the contract, each a generator of what a controller breaks of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from dlm_control.control.controller import State
from dlm_control.control.plan import Plan
from dlm_control.sampling.firmness import fixes
from dlm_control.support.errors import UsageError, short_repr
from dlm_control.testing.case import ITEMS, Case
from dlm_control.testing.devices import MixedDevicesError, OneDevice

STEPS = (
    0.3,
    0.1,
    0.03,
    0.01,
    0.003,
)  # of finite differences; one must agree: float32 rounds the smallest, bends spoil the largest
AGREEMENT = 0.05  # relative, of the finite difference and the gradient

HELD = 0.1  # nats: the energy of a finished text is 0 or very large where it has a closed form

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
                up, down = (case.bound.energy(state.with_values(space, value + way * step * direction)) for way in (1, -1))
                errors.append(((up - down) / (2 * step) - size).abs() / size.clamp(min=1e-6))
        best = torch.stack(errors).min(0).values[moving]
        if (best > AGREEMENT).any():
            yield (
                f"at t = {float(state.t[0]):g} the gradient by state.{space} is off by {float(best.max()):.0%} from finite "
                "differences; is a part of energy() detached?"
            )


def _agrees(case: Case) -> Iterator[str]:
    """Where it gives likelihoods of words, its energy is theirs: −Σ_i log E_p[likelihood of the word at i]."""
    for state in case.states if case.controller.reads == "log_probs" else ():
        likelihoods = case.bound.word_log_likelihoods(state)
        if likelihoods is None:
            return
        theirs, own = -(state.log_probs + likelihoods).logsumexp(-1).sum(-1), case.bound.energy(state).detach()
        if not torch.allclose(theirs, own, rtol=1e-3, atol=1e-3):
            row = int((theirs - own).abs().argmax())
            yield (
                f"at t = {float(state.t[0]):g} energy() says {float(own[row]):.4g} of item {row}, and word_log_likelihoods() "
                f"{float(theirs[row]):.4g}; leave energy() out"
            )
            return


def _keeps_apart(case: Case) -> Iterator[str]:
    """An item's energy depends on that item alone."""
    for state in case.states if case.steers else ():
        together = case.bound.energy(state).detach()
        for row in range(ITEMS):
            alone = case.bound.energy(state.rows(torch.tensor([row], device=state.x_t.device))).detach()
            if not torch.allclose(alone[0], together[row], rtol=1e-3, atol=1e-3):
                there, by_itself = float(together[row]), float(alone[0])
                yield f"at t = {float(state.t[0]):g} item {row} has energy {there:.4g} in the batch, {by_itself:.4g} alone"
                break


def _is_pure(case: Case) -> Iterator[str]:
    """Its energy is the same twice, draws no global random numbers, and leaves the state as it was."""
    for state in case.states if case.steers else ():
        kept = {name: value.clone() for name, value in _tensors(state).items()}
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
    lm, space = copy.deepcopy(case.lm.backbone).to("meta"), case.controller.reads
    assert space is not None
    parts = {name: value.to("meta") for name, value in _tensors(case.states[1]).items()}
    for method in ("energy", "final_energy"):
        leaf = parts[space].detach().requires_grad_()
        try:
            there = State(
                x_t=parts["x_t"], t=parts["t"], log_probs=parts["log_probs"], length=parts["length"], lm=lm,
                clean=parts["x0"], bound=case.controller.bind(lm),
            ).with_values(space, leaf)  # fmt: skip
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


def _holds(case: Case) -> Iterator[str]:
    """Its firmness is true: if it counts as exact its plan forbids what breaks it, if as conditioned its energy does."""
    if not case.steers:
        plan = case.controller.plan(case.lm.backbone)
        for text in case.violating if fixes(plan) else ():
            try:
                case.layouts(("plan", plan), ("text", Plan(template=case.lm.backbone.ids(text, "breaking text"))))
            except UsageError:
                continue
            yield f"it counts as exact, but its plan allows {text!r}; give it an energy, or a plan that forbids what breaks it"
    elif case.controller.closed_form and case.controller.reads != "log_probs":
        yield f"closed_form is true, but it reads {case.controller.reads}; only an energy of log_probs has a closed form"
    elif case.controller.closed_form:
        for text in (*case.satisfying, *case.violating):
            energy, obeys = float(case.bound.final_energy(case.text_state(text))[0].detach()), text in case.satisfying
            if obeys != (energy < HELD):
                expected = f"below {HELD}" if obeys else f"{HELD} or more"
                yield f"closed_form is true, but {text!r} has {energy:.3g} nats, expected {expected}"


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
    "likelihoods": _agrees,
    "batch": _keeps_apart,
    "purity": _is_pure,
    "device": _stays_on_the_device,
    "preference": _prefers,
    "firmness": _holds,
    "generation": _generates,
    "arguments": _refuses,
}


def _tensors(state: State) -> dict[str, Tensor]:
    return {name: getattr(state, name) for name in ("x_t", "t", "x0", "log_probs", "length")}


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
