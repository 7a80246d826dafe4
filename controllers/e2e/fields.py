"""The fields of the E2E data (Novikova et al. 2017), their values, and how a text says them.

`PHRASES[field][value]` lists wordings seen for a value in the training text; the value as written in the data comes first where
texts use it. They are what the model can write and what a check looks for, so a check knows no wording the guide does not: the
evaluation harness therefore judges with patterns of its own.
"""

from __future__ import annotations

import re

from dlm_control.support.errors import UsageError, suggestion

_NAMES = (
    "The Vaults|The Cambridge Blue|The Eagle|The Mill|Loch Fyne|Bibimbap House|The Rice Boat|The Wrestlers|Aromi|The Phoenix|"
    "Browns Cambridge|Taste of Cambridge|Cocum|The Dumpling Tree|The Punter|The Golden Curry|Alimentum|Midsummer House|"
    "Blue Spice|Strada|The Waterman|Zizzi|Green Man|Clowns|Giraffe|The Olive Grove|The Twenty Two|The Cricketers|Wildwood|"
    "The Golden Palace|The Plough|Cotto|Fitzbillies|Travellers Rest Beefeater"
)
_LANDMARKS = (
    "The Rice Boat|Clare Hall|Raja Indian Cuisine|Café Rouge|Yippee Noodle Bar|The Portland Arms|All Bar One|"
    "Express by Holiday Inn|The Bakers|Café Sicilia|Avalon|The Six Bells|Ranch|Crowne Plaza Hotel|Rainbow Vegetarian Café|"
    "The Sorrento|Café Brazil|Burger King|Café Adriatic"
)
_NEAR = ("near", "near to", "close to", "next to", "by", "beside")
_CHILDREN = ("family", "kid", "child", "children")


def _stars(number: str, word: str) -> tuple[str, ...]:
    """Wordings of a customer rating in stars."""
    numbered = (f"{number} {noun}" for noun in ("out of 5", "star", "stars", "- star"))
    return (*numbered, f"{word} star", f"{word} out of five")


def _level(level: str, *more: str) -> tuple[str, ...]:
    """Wordings of a customer rating in words."""
    before = (f"{level} {noun}" for noun in ("customer rating", "customer ratings", "rating", "ratings", "rated", "- rated"))
    return (*before, f"rating is {level}", f"rating of {level}", f"rated {level}", *more)


def _friendly(*before: str) -> tuple[str, ...]:
    """Wordings that end in family-friendly, kid friendly and the like."""
    return tuple(f"{word} {who} {dash}friendly" for dash in ("", "- ") for who in _CHILDREN for word in before)


PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    "name": {name: (name,) for name in _NAMES.split("|")},
    "eatType": {"pub": ("pub",), "coffee shop": ("coffee shop",), "restaurant": ("restaurant",)},
    "food": {
        "Chinese": ("Chinese",), "English": ("English", "British"), "French": ("French",), "Indian": ("Indian",),
        "Italian": ("Italian",), "Japanese": ("Japanese",),
        "Fast food": ("Fast food", "fast food", "fast - food"),
    },
    "priceRange": {
        "cheap": ("cheap", "low price", "low prices", "low - priced", "inexpensive"),
        "less than £20": ("less than £20", "less than 20", "under £20"),
        "£20-25": ("£20-25", "£20 to £25", "£20-£25", "20-25", "20 to 25"),
        "moderate": ("moderate price", "moderate", "moderately priced", "moderate prices", "moderately"),
        "more than £30": ("more than £30", "more than 30", "over £30"),
        "high": ("high price", "high prices", "high - priced", "high priced", "price range is high", "expensive"),
    },
    "customer rating": {
        "low": _level("low", "poorly rated"), "average": _level("average"), "high": _level("high", "highly rated"),
        "1 out of 5": _stars("1", "one"), "3 out of 5": _stars("3", "three"), "5 out of 5": _stars("5", "five"),
    },
    "area": {
        "riverside": ("riverside", "by the river", "on the river"),
        "city centre": ("city centre", "city center", "centre of the city", "center of the city"),
    },
    "familyFriendly": {
        "yes": _friendly("is", "a", "and", ","),
        "no": (*_friendly("not", "not a", "n't", "non"), "adults only", "not for families"),
    },
    "near": {place: tuple(f"{near} {place}" for near in _NEAR) for place in _LANDMARKS.split("|")},
}  # fmt: skip

ABSENT = "absent"  # in place of a value: the text does not speak of the field

# Words that speak of a field whatever its value, beside the wordings of its values.
MENTIONS: dict[str, tuple[str, ...]] = {
    "name": (),
    "eatType": (),
    "food": (),
    "priceRange": ("price", "prices", "priced", "pricing", "cost", "costs", "£", "affordable", "pricey"),
    "customer rating": ("rating", "ratings", "rated", "rate", "star", "stars", "reviews", "customer", "customers", "out of 5"),
    "area": ("river", "centre", "center", "area", "city"),
    "familyFriendly": ("family", "families", "kid", "kids", "child", "children", "adult", "adults", "friendly"),
    "near": ("near", "close to", "next to", "beside", "by"),
}

ALIASES = {"type": "eatType", "price": "priceRange", "rating": "customer rating", "family friendly": "familyFriendly"}
FIELDS = tuple(PHRASES)


def field_of(given: str) -> str:
    """The field of that name: as in the data, in any case, or as the 2022 targets call it.

    Raises:
        UsageError: there is none.
    """
    known = {field.lower(): field for field in FIELDS} | ALIASES
    field = known.get(str(given).lower())
    if field is None:
        raise UsageError(f"semantic: field: unknown {given!r}{suggestion(str(given), known)}; there are: {', '.join(FIELDS)}")
    return field


def value_of(field: str, given: str | bool | float) -> str:
    """The value of a field, in any case.

    Raises:
        UsageError: the field has no such value.
    """
    if isinstance(given, bool):  # YAML reads yes and no as truth values
        given = "yes" if given else "no"
    if given == ABSENT:
        return ABSENT
    values = {value.lower(): value for value in PHRASES[field]}
    value = values.get(str(given).lower())
    if value is None:
        raise UsageError(
            f"semantic: value: {field} has no value {given!r}{suggestion(str(given), values.values())}; "
            f"it has {', '.join(PHRASES[field])}, and {ABSENT}"
        )
    return value


def fields_of(meaning: str) -> dict[str, str]:
    """The fields of a meaning representation such as `name[The Mill], food[English]`, and their values."""
    return dict(re.findall(r"(\w[\w ]*)\[([^\]]*)\]", meaning))
