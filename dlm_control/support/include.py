"""Python files that register things: run once, and again when they have changed."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

from dlm_control.support import registry
from dlm_control.support.errors import UsageError, short_repr

_hashes: dict[str, str] = {}  # by module name, the sha256 of each included file; the last included is the last
BeforeInclude = Callable[[Path, str], None]
"""Is told of a Python file and its sha256 before the file runs, and may refuse it with a UsageError."""


def include(path: str | Path, before_include: BeforeInclude | None = None) -> str:
    """Run a Python file that registers controllers, metrics, readers, …; one that ran before runs again only if it has changed.

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
    folder = hashlib.sha256(bytes(file)).hexdigest()[:8]  # two folders may hold a file of one name
    name = f"{registry.INCLUDED}{folder}.{file.stem}"
    earlier, before = sys.modules.get(name), dict(registry.registered)
    if earlier is not None and _hashes.get(name) == digest:
        _hashes[name] = _hashes.pop(name)  # the last one now
        return digest
    for key in [key for key, each in before.items() if each.origin == str(file)]:
        del registry.registered[key]
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
        registry.registered.clear()
        registry.registered.update(before)
        reason = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        raise UsageError(f"include {path}: {reason}") from error
    _hashes.pop(name, None)
    _hashes[name] = digest
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
    files = [each for each in _hashes if each in sys.modules and each.split(".", 2)[-1] == module]
    if not files:
        raise UsageError(
            f"{reference}: no included file is named {module}.py; write one, with an import of what it needs, and include it"
        )
    found: Callable[..., object] | None = getattr(sys.modules[files[-1]], name, None)
    if not callable(found):
        raise UsageError(f"{reference}: {module}.py has no function {name!r}")
    return found
