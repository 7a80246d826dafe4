"""Does a text say that a field has a value? Patterns of the domain's scorer, no wordings that a controller knows.

They are regular expressions over lower-cased text: `patterns` in a domain file or, where it has none for a value, its wordings.
The share of human sentences that pass is reported beside every score.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from dlm_control.controllers.fields.domain import Domain, Field

_GAP = " ; "  # in place of what is no evidence: nothing is found across it


def is_realised(domain: Domain, field: str, value: str, text: str) -> bool:
    """Does the text say that the field has this value, and no other that contradicts it?

    Args:
        domain: of the text.
        field, value: by their names in the domain.
        text: as people write it.
    """
    what, plain = domain.fields[field], _plain(text)
    if not what.exclusive:
        return _matches(what, value, plain)
    found = {other for other in what.values if _matches(what, other, plain)}
    return value in found and not _against(what, value, found) - what.values[value].overrides


def contradictions(domain: Domain, text: str) -> list[str]:
    """The fields of which a text says two values that exclude one another, such as Italian and French food.

    Stricter than `is_realised`, which may miss a value at little cost: what a domain says to ignore is no evidence.
    """
    plain = _without(domain.ignore, _plain(text))
    found = []
    for name, what in domain.fields.items():
        if what.exclusive:
            evidence = _without(what.ignore, plain)
            said = {value for value in what.values if _matches(what, value, _own(what, value, evidence))}
            if any(_against(what, value, said) for value in said):
                found.append(name)
    return found


def _against(field: Field, value: str, said: set[str]) -> set[str]:
    """The values of those said that contradict one."""
    return said - {value} - field.values[value].agrees


def _own(field: Field, value: str, text: str) -> str:
    """A text without what another value's patterns claim, such as "not family-friendly" where friendliness is looked for."""
    for other in field.values.values():
        if value in other.overrides:
            text = _compiled(other.pattern).sub(_GAP, text)
    return text


def _without(ignored: str, text: str) -> str:
    """A text without what is no evidence; of a match, what a group `kept` holds stays."""
    if not ignored:
        return text
    return _compiled(ignored).sub(lambda found: found.groupdict().get("kept") or _GAP, text)


def _matches(field: Field, value: str, text: str) -> bool:
    return _compiled(field.values[value].pattern).search(text) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).lower().replace("’", "'").split())
