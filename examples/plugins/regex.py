"""A black-box control: any Python function of the finished text.

It has no energy. Particles obey it: several copies of a text are sampled side by side, and those that match count more.
"""

from __future__ import annotations

import re

from dlm_control import Check, Controller, UsageError, register_controller


@register_controller("regex")
class Regex(Controller):
    """The text matches a regular expression somewhere.

    Args:
        pattern: as Python's `re` reads it.
    """

    def __init__(self, pattern: str) -> None:
        try:
            self._compiled = re.compile(pattern)
        except re.error as error:
            raise UsageError(f"regex: pattern: {pattern!r} is no regular expression: {error}") from None
        self.pattern = pattern

    def check(self, text: str) -> Check:
        found = self._compiled.search(text)
        return Check(float(found is not None), f"found {found.group()!r}" if found else f"nothing matches {self.pattern!r}")
