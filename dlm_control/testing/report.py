"""Holding a thing to rules, and one report of all that it breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from dlm_control.support.errors import Issue, UsageError

C = TypeVar("C")


class ConformanceError(AssertionError):
    """Something breaks rules.

    Attributes:
        issues: `place` is the rule's name.
    """

    def __init__(self, subject: str, issues: Sequence[Issue], rules: int) -> None:
        listed = "\n".join(f"  - {fault}" for fault in issues)
        super().__init__(f"{subject} breaks {len({f.place for f in issues})} of {rules} rules\n{listed}")
        self.issues = tuple(issues)


def hold(subject: str, rules: Mapping[str, Callable[[C], Iterator[str]]], case: C) -> None:
    """Hold a case to rules.

    Args:
        subject: heads the report.
        rules: by name; each yields what the case breaks of it. A rule that raises is broken, too.
        case: what the rules look at.

    Raises:
        ConformanceError: rules are broken; all in one report.
    """
    issues = []
    for name, rule in rules.items():
        try:
            issues += [Issue(name, message) for message in rule(case)]
        except UsageError as error:
            issues.append(Issue(name, str(error)))
        except Exception as error:
            issues.append(Issue(name, f"raised {type(error).__name__}: {error}"))
    if issues:
        raise ConformanceError(subject, issues, len(rules))


def leads_to(registry: Mapping[str, Any], thing: Any) -> Iterator[str]:
    """Rule of all that registers: its name leads to it."""
    if registry.get(thing.name) != thing:
        yield f"the name {thing.name!r} leads to {'another one' if thing.name in registry else 'nothing'}; is it registered?"
