"""Any Python functions of the text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from dlm_control.control.controller import OBEDIENCE, Check, Controller
from dlm_control.control.registry import register_controller
from dlm_control.support.errors import ErrorCollector, UsageError, short_repr
from dlm_control.support.include import function
from dlm_control.support.values import Bound, plain

Function = Callable[[str], Any]


@register_controller("reward")
class Reward(Controller):
    """Functions of the text give points, and particles with more points count more.

    At weight 1 a point is worth 10 nats: p(text | reward) ∝ p(text) · exp(10 · points). Nothing is known of the functions, so
    nothing pushes: give a preset with particles, such as `particles`.

    Args:
        functions: `module:function`, or a function in Python, which is given a text and returns a number; or several, each with
            a factor: {"rewards:rhymes": 1, "rewards:short": 0.5}. The module is a file in `include`.
        at_least: points from which a text obeys.
    """

    unit = None

    def __init__(
        self,
        functions: str | Function | Annotated[Mapping[Any, float], Bound("of at least one function", bool)],
        *,
        at_least: float = 1.0,
    ) -> None:
        given = functions if isinstance(functions, Mapping) else {functions: 1.0}
        problems, self._calls = ErrorCollector("reward"), dict[str, Function]()
        self.functions, self.at_least = dict[str, float](), at_least
        for each, factor in given.items():
            try:
                called = function(each) if isinstance(each, str) else each
            except UsageError as error:
                problems.add("functions", str(error))
                continue
            if not callable(called):
                problems.add("functions", f"expected a function or `module:function`, got {short_repr(each)}")
                continue
            name = each if isinstance(each, str) else str(getattr(each, "__qualname__", type(each).__name__))
            if name in self.functions:
                problems.add("functions", f"two functions are named {name}; rename one")
            self.functions[name], self._calls[name] = factor, called
        problems.raise_if_any()

    def points(self, text: str) -> dict[str, float]:
        """What each function gives a text.

        Raises:
            UsageError: a function raises, or gives no finite number.
        """
        found = {}
        for name, call in self._calls.items():
            try:
                value = plain(call(text))
            except Exception as error:
                raise UsageError(f"reward: {name} raised {type(error).__name__}: {error} (on {short_repr(text)})") from error
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise UsageError(f"reward: {name} returned {short_repr(value)} on {short_repr(text)}, expected a finite number")
            found[name] = float(value)
        return found

    def log_potential(self, text: str) -> float:
        return OBEDIENCE * self._sum(self.points(text))

    def check(self, text: str) -> Check:
        points = self.points(text)
        total = self._sum(points)
        share = min(max(total / self.at_least, 0.0), 0.999) if self.at_least > 0 else 0.0
        listed = ", ".join(f"{name} {value:.3g}" for name, value in points.items())
        return Check(
            1.0 if total >= self.at_least else share, f"{total:.3g} points ({listed}), expected {self.at_least:g} or more"
        )

    def _sum(self, points: Mapping[str, float]) -> float:
        return sum(self.functions[name] * value for name, value in points.items())
