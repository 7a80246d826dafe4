"""Controllers by name: built in, installed by other packages, or read from a file."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dlm_control.support.errors import UsageError, short_repr, suggestion

if TYPE_CHECKING:
    from dlm_control.control.controller import Controller

GROUP = "dlm_control.controllers"
NAME = re.compile(r"[^\W\d][\w-]*")
_INCLUDED = "dlm_control_include."
C = TypeVar("C", bound="type[Controller]")
BeforeInclude = Callable[[Path, str], None]
"""Is told of a Python file and its sha256 before the file runs, and may refuse it with a UsageError."""


@dataclass(frozen=True)
class Entry:
    """A registered controller.

    Attributes:
        name: in specs.
        origin: the package or file it comes from.
    """

    name: str
    origin: str
    _source: EntryPoint | type[Controller]

    def load(self) -> type[Controller]:
        """The class; imported now if it was not yet.

        Raises:
            UsageError: it does not import, or is no Controller.
        """
        if isinstance(self._source, type):
            return self._source
        try:
            cls = self._source.load()
        except Exception as error:
            raise UsageError(f"controller {self.name!r} of {self.origin} does not import: {error!r}") from error
        return _checked(self.name, cls)


_registered: dict[str, Entry] = {}
_included: dict[str, str] = {}  # by module name, the sha256 of each included file; the last included is the last


def register_controller(name: str) -> Callable[[C], C]:
    """Class decorator: make a Controller known under a name. The same class written again, as in a notebook, takes its place.

    Raises:
        UsageError: the name is none or is taken by another class, or the decorated thing is no Controller.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        expected = "a name of letters, digits, _ and -, as in @register_controller('my-name')"
        raise UsageError(f"register_controller: expected {expected}, got {short_repr(name)}")

    def register(cls: C) -> C:
        _checked(name, cls)
        cls.name = name
        origin = _origin(cls)
        taken = controllers().get(name)
        if taken is not None and taken.origin != _package(cls) and taken.origin != origin:
            raise UsageError(f"controller {name!r}: already registered by {taken.origin}; choose another name")
        mine = _registered.get(name)
        if mine is not None and not _same(mine._source, cls):
            raise UsageError(f"controller {name!r}: registered twice in {origin}; choose another name")
        if taken is None or mine is not None:
            _registered[name] = Entry(name, origin, cls)
        return cls

    return register


def controllers() -> dict[str, Entry]:
    """All known controllers by name, in alphabetical order; none is imported for it.

    Raises:
        UsageError: two packages claim one name.
    """
    found = dict(_registered)
    for entry in _installed(tuple((folder, _changed(folder)) for folder in sys.path)):
        if entry.name in found and found[entry.name].origin != entry.origin:
            both = f"{found[entry.name].origin} and {entry.origin}"
            raise UsageError(f"controller {entry.name!r} comes from both {both}; uninstall one")
        found[entry.name] = entry
    return dict(sorted(found.items()))


@lru_cache(maxsize=1)
def _installed(folders: tuple[tuple[str, int], ...]) -> tuple[Entry, ...]:
    """The controllers of installed packages; reading them takes 10 ms, and a batch asks for thousands of controllers."""
    points = entry_points(group=GROUP)
    return tuple(Entry(point.name, point.dist.name if point.dist else "?", point) for point in points)


def _changed(folder: str) -> int:
    """When something was last installed in a folder of the path, in ns."""
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0


def controller(name: str) -> type[Controller]:
    """The controller class of that name.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    known = controllers()
    if name not in known:
        raise UsageError(f"unknown controller {name!r}{suggestion(name, known)}; there are: {', '.join(known)}")
    return known[name].load()


def include(path: str | Path, before_include: BeforeInclude | None = None) -> str:
    """Run a Python file that registers controllers; one that ran before runs again only if it has changed.

    Args:
        path: of the file.
        before_include: called with the file and its sha256 before the code runs; if it raises a UsageError, nothing runs.

    Returns:
        The sha256 of what ran.

    Raises:
        UsageError: it is missing or fails, or `before_include` refuses it.
    """
    if Path(path).suffix != ".py" or not os.path.isfile(path):
        raise UsageError(f"include {short_repr(str(path))[1:-1]}: no such Python file")
    file = Path(path).resolve()
    try:
        code = file.read_bytes()
    except OSError as error:
        raise UsageError(f"include {path}: cannot be read: {error.strerror}") from None
    digest = hashlib.sha256(code).hexdigest()
    if before_include is not None:
        before_include(Path(path), digest)
    name = f"{_INCLUDED}{hashlib.sha256(bytes(file)).hexdigest()[:8]}.{file.stem}"  # two folders may hold a file of one name
    earlier, before = sys.modules.get(name), dict(_registered)
    if earlier is not None and _included.get(name) == digest:
        _included[name] = _included.pop(name)  # the last one now
        return digest
    for key in [key for key, entry in before.items() if entry.origin == str(file)]:
        del _registered[key]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        exec(compile(code, str(file), "exec"), vars(module))  # no .pyc, which an edit within a second would leave stale
    except Exception as error:
        del sys.modules[name]
        if earlier is not None:
            sys.modules[name] = earlier
        _registered.clear()
        _registered.update(before)
        reason = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        raise UsageError(f"include {path}: {reason}") from error
    _included.pop(name, None)
    _included[name] = digest
    return digest


def function(reference: str) -> Callable[..., object]:
    """The function that `module:function` names, of a file that was included; of two of one name, of that included last.

    Functions of other modules cannot be named: a spec would then run whatever is installed, `os.system` on its texts for one.

    Raises:
        UsageError: there is none.
    """
    module, _, name = reference.partition(":")
    if not module or not name:
        raise UsageError(f"expected `module:function`, got {short_repr(reference)}")
    files = [each for each in _included if each in sys.modules and each.split(".", 2)[-1] == module]
    if not files:
        raise UsageError(
            f"{reference}: no included file is named {module}.py; write one, with an import of what it needs, and include it"
        )
    found: Callable[..., object] | None = getattr(sys.modules[files[-1]], name, None)
    if not callable(found):
        raise UsageError(f"{reference}: {module}.py has no function {name!r}")
    return found


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


def _origin(cls: type) -> str:
    """Where a class was written: the file that was included, or the module."""
    if cls.__module__.startswith(_INCLUDED):
        return str(sys.modules[cls.__module__].__file__)
    return cls.__module__


def _same(a: object, b: type) -> bool:
    """Are they one class, or one that was written again?"""
    return isinstance(a, type) and (a.__module__, a.__qualname__) == (b.__module__, b.__qualname__)


def _package(cls: type) -> str:
    """The distribution a class's module belongs to, by its top-level name."""
    return cls.__module__.split(".")[0].replace("_", "-")


def _checked(name: str, cls: object) -> type[Controller]:
    from dlm_control.control.controller import Controller

    if not (inspect.isclass(cls) and issubclass(cls, Controller)):
        raise UsageError(f"controller {name!r}: expected a subclass of dlm_control.Controller, got {cls!r}")
    return cls
