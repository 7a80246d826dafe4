"""A domain: the fields that its texts speak of, their values, and how a text says them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dlm_control.support.errors import ErrorCollector, UsageError, suggestion
from dlm_control.text.words import split_words

ABSENT = "absent"  # in place of a value: the text does not speak of the field


@dataclass(frozen=True)
class Value:
    """A value of a field.

    Attributes:
        wordings: how texts say it. The model can write them and a control looks for them, so a scorer has patterns of its own.
        pattern: a regular expression over lower-cased text that finds it.
        overrides: values whose patterns also match within what this one's finds, such as `yes` in "not family-friendly".
        agrees: other values of the field that a text may say beside it.
    """

    wordings: tuple[str, ...]
    pattern: str
    overrides: frozenset[str] = frozenset()
    agrees: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Field:
    """A field, such as the food of a restaurant.

    Attributes:
        values: by name.
        also: other names of the field.
        mentions: words that speak of the field whatever its value, beside the wordings of its values.
        exclusive: two of its values contradict each other, unless they agree.
        ignore: a regular expression of what is no evidence where contradictions are looked for, or "" for none.
    """

    values: Mapping[str, Value]
    also: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()
    exclusive: bool = True
    ignore: str = ""


@dataclass(frozen=True, eq=False)
class Domain:
    """What texts of a kind speak of, as a domain file says it.

    Attributes:
        source: the file.
        fields: by name.
        ignore: a regular expression of what is no evidence of any field where contradictions are looked for, or "".
    """

    source: str
    fields: Mapping[str, Field]
    ignore: str = ""

    def field_of(self, given: str) -> str:
        """The field of that name, in any case, or of that other name.

        Raises:
            UsageError: there is none.
        """
        known = {name.lower(): field for field, what in self.fields.items() for name in (field, *what.also)}
        field = known.get(given.lower())
        if field is None:
            raise UsageError(f"field: unknown {given!r}{suggestion(given, known)}; there are: {', '.join(self.fields)}")
        return field

    def value_of(self, field: str, given: str) -> str:
        """The value of a field, in any case, or `ABSENT`.

        Raises:
            UsageError: the field has no such value.
        """
        if given == ABSENT:
            return ABSENT
        values = self.fields[field].values
        value = {value.lower(): value for value in values}.get(given.lower())
        if value is None:
            near = suggestion(given, values)
            raise UsageError(f"value: {field} has no value {given!r}{near}; it has {', '.join(values)}, and {ABSENT}")
        return value

    def wordings(self, field: str, value: str) -> tuple[str, ...]:
        """How texts say a value; for ABSENT all ways to speak of the field."""
        what = self.fields[field]
        if value != ABSENT:
            return what.values[value].wordings
        return (*what.mentions, *(wording for each in what.values.values() for wording in each.wordings))

    def check_words(self, vocabulary: Collection[str]) -> None:
        """
        Raises:
            UsageError: of some values no wording is all of these words; all of them in one report.
        """
        problems = ErrorCollector(self.source)
        for field, what in self.fields.items():
            for name, value in what.values.items():
                lacking = [[word for word in split_words(wording) if word not in vocabulary] for wording in value.wordings]
                if all(lacking):
                    words = ", ".join(sorted({word for each in lacking for word in each}))
                    problems.add(f"fields.{field}.values.{name}", f"no wording is of the model's words, which lack {words}")
        problems.raise_if_any()
