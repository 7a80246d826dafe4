"""What a row of a corpus means: the fields of its text, from a meaning representation or from a column for each field."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from dlm_control.controllers.fields.domain import ABSENT, Domain

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
