"""Frozen dataclasses that files hold as JSON objects: one place reads them, with all faults in one report, and writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar, get_type_hints

from dlm_control.support.errors import Issue, UsageError, short_repr, suggestion
from dlm_control.support.files import write_whole
from dlm_control.support.values import MisfitError, fitted

R = TypeVar("R", bound="Record")
REST = {"rest": True}
"""Metadata of a field that holds, by key, all that no other field is called."""


@dataclass(frozen=True)
class Record:
    """Base of dataclasses that files hold. A key of the JSON object is a field; a field marked REST holds all other keys."""

    @classmethod
    def from_json(cls, given: Mapping[str, Any], place: str = "") -> Self:
        """The record of a JSON object, its values checked against the fields' annotations.

        Args:
            given: keys and values.
            place: of the object in its file, for the faults.

        Raises:
            MisfitError: keys are missing or unknown, or values do not fit.
        """
        types, others = _fields(cls)  # type: ignore[arg-type]  # mypy: a class is hashable
        issues: list[Issue] = []
        if others:
            given = {key: given[key] for key in given if key in types} | {
                others: {k: given[k] for k in given if k not in types}
            }
        found = {}
        for key, value in given.items():
            inner = place if key == others else f"{place}.{key}".lstrip(".")
            if key not in types:
                issues.append(Issue(inner, f"unknown key{suggestion(key, types)}; there are: {', '.join(types)}"))
                continue
            try:
                found[key] = fitted(types[key], value, inner)
            except MisfitError as misfit:
                issues += misfit.issues
        lacking = [each.name for each in fields(cls) if _required(each) and each.name not in given]
        if lacking:
            issues.append(Issue(place, f"has no {', '.join(lacking)}"))
        if issues:
            raise MisfitError(issues, inner=True)
        return cls(**found)

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object; a field that is None by default is left out where it is None."""
        found: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.metadata.get("rest"):
                found |= value
            elif value is not None or _required(each):
                found[each.name] = value
        return found


def _required(each: Field[Any]) -> bool:
    return each.default is MISSING and each.default_factory is MISSING


@cache
def _fields(kind: type[Record]) -> tuple[dict[str, Any], str | None]:
    """The type of each field, and which one holds all other keys."""
    return get_type_hints(kind, include_extras=True), next((f.name for f in fields(kind) if f.metadata.get("rest")), None)


def record_text(record: Record, indent: int | None = None) -> str:
    """A record as JSON: one line, or indented by so many spaces."""
    return json.dumps(record, default=Record.to_json, ensure_ascii=False, indent=indent) + "\n"


def as_json(value: object) -> str:
    """What a command found, as indented JSON: records, dataclasses and named tuples as objects, NaN as null."""
    return json.dumps(_bare(value), ensure_ascii=False, indent=1)


def _bare(value: Any) -> Any:
    if isinstance(value, Record):
        value = value.to_json()
    elif is_dataclass(value):
        value = {each.name: getattr(value, each.name) for each in fields(value)}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): _bare(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_bare(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def parse_record(kind: type[R], text: str, where: str) -> R:
    """The record that a JSON text holds.

    Args:
        kind: the class of the record.
        text: JSON.
        where: its file, or file and line; heads the report.

    Raises:
        UsageError: it is not JSON or no such record; all faults in one report.
    """
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where}: is not JSON: {error}", [Issue("", f"is not JSON: {error}")]) from None
    return fit_record(kind, given, where)


def fit_record(kind: type[R], given: object, where: str) -> R:
    """The record of keys and values; as `parse_record` where they are at hand already."""
    issues = [Issue("", f"expected a JSON object, got {short_repr(given)}")]
    if isinstance(given, Mapping):
        try:
            return kind.from_json(given)
        except MisfitError as misfit:
            issues = misfit.issues
    listed = f" {issues[0]}" if len(issues) == 1 else "".join(f"\n  - {issue}" for issue in issues)
    raise UsageError(f"{where}:{listed}", issues)


def read_record(kind: type[R], file: Path) -> R:
    """The record of a file; as `parse_record`."""
    return parse_record(kind, file.read_text(encoding="utf-8"), str(file))


def write_record(file: Path, record: Record) -> None:
    """Write a record's file whole or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    write_whole({file: record_text(record, indent=1)})
