"""Things by name: built in, installed by other packages, or registered by a file or a notebook."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from inspect import isclass
from typing import Any, Generic, TypeVar

from dlm_control.support.errors import UsageError, short_repr, suggestion

NAME = re.compile(r"[^\W\d][\w-]*")
INCLUDED = "dlm_control_include."
"""Begins the names of modules that were included as files."""
T = TypeVar("T")


@dataclass(frozen=True)
class Registered:
    """What code registered that ran here.

    Attributes:
        thing: that has the name.
        module, qualname: of the class or function.
        origin: the file that was included, or the module.
    """

    thing: Any
    module: str
    qualname: str
    origin: str

    def load(self) -> Any:
        """The thing."""
        return self.thing


registered: dict[tuple[str, str], Registered] = {}
"""By group and name, of all registries; `include` undoes in it what a file did that failed."""


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A name of a registry; nothing is imported for it.

    Attributes:
        name: that users write.
        origin: the package or file it comes from.
        load: makes the thing, importing it now if it was not yet; raises UsageError if it does not import or is none.
        code: `module:name` of an entry point; empty for what was registered here.
    """

    name: str
    origin: str
    load: Callable[[], T]
    code: str = ""


def subclass_of(base: type) -> Callable[[object], bool]:
    """Is something a class below another one?"""
    return lambda thing: isclass(thing) and issubclass(thing, base)


class Registry(Mapping[str, T]):
    """All things of one kind by name, in alphabetical order; looked up anew each time, so what was included since is there.

    Args:
        kind: what a thing is called in reports, such as `controller`.
        group: of the entry points by which packages bring such things.
        expected: what one is, in words.
        fits: is something such a thing?
    """

    def __init__(self, kind: str, group: str, expected: str, fits: Callable[[object], bool]) -> None:
        self.kind, self.group, self.expected, self.fits = kind, group, expected, fits

    def __getitem__(self, name: str) -> T:
        return self.entries()[name].load()

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries())

    def __len__(self) -> int:
        return len(self.entries())

    def __contains__(self, name: object) -> bool:
        return name in self.entries()

    def entries(self) -> dict[str, Entry[T]]:
        """What is known of each; none is imported for it.

        Raises:
            UsageError: two packages claim one name.
        """
        mine = ((name, each) for (group, name), each in registered.items() if group == self.group)
        found = {name: Entry[T](name, each.origin, each.load) for name, each in mine}
        for point, origin in installed(self.group):
            if point.name in found:
                both = f"{found[point.name].origin} and {origin}"
                raise UsageError(f"{self.kind} {point.name!r} comes from both {both}; uninstall one")
            found[point.name] = Entry(point.name, origin, _Loaded(self, point, origin), point.value)
        return dict(sorted(found.items()))

    def find(self, name: str, unknown: str = "") -> T:
        """The thing of a name that a user gave.

        Args:
            name: that was given.
            unknown: heads the message about a name that there is not; by default `unknown` and the kind.

        Raises:
            UsageError: there is none, and the message lists those there are; or it does not import.
        """
        known = self.entries()
        if name not in known:
            head = unknown or f"unknown {self.kind}"
            raise UsageError(f"{head} {name!r}{suggestion(name, known)}; there are: {', '.join(known)}")
        return known[name].load()

    def check_name(self, name: object) -> None:
        """
        Raises:
            UsageError: it is no name.
        """
        if not isinstance(name, str) or not NAME.fullmatch(name):
            function = f"register_{self.kind.split()[-1]}"
            expected = f"a name of letters, digits, _ and -, as in @{function}('my-name')"
            raise UsageError(f"{function}: expected {expected}, got {short_repr(name)}")

    def register(self, name: str, thing: T, code: Any) -> None:
        """Make a thing known under a name. The same class or function written again, as in a notebook, takes its place.

        Args:
            name: for users.
            thing: that has the name.
            code: the class or function that the thing is or was made of.

        Raises:
            UsageError: the name is none or is taken, or the thing is none of the kind.
        """
        self.check_name(name)
        self.checked(name, thing)
        mine, taken = registered.get((self.group, name)), self.entries().get(name)
        made = Registered(thing, code.__module__, code.__qualname__, _origin(code))
        if taken is not None and _package(taken.code) == _package(code.__module__):
            return  # an entry point of the same package brings it
        if taken is not None and (mine is None or mine.origin != made.origin):
            raise UsageError(f"{self.kind} {name!r}: already registered by {taken.origin}; choose another name")
        if mine is not None and (mine.module, mine.qualname) != (made.module, made.qualname):
            raise UsageError(f"{self.kind} {name!r}: registered twice in {made.origin}; choose another name")
        registered[self.group, name] = made

    def checked(self, name: str, thing: object) -> Any:
        """The thing, if it is one of the kind.

        Raises:
            UsageError: it is not.
        """
        if not self.fits(thing):
            raise UsageError(f"{self.kind} {name!r}: expected {self.expected}, got {thing!r}")
        return thing


@dataclass(frozen=True)
class _Loaded(Generic[T]):
    """Makes the thing of an entry point."""

    registry: Registry[T]
    point: EntryPoint
    origin: str

    def __call__(self) -> T:
        try:
            thing = self.point.load()
        except Exception as error:
            what = f"{self.registry.kind} {self.point.name!r} of {self.origin}"
            raise UsageError(f"{what} does not import: {error!r}") from error
        found: T = self.registry.checked(self.point.name, thing)
        return found


def installed(group: str) -> tuple[tuple[EntryPoint, str], ...]:
    """The entry points of a group, of all packages that are installed now, each with the name of its package."""
    return _points(group, tuple((folder, _changed(folder)) for folder in sys.path))


@lru_cache(maxsize=32)
def _points(group: str, folders: tuple[tuple[str, int], ...]) -> tuple[tuple[EntryPoint, str], ...]:
    """As `installed`; reading them takes 10 ms, and a batch asks for thousands of controllers."""
    return tuple((point, point.dist.name if point.dist else "?") for point in entry_points(group=group))


def _changed(folder: str) -> int:
    """When something was last installed in a folder of the path, in ns."""
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0


def _package(module: str) -> str:
    return re.split("[.:]", module)[0]


def _origin(code: Any) -> str:
    """Where a class or function was written: the file that was included, or the module."""
    module: str = code.__module__
    return str(sys.modules[module].__file__) if module.startswith(INCLUDED) else module
