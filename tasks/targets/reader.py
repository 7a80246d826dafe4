"""Readers by name: what a suite can have its targets read or made by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm_control.support.registry import Registry
from dlm_control.tasks.targets.target import Guides, Target

Function = Callable[..., Iterator[Target]]


@dataclass(frozen=True)
class TargetReader:
    """Reads or makes the targets of a suite.

    Attributes:
        name: in suites.
        function: of the folder of the suite's files, of the guides that controls are to have, and of what the suite says under
            `targets`; its annotations are rules of `dlm_control.support.values`.
        needs_files: it reads some, so that a suite cannot do without their folder.
    """

    name: str
    function: Function
    needs_files: bool = True

    def __call__(self, data: Path, guides: Guides, *args: Any, **arguments: Any) -> Iterator[Target]:
        """The targets, one after the other.

        Args:
            data: folder of the suite's files.
            guides: of the targets' controls.
            *args, **arguments: what the suite says.

        Raises:
            UsageError: a file is missing, or of another format.
        """
        return self.function(data, guides, *args, **arguments)


READERS: Registry[TargetReader] = Registry(
    "reader", "dlm_control.readers", "a function under @register_reader", lambda thing: isinstance(thing, TargetReader)
)


def register_reader(name: str, *, needs_files: bool = True) -> Callable[[Function], TargetReader]:
    """Decorator: make a function that yields targets known as a reader.

    Args:
        name: in suites.
        needs_files: it reads files of the folder that it is given.

    Raises:
        UsageError: the name is none or is taken.
    """
    READERS.check_name(name)

    def register(function: Function) -> TargetReader:
        reader = TargetReader(name, function, needs_files)
        READERS.register(name, reader, function)
        return reader

    return register
