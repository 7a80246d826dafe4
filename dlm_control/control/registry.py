"""Controllers by name, and what they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from dlm_control.support.registry import Registry

if TYPE_CHECKING:
    from dlm_control.control.controller import Controller

C = TypeVar("C", bound="type[Controller]")


def _is_controller(thing: object) -> bool:
    from dlm_control.control.controller import Controller

    return inspect.isclass(thing) and issubclass(thing, Controller)


CONTROLLERS: Registry[type[Controller]] = Registry(
    "controller", "dlm_control.controllers", "a subclass of dlm_control.Controller", _is_controller
)


def register_controller(name: str) -> Callable[[C], C]:
    """Class decorator: make a Controller known under a name. The same class written again, as in a notebook, takes its place.

    Raises:
        UsageError: the name is none or is taken by another class, or the decorated thing is no Controller.
    """
    CONTROLLERS.check_name(name)

    def register(cls: C) -> C:
        CONTROLLERS.register(name, cls, cls)
        cls.name = name
        return cls

    return register


def parameters(cls: type[Controller]) -> dict[str, inspect.Parameter]:
    """The constructor's parameters by name."""
    return dict(inspect.signature(cls).parameters)


def signature(cls: type[Controller]) -> str:
    """What a controller takes, for a reader: `words, present=True, position=None`."""
    stars: dict[object, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    taken = [
        f"{stars.get(p.kind, '')}{name}" if p.default is p.empty else f"{name}={p.default!r}"
        for name, p in parameters(cls).items()
    ]
    return ", ".join(taken) or "nothing"
