"""What a row of a corpus means: the fields of its text, from a meaning representation or from a column for each field."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from dlm_control.controllers.fields.domain import ABSENT, Domain
from dlm_control.support.errors import ErrorCollector, suggestion

COLUMN = "mr"  # of meaning representations
_FIELD = re.compile(r"([^\[\],]+)\[([^\]]*)\]")


def fields_of(meaning: str) -> dict[str, str]:
    """The fields of a meaning representation such as `name[The Mill], food[English]`, and their values."""
    return {field.strip(): value for field, value in _FIELD.findall(meaning)}


def meaning_columns(columns: Collection[str], domain: Domain, mr: str = COLUMN) -> dict[str, str]:
    """The columns that say what a text means: that of meaning representations where there is one, else those of fields.

    Args:
        columns: of a corpus.
        domain: of its texts.
        mr: the column of meaning representations.

    Returns:
        For each column its field, which is "" for meaning representations.
    """
    if mr in columns:
        return {mr: ""}
    named = {name.lower(): field for field, what in domain.fields.items() for name in (field, *what.also)}
    return {column: named[column.lower()] for column in columns if column.lower() in named}


def meaning_of(row: Mapping[str, str], columns: Mapping[str, str]) -> str:
    """The meaning representation of a row; an empty cell says nothing.

    Args:
        row: of a corpus.
        columns: as `meaning_columns` returns them.
    """
    if "" in columns.values():
        return row[next(iter(columns))]
    said = {field: " ".join(row[column].split()) for column, field in columns.items()}
    return ", ".join(f"{field}[{value}]" for field, value in said.items() if value and value != ABSENT)


def labels(meanings: Sequence[str], domain: Domain, source: str) -> list[list[int]]:
    """Class of each field in meaning representations such as "name[The Mill], food[English]"; 0 where it is not said.

    Args:
        meanings: of texts.
        domain: of the texts.
        source: what to call them in reports.

    Raises:
        UsageError: some name values that their field does not have; all of them in one report.
    """
    classes = {field: {v.lower(): 1 + i for i, v in enumerate(what.values)} for field, what in domain.fields.items()}
    unknown, found = Counter[tuple[str, str]](), []
    for meaning in meanings:
        said = fields_of(meaning)
        unknown.update((field, said[field]) for field in classes if field in said and said[field].lower() not in classes[field])
        found.append([of.get(said.get(field, "").lower(), 0) for field, of in classes.items()])
    problems = ErrorCollector(source)
    for (field, value), count in sorted(unknown.items()):
        values = domain.fields[field].values
        near = suggestion(value, values) or f"; it has {', '.join(values)}"
        problems.add(field, f"unknown value {value!r} in {count} rows{near} ({domain.source})")
    problems.raise_if_any()
    return found


def cell_text(cell: object) -> str:
    """A cell as it was written: whole numbers beside empty cells are read as 5.0."""
    if cell is None:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
