"""Domain files: YAML that says fields, their values and wordings, and the patterns that a scorer finds them by."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from dlm_control.controllers.fields.domain import ABSENT, Domain, Field, Value
from dlm_control.support.errors import ErrorCollector, suggestion
from dlm_control.support.validation import check_arguments
from dlm_control.support.values import Fits
from dlm_control.support.yaml_file import read_yaml
from dlm_control.text.words import split_words

_FRAGMENT = re.compile(r"\(\?&(\w+)\)")  # as in Perl and PCRE
_BRACKETS = re.compile(r"[\[\],]")  # of meaning representations: a name with one could not be told there
_Texts = Annotated[Sequence[str], Fits("a list of texts")]


@dataclass(frozen=True)
class ValueEntry:
    """A value in a domain file; a list of wordings alone is short for it.

    Attributes:
        wordings: how texts say it.
        patterns: regular expressions over lower-cased text that a scorer finds it by; by default its wordings.
        overrides: values whose patterns also match within what this one's find.
    """

    wordings: _Texts = ()
    patterns: _Texts = ()
    overrides: _Texts = ()


@dataclass(frozen=True)
class FieldEntry:
    """A field in a domain file.

    Attributes:
        values: each with a `ValueEntry`; or a list of values that are said as they are written.
        also: other names of the field.
        wordings: of values that have none of their own; `{value}` stands for the value.
        mentions: words that speak of the field whatever its value.
        patterns: of values that have none of their own; `(?&value)` stands for the value, without a leading "the".
        exclusive: two of its values contradict each other.
        agree: pairs of values that do not.
        ignore: patterns of what is no evidence where contradictions are looked for.
    """

    values: Annotated[
        Mapping[str, Any] | Sequence[str],
        Fits("values, each with a list of its wordings, or a list of values that are said as they are written", bool),
    ]
    also: _Texts = ()
    wordings: _Texts = ()
    mentions: _Texts = ()
    patterns: _Texts = ()
    exclusive: bool = True
    agree: Annotated[Sequence[Sequence[str]], Fits("a list of pairs of values", lambda all: all_pairs(all))] = ()
    ignore: _Texts = ()


@dataclass(frozen=True)
class DomainEntry:
    """A domain file.

    Attributes:
        fields: each a `FieldEntry`.
        fragments: of patterns, where `(?&name)` stands for one.
        ignore: as that of a field, for all of them.
    """

    fields: Annotated[Mapping[str, Any], Fits("fields, each with its values", bool)]
    fragments: Annotated[Mapping[str, str | Sequence[str]], Fits("names, each with a pattern or a list of patterns")] = field(
        default_factory=dict
    )
    ignore: _Texts = ()


class _Patterns(NamedTuple):
    """Makes regular expressions of a file's patterns, and notes those that are none."""

    fragments: dict[str, str]
    problems: ErrorCollector

    def joined(self, patterns: Sequence[str], place: str, **more: str) -> str:
        """One that matches where any does, fragments put in."""
        known, whole = {**self.fragments, **more}, []
        for i, pattern in enumerate(patterns):
            inner = f"{place}[{i}]"
            for name in dict.fromkeys(_FRAGMENT.findall(pattern)):
                if name not in known:
                    near = suggestion(name, known)
                    self.problems.add(inner, f"unknown fragment {name!r}{near}; there are: {', '.join(known) or 'none'}")
            put_in = _FRAGMENT.sub(lambda found: f"(?:{known.get(found[1], '')})", pattern)
            try:
                re.compile(put_in)
            except re.error as error:
                self.problems.add(inner, f"no regular expression: {error}")
                continue
            whole.append(put_in)
        together = "|".join(whole)
        try:
            re.compile(together)
        except re.error as error:  # such as a group of one name in two of them
            self.problems.add(place, f"each is a regular expression, all together are none: {error}")
        return together


def read_domain(path: Path) -> Domain:
    """The domain of a file.

    Raises:
        UsageError: no such file, or every fault of it in one report.
    """
    content, lines = read_yaml(path)
    problems = ErrorCollector(str(path), lines)
    entry = check_arguments(problems, "", DomainEntry, content)
    patterns = _Patterns({}, problems)
    for name, given in entry.get("fragments", {}).items():
        patterns.fragments[name] = patterns.joined([given] if isinstance(given, str) else given, f"fragments.{name}")
    _check_names("fields", entry.get("fields", {}), problems)
    fields, named = dict[str, Field](), dict[str, str]()
    for name, given in entry.get("fields", {}).items():
        found = _field(given, f"fields.{name}", patterns)
        for other in (name, *(found.also if found else ())):
            if other.lower() in named:
                problems.add(f"fields.{name}", f"{other!r} is a name of the field {named[other.lower()]} already")
            named.setdefault(other.lower(), name)
        if found is not None:
            fields[name] = found
    ignore = patterns.joined(entry.get("ignore", ()), "ignore")
    problems.raise_if_any()
    return Domain(str(path), fields, ignore)


def all_pairs(given: Sequence[Sequence[str]]) -> bool:
    """Is each of two?"""
    return all(len(pair) == 2 for pair in given)


def _field(given: object, place: str, patterns: _Patterns) -> Field | None:
    problems = patterns.problems
    if not isinstance(given, Mapping):
        problems.add(place, "expected keys and values, such as `values: {cheap: [cheap, inexpensive]}`")
        return None
    before = len(problems.found)
    found = check_arguments(problems, place, FieldEntry, given)
    if len(problems.found) > before:
        return None
    entry = FieldEntry(**found)
    usual = entry.wordings or (() if isinstance(entry.values, Mapping) else ("{value}",))
    listed = dict(entry.values) if isinstance(entry.values, Mapping) else {value: {} for value in entry.values}
    _check_names(f"{place}.values", list(entry.values), problems)
    values = {}
    for name, what in listed.items():
        inner = f"{place}.values.{name}"
        if (value := _value_entry(what, inner, problems)) is None:
            continue
        wordings = tuple(value.wordings or (wording.replace("{value}", name) for wording in usual))
        if not wordings:
            problems.add(inner, f"has no wording; list how texts say it, such as [{name}]")
        own = value.patterns or entry.patterns or [_said(wording) for wording in wordings]
        where = f"{inner}.patterns" if value.patterns else f"{place}.patterns"
        pattern = patterns.joined(own, where, value=_plain(name.lower().removeprefix("the ")))
        agrees = frozenset(other for pair in entry.agree if name in pair for other in pair if other != name)
        values[name] = Value(wordings, pattern, frozenset(value.overrides), agrees)
        _check_known(value.overrides, f"{inner}.overrides", listed, problems)
    for i, pair in enumerate(entry.agree):
        _check_known(pair, f"{place}.agree[{i}]", listed, problems)
    _check_wordings(values, place, problems)
    ignore = patterns.joined(entry.ignore, f"{place}.ignore")
    return Field(values, tuple(entry.also), tuple(entry.mentions), entry.exclusive, ignore)


def _value_entry(given: object, place: str, problems: ErrorCollector) -> ValueEntry | None:
    before = len(problems.found)
    what = given if isinstance(given, Mapping) else {"wordings": [] if given is None else given}
    found = check_arguments(problems, place, ValueEntry, what)
    return ValueEntry(**found) if len(problems.found) == before else None


def _check_names(place: str, names: Sequence[str] | Mapping[str, Any], problems: ErrorCollector) -> None:
    """Names that cannot be told from others, or that could not be written in a meaning representation."""
    seen = dict[str, str]()
    for name in names:
        where = f"{place}.{name}"
        if not name.strip() or _BRACKETS.search(name):
            problems.add(where, "a name has letters, and no comma and no square brackets")
        if name.lower() == ABSENT:
            problems.add(where, f"{ABSENT!r} stands for texts that do not speak of a field; choose another name")
        if name.lower() in seen:
            problems.add(where, f"is {seen[name.lower()]!r} in other letters or again; names are told apart in any case")
        seen.setdefault(name.lower(), name)


def _check_known(given: Sequence[str], place: str, values: Mapping[str, Any], problems: ErrorCollector) -> None:
    for name in given:
        if name not in values:
            problems.add(place, f"unknown value {name!r}{suggestion(name, values)}; there are: {', '.join(values)}")


def _check_wordings(values: Mapping[str, Value], place: str, problems: ErrorCollector) -> None:
    """Wordings without words, and those of two values of one field."""
    said = dict[tuple[str, ...], str]()
    for name, value in values.items():
        for wording in dict.fromkeys(value.wordings):
            words = tuple(word.lower() for word in split_words(wording))
            if not words:
                problems.add(f"{place}.values.{name}", f"the wording {wording!r} has no words")
            elif said.get(words, name) != name:
                problems.add(f"{place}.values.{name}", f"the wording {wording!r} is one of {said[words]!r}, too")
            said.setdefault(words, name)


def _said(wording: str) -> str:
    """A pattern of a wording's words, in the spaces and dashes that texts part them by."""
    words = split_words(wording.lower())
    gaps = [r"\s+" if one[-1].isalnum() and other[0].isalnum() else r"\s*" for one, other in pairwise(words)]
    whole = "".join(_plain(word) + gap for word, gap in zip_longest(words, gaps, fillvalue=""))
    return rf"(?<!\w){whole}(?!\w)"


def _plain(text: str) -> str:
    """A pattern of a text in lower case, with accents or without."""
    letters = []
    for char in unicodedata.normalize("NFC", text):
        base = unicodedata.normalize("NFD", char)[0]
        letters.append(f"[{base}{char}]" if base != char else re.escape(char))
    return "".join(letters)
