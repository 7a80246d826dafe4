"""Regular expressions over words, which the whole text matches or does not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, NamedTuple

from dlm_control.control.controller import Check
from dlm_control.control.plan import Language
from dlm_control.control.registry import register_controller
from dlm_control.controllers.language import LanguageController
from dlm_control.support.errors import ErrorCollector, UsageError
from dlm_control.support.values import Fits
from dlm_control.text.automaton import Automaton
from dlm_control.text.pattern import WordPattern, WordSet, classes_of
from dlm_control.text.words import split_words

if TYPE_CHECKING:
    from dlm_control.diffusion.backbone import Backbone

Patterns = str | Sequence[str]
_TIMES = re.compile(r"(?P<exact>\d+)|(?P<low>\d+)-(?P<high>\d+)?|-(?P<only_high>\d+)")
Times = Annotated[int | str, Fits("how many, such as 1, 1-2, 2- or -3", lambda times: bool(_TIMES.fullmatch(str(times))))]


class Rule(NamedTuple):
    """One thing that a pattern control asks for."""

    kind: str  # match, exclude or count
    pattern: WordPattern
    least: int = 0
    most: int | None = None

    def automaton(self, signatures: Sequence[frozenset[WordSet]]) -> Automaton:
        """The texts that obey, over classes of words, each with the sets that its words are in."""
        automaton = self.pattern.automaton(signatures, anywhere=self.kind == "count")
        if self.kind == "count":
            return automaton.counted(self.least, self.most, f"the pattern {self.pattern.source!r}").minimised()
        return automaton.complement() if self.kind == "exclude" else automaton


@register_controller("pattern")
class Pattern(LanguageController):
    """The whole text matches patterns of words, does not match others, or holds matches a number of times.

    A pattern is a sequence of words, cut as the model cuts text, punctuation included (`.` is a full stop):

    - `*` by itself is any number of words, `?` any one word;
    - `(a|b)` is a or b, each a pattern of its own;
    - directly behind a word, `)`, `?` or `/`: `*` any number of times, `+` once or more, `?` once or not at all, and `{2}`,
      `{2,4}`, `{2,}`, `{,4}`, as in `(very|so)* good` or `?{3,6}`;
    - `/…/` is a word whose letters match a regular expression, such as `/[A-Z].*/`;
    - `!cheap`, `!(cheap|dear)` is any other word;
    - `\\` takes the meaning of a sign away, as in `\\?`.

    All of one control is one automaton over the words that behave alike, and the model's word distributions are conditioned on
    its acceptance exactly, by a forward and a backward pass. What several controls ask for is added up.

    Args:
        match: a pattern that the whole text matches, or several that it matches all.
        exclude: a pattern that the whole text does not match, or several: `* pub *` forbids the word anywhere.
        count: how many words of the text end a match of a pattern, such as {riverside: 1, "(cheap|dear) /[a-z]+/": 1-2}.
    """

    def __init__(self, match: Patterns = (), *, exclude: Patterns = (), count: Mapping[str, Times] | None = None) -> None:
        self.match, self.exclude, self.count = _listed(match), _listed(exclude), dict(count or {})
        if not (self.match or self.exclude or self.count):
            raise UsageError('pattern: give `match`, `exclude` or `count`, such as `pattern: "* cheap * riverside * ."`')
        problems = ErrorCollector("pattern")
        self._rules: list[Rule] = []
        for kind, sources in (("match", self.match), ("exclude", self.exclude), ("count", [*self.count])):
            for source in sources:
                try:
                    rule = Rule(kind, WordPattern.read(source), *_bounds(self.count.get(source, 0)))
                except UsageError as error:
                    problems.extend(f"{kind} {source!r}", error)
                    continue
                if rule.most is not None and rule.least > rule.most:
                    problems.add(f"count {source!r}", f"the lower bound of {self.count[source]} exceeds the upper")
                self._rules.append(rule)
        problems.raise_if_any()

    def language(self, lm: Backbone) -> Language:
        problems, special = ErrorCollector("pattern"), frozenset(lm.tokenizer.all_special_tokens)
        words = sorted({word for rule in self._rules for word in rule.pattern.literals})
        try:
            if words:
                lm.ids(" ".join(words), "pattern")
        except UsageError as error:
            problems.extend("", error)
        for regex in sorted({regex for rule in self._rules for each in rule.pattern.sets for regex in each.regexes}):
            if not any(re.fullmatch(regex, word) for word in lm.vocabulary if word not in special):
                problems.add("", f"/{regex}/ matches none of the {len(lm.vocabulary)} words that the model knows")
        problems.raise_if_any()
        return _language(tuple(self._rules), lm.vocabulary, special)

    def check(self, text: str) -> Check:
        words = split_words(text)
        faults = [fault for rule in self._rules if (fault := _fault(rule, words))]
        return Check(1 - len(faults) / len(self._rules), "; ".join(faults) or "as the pattern says")


def _listed(patterns: Patterns) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _bounds(times: int | str) -> tuple[int, int | None]:
    size = _TIMES.fullmatch(str(times))
    assert size is not None
    if size["exact"] is not None:
        return int(size["exact"]), int(size["exact"])
    most = size["high"] or size["only_high"]
    return int(size["low"] or 0), None if most is None else int(most)


@lru_cache(maxsize=16)
def _language(rules: tuple[Rule, ...], vocabulary: tuple[str, ...], special: frozenset[str]) -> Language:
    """The texts that obey all rules; cached, since preflight, layouts and steps all ask for it."""
    ordinary = [i for i, word in enumerate(vocabulary) if word not in special]
    found, signatures = classes_of([vocabulary[i] for i in ordinary], [each for rule in rules for each in rule.pattern.sets])
    classes = [-1] * len(vocabulary)
    for i, word_class in zip(ordinary, found, strict=True):
        classes[i] = word_class
    automaton = rules[0].automaton(signatures)
    for rule in rules[1:]:
        automaton = automaton.intersection(rule.automaton(signatures), "pattern: all conditions together").minimised()
    return Language(tuple(classes), automaton)


def _fault(rule: Rule, words: Sequence[str]) -> str:
    """How a text disobeys, whatever its vocabulary; nothing if it obeys."""
    literals = rule.pattern.literals  # before the text's words, so that most texts have the same classes
    classes, signatures = classes_of([*literals, *words], rule.pattern.sets)
    automaton = _automaton(rule.pattern, tuple(signatures), rule.kind == "count")
    ends = automaton.ends(classes[len(literals) :])
    if rule.kind == "count":
        found = sum(ends[1:])
        obeys = rule.least <= found and (rule.most is None or found <= rule.most)
        high = "or more" if rule.most is None else f"to {rule.most}"
        expected = str(rule.least) if rule.least == rule.most else f"{rule.least} {high}"
        return "" if obeys else f"{rule.pattern.source!r} {found} times, expected {expected}"
    if ends[-1] == (rule.kind == "match"):
        return ""
    return f"{'does not match' if rule.kind == 'match' else 'matches'} {rule.pattern.source!r}"


_automaton = lru_cache(maxsize=256)(WordPattern.automaton)
