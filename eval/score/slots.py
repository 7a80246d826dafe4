"""Does a text say that an E2E field has a value? Patterns of the harness's own, no list that a controller knows.

A field is realised when a pattern of its value matches and none of its other values' does. They are regular expressions over
lower-cased text, written against human dev sentences, as Dušek et al. (2019) cleaned the corpus. The share
of human sentences that pass is reported beside every score.
"""

from __future__ import annotations

import re
import unicodedata


def is_realised(field: str, value: str, text: str) -> bool:
    """Does the text say that the field has this value, and no other?"""
    plain = _plain(text)
    if field in ("name", "near"):
        return _named(field, value, plain)
    if field == "familyFriendly":
        refused = _UNFRIENDLY.search(plain) is not None
        return refused if value == "no" else not refused and _FRIENDLY.search(plain) is not None
    found = {other for other, pattern in _PATTERNS[field].items() if pattern.search(plain)}
    if field == "eatType":  # "a coffee shop and restaurant" says both
        return value in found
    return value in found and not (found - {value} - _COMPATIBLE.get((field, value), set()))


def contradictions(text: str) -> list[str]:
    """The fields of which a text says two values that exclude one another, such as Italian and French food.

    Names and landmarks are left out, for a text may speak of two places; so is eatType, for a pub may be a restaurant. Stricter
    than `is_realised`, which may miss a value at little cost: words of a price do not count for the rating beside it, nor the
    other way round, and "north of the city centre" is not in it.
    """
    plain = _ELSEWHERE.sub(" ", _STARS.sub(r"\1", _plain(text)))
    of_field = {"priceRange": _A_RATING.sub(" ; ", plain), "customer rating": _A_PRICE.sub(" ; ", plain)}
    found = []
    for field in ("food", "area", "priceRange", "customer rating"):
        said = {value for value, pattern in _PATTERNS[field].items() if pattern.search(of_field.get(field, plain))}
        if any(said - {value} - _COMPATIBLE.get((field, value), set()) for value in said):
            found.append(field)
    if _UNFRIENDLY.search(plain) and _FRIENDLY.search(_UNFRIENDLY.sub(" ", plain)):
        found.append("familyFriendly")
    return found


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).lower().replace("’", "'").split())


def _named(field: str, value: str, text: str) -> bool:
    """A name, with or without its article; a landmark only after a word of nearness in the same sentence."""
    name = re.escape(value.lower().removeprefix("the ")).replace("é", "[eé]")
    place = rf"\b(?:{_NEARNESS})\b[^.!?]*" if field == "near" else ""
    return re.search(rf"{place}\b{name}\b", text) is not None


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


def _of_five(numbers: str) -> re.Pattern[str]:
    n = f"(?:{numbers})"
    return _any(
        rf"\b{n}\s*-?\s*(?:/|out of)\s*(?:5|five)\b",
        rf"\b{n}[\s-]*stars?\b",
        rf"\brat\w+ (?:is |of |as |a |at )*{n}\b(?!\s*(?:/|out))",
    )


def _rated(level: str, *more: str) -> re.Pattern[str]:
    """A level up to three words before or five small words behind a word for ratings."""
    return _any(
        rf"\b(?:{level})\b(?:\W+\w+){{0,3}}?\W+(?:{_RATING})\b",
        rf"\b(?:{_RATING})\b(?:\W+(?:{_BETWEEN})){{0,5}}\W+(?:{level})\b",
        *more,
    )


_NEARNESS = (
    r"near(?:by)?|close|next|by|besides?|around|from|off|opposite|neighbou?r\w*|vicinity|proximity|along|alongside|adjacent|at|"
    r"across|past|with|behind|located"
)
_RATING = r"rat(?:ed|es|ings?)|reviews?|reviewed|customers?|customer (?:satisfaction|service|score)|scores?|stars?"
_BETWEEN = (
    r"is|are|of|as|it|a|an|very|only|from|score|been|rating|rated|customers?|quite|by|its|has|have|with|satisfaction"
)  # fmt: skip
_FAMILY = r"(?:famil(?:y|ies)|kids?|child(?:ren)?|all ages)"
_THE = r"(?:the |your |all |young |whole )*"
_WELCOMED = "|".join(
    (
        rf"{_FAMILY}[\s-]*(?:are |is )?(?:friendly|welcome|oriented|orientated)",
        rf"(?:good|great|suitable|perfect|ideal|welcom\w+|friendly|place) (?:for|to|with) {_THE}{_FAMILY}",
        rf"(?:welcomes|for|bring|accommodates|where) {_THE}{_FAMILY}",
        rf"{_FAMILY} (?:restaurant|pub|place|coffee|atmosphere|environment)",
    )
)
_NOT = r"(?:n[o']t|no|non|isn't|aren't|doesn't|never|un|neither|nor|without|lacks)"
_FRIENDLY = re.compile(_WELCOMED)
_UNFRIENDLY = _any(
    rf"\b{_NOT}\b(?:\W+\w+){{0,4}}?\W+(?:{_WELCOMED})",
    rf"n't (?:\w+ ){{0,3}}(?:{_WELCOMED})",
    rf"non[\s-]*{_FAMILY}",
    rf"{_FAMILY}\W+(?:\w+\W+){{0,2}}{_NOT}\b",
    rf"\b{_FAMILY}[\s-]*unfriendly",
    rf"\bnot (?:\w+ ){{0,3}}{_FAMILY}",
    rf"\bno {_FAMILY}",
    r"\badults? only\b|\bonly adults\b",
)

_PATTERNS: dict[str, dict[str, re.Pattern[str]]] = {
    "eatType": {
        "pub": _any(r"\bpubs?\b"),
        "coffee shop": _any(r"\bcoffee[\s-]*(?:shops?|house)\b", r"\bcaf[eé]s?\b"),
        "restaurant": _any(r"\brestaurants?\b"),
    },
    "food": {
        "Chinese": _any(r"\bchinese\b"),
        "English": _any(r"\benglish\b", r"\bbritish\b", r"\bfish and chips\b"),
        "French": _any(r"\bfrench\b", r"\bfrance\b"),
        "Indian": _any(r"\bindian\b(?! cuisine\b)", r"(?<!raja )\bindian cuisine\b"),
        "Italian": _any(r"\bitalian\b", r"\bpasta\b", r"\bitaly\b"),
        "Japanese": _any(r"\bjapanese\b", r"\bsushi\b", r"\bjapan\b"),
        "Fast food": _any(r"\bfast[\s-]*foods?\b"),
    },
    "area": {
        "riverside": _any(r"\briver\s*-?\s*side\b", r"\briverbank\b", r"\briver\b"),
        "city centre": _any(
            r"\bcit(?:y|ies)[\s-]*(?:'s )?cent(?:re|er)s?\b",
            r"\bcent(?:re|er) of (?:the )?(?:city|town)\b",
            r"\bdowntown\b",
            r"\bin the (?:city|cent(?:re|er))\b",
            r"\bcentral(?:ly)?\b",
        ),
    },
    "priceRange": {
        "cheap": _any(
            r"\bcheap(?:er|ly|est)?\b",
            r"\binexpensive\b",
            r"\blow(?:er)?[\s-]*(?:pric\w+|cost)",
            r"\bprices? (?:is|are|range is)? ?(?:quite |very |fairly )?low\b",
            r"\baffordabl\w+\b",
        ),
        "less than £20": _any(
            r"\b(?:less|lower|cheaper) than (?:£\s*)?(?:20|twenty)\b",
            r"\b(?:under|below) (?:£\s*)?(?:20|twenty)\b",
            r"£\s*20 or less",
            r"\bup to £?\s*20\b",
        ),
        "£20-25": _any(r"£?\s*\b20\b\s*(?:-|–|to|and|through)\s*-?\s*£?\s*25\b", "twenty to twenty"),
        "moderate": _any(
            r"\bmoderat\w+\b",
            r"\bmid[\s-]*(?:range|priced)\b",
            r"\baverage (?:-\s*)?pric\w+",
            r"\breasonabl[ey]\b",
            r"\bmedium[\s-]pric\w+",
            r"\bfairly priced\b",
            r"\bpric\w+ (?:is|are) average",
        ),
        "more than £30": _any(
            r"\b(?:more|greater|higher) than £?\s*(?:30|thirty)\b", r"\b(?:over|above) £?\s*(?:30|thirty)\b", r"£\s*30\b"
        ),
        "high": _any(
            r"(?<!in)\bexpensive\b",
            r"\bhigh(?:er|ly)?[\s-]*(?:pric\w+|cost|end)",
            r"\bpric\w+\b(?:\W+(?:range|ranges|is|are|of|a|in|the|food|from)){0,4}\W+(?:high|higher|highly|above average)\b",
            r"\bhigh\b(?:\W+\w+)?\W+pric\w+",
            r"\bpric[ei]y\b|\bupscale\b|\bcostly\b",
        ),
    },
    "customer rating": {
        "low": _rated(r"low|poor|poorly|bad|lowly|low-rated", r"\blow(?:ly)?[\s-]*-?\s*rated\b"),
        "average": _rated(r"average|moderate|mediocre|decent|okay|ok", r"\baveragely\b"),
        "high": _rated(
            r"high|highly|excellent|great|good|top", r"\bhigh(?:ly)?[\s-]*-?\s*(?:rated|rating|recommended|reviewed)\b"
        ),
        "1 out of 5": _of_five("1|one"),
        "3 out of 5": _of_five("3|three"),
        "5 out of 5": _of_five("5|five"),
    },
}

# Values that human sentences say of the same thing: £30 is high, a high rating is 5 of 5.
_COMPATIBLE = {
    (field, one): {other}
    for field, pairs in {
        "priceRange": [("cheap", "less than £20"), ("more than £30", "high"), ("£20-25", "moderate")],
        "customer rating": [("5 out of 5", "high"), ("3 out of 5", "average"), ("1 out of 5", "low")],
    }.items()
    for pair in pairs
    for one, other in (pair, pair[::-1])
}

# What `contradictions` takes out of a text, before it looks for values that exclude one another.
_LEVEL = r"(?:very |quite |fairly |reasonably )?(?:low|high|averag|moderat|mid|medium|cheap|good|great|reasonabl)\w*"
_STARS = re.compile(r"(\bout of (?:5|five))[\s-]*(?:customers? )?stars?\b")  # "1 out of 5 stars" are not 5 stars
_ELSEWHERE = re.compile(
    r"\b(?:outside|out|north|south|east|west|away|far|edges?|outskirts|off)\b(?: (?:of|from|in|the|a|just)){0,3} "
    r"(?:(?:city|town)(?:[\s-]*cent(?:re|er))?|cent(?:re|er)(?: of (?:the )?(?:city|town))?|river\w*)\b"
    r"|\benglish (?:sterling|pounds?)\b"
)
_A_PRICE = re.compile(
    rf"\b{_LEVEL}[\s-]*(?:pric\w+|cost\w*|end)(?: range\w*)?"
    rf"|\b(?:pric\w+|costs?)(?: range\w*)?(?: (?:is|are|of|in|at|the|a|from))* {_LEVEL}(?: (?:range|price)\w*)?"
)
_A_RATING = re.compile(rf"\b{_LEVEL}[\s-]*(?:customer )?(?:{_RATING})")
