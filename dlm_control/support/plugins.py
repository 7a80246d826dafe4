"""What other packages bring by entry points."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from dlm_control.support.errors import ErrorCollector, UsageError, suggestion
from dlm_control.support.validation import check_arguments


def installed(group: str, name: str, unknown: str, place: str, /, *arguments: Any, **settings: Any) -> Any:
    """An object of the class that an entry point names.

    Args:
        group: of entry points.
        name: of one.
        unknown, place: head the messages about unknown names and settings.
        *arguments, **settings: of the constructor.

    Raises:
        UsageError: no such entry point, or no such settings.
    """
    cls = installed_class(group, name, unknown)
    problems = ErrorCollector(place)
    found = check_arguments(problems, "", cls, settings, positional=len(arguments))
    problems.raise_if_any()
    return cls(*arguments, **found)


def installed_class(group: str, name: str, unknown: str) -> Any:
    """The class that an entry point names.

    Args:
        group: of entry points.
        name: of one.
        unknown: heads the message about an unknown name.

    Raises:
        UsageError: no such entry point.
    """
    known = {entry.name: entry for entry in entry_points(group=group)}
    if name not in known:
        raise UsageError(f"{unknown} {name!r}{suggestion(name, known)}; there are: {', '.join(sorted(known))}")
    return known[name].load()
