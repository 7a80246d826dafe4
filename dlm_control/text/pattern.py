"""Patterns over words: what stands for a word, and regular expressions of such."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from greenery import parse

from dlm_control.support.errors import ErrorCollector, short_repr
from dlm_control.text.automaton import Automaton
from dlm_control.text.places import Places
from dlm_control.text.words import split_words

_FIRST_SIGN = 0xE000  # of the private use area: sign k of a regular expression stands for set k of words
_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<negation>!(?=[^\s!|)]))
  | /(?P<regex>(?:[^/\\\n]|\\.)+)/
  | \\(?P<escaped>[^\w\s])
  | (?P<sign>[()|])
  | (?P<repeat>[*+?]|\{(?P<least>\d*)(?P<comma>,?)(?P<most>\d*)\})
  | (?P<words>[^\s()|*+?{}\\/!]+|!)
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class WordSet:
    """What one place of a pattern allows.

    Attributes:
        words: these.
        regexes: and those whose letters one of these matches.
        negated: all other words instead.
    """

    words: frozenset[str] = frozenset()
    regexes: frozenset[str] = frozenset()
    negated: bool = False

    def __contains__(self, word: str) -> bool:
        return self.negated != (word in self.words or any(re.fullmatch(regex, word) for regex in self.regexes))


ANY = WordSet(negated=True)


@dataclass(frozen=True)
class WordPattern:
    """A regular expression whose letters are words.

    Attributes:
        source: as the user wrote it.
        sets: of words, one for each different letter.
        expression: signs, operators and parentheses, as `re` and greenery read them.
    """

    source: str
    sets: tuple[WordSet, ...]
    expression: str

    @classmethod
    def read(cls, source: str) -> WordPattern:
        """A pattern as users write it; see the controller `pattern` for the language.

        Raises:
            UsageError: it cannot be read; all faults in one report, each with its place in the text.
        """
        return _Reader(source).pattern()

    @cached_property
    def literals(self) -> tuple[str, ...]:
        """The words that it names, in alphabetical order."""
        return tuple(sorted({word for each in self.sets for word in each.words}))

    def automaton(self, signatures: Sequence[frozenset[WordSet]], anywhere: bool = False) -> Automaton:
        """The pattern's smallest automaton over classes of words.

        Args:
            signatures: for each class the sets that its words are in.
            anywhere: of the texts that end with a match, in place of those that match.

        Raises:
            TooManyStatesError: it has more than `MOST_STATES` states, or is as long as that when written out.
        """
        places = Places(f"the pattern {self.source!r}", lambda letters: letters.ord_ranges[0][0] - _FIRST_SIGN)
        body = places.part(parse(self.expression))
        if anywhere:
            body = places.joined(places.anything(), body)
        return places.automaton(
            body, [{n for n, each in enumerate(self.sets) if each in signature} for signature in signatures]
        )


def classes_of(words: Iterable[str], sets: Iterable[WordSet]) -> tuple[list[int], list[frozenset[WordSet]]]:
    """Words that no set tells apart are one class.

    Returns:
        The class of each word; and for each class the sets that its words are in.
    """
    named: dict[str, set[WordSet]] = {}
    plain, general = set[WordSet](), list[tuple[Callable[[str], object], WordSet]]()
    for each in {*sets}:
        for word in each.words:
            named.setdefault(word, set()).add(each)
        general += [(re.compile(regex).fullmatch, each) for regex in each.regexes]
        plain |= {each} if each.negated else set()
    number: dict[frozenset[WordSet], int] = {}
    classes = []
    for word in words:
        hit = named.get(word, set()) | {each for matches, each in general if matches(word)}
        classes.append(number.setdefault(frozenset(plain ^ hit), len(number)))
    return classes, list(number)


class _Reader:
    """Reads a pattern; see the controller `pattern` for the language."""

    def __init__(self, source: str) -> None:
        self.source, self.problems = source, ErrorCollector(f"the pattern {short_repr(source)}")
        self.sets: dict[WordSet, str] = {}
        self.tokens: list[re.Match[str]] = []
        at = 0
        while at < len(source):
            token = _TOKEN.match(source, at)
            if token is None:
                self._fault(at, f"{source[at]!r} opens nothing that closes; for the sign itself write \\{source[at]}")
                at += 1
            else:
                self.tokens.append(token)
                at = token.end()

    def pattern(self) -> WordPattern:
        """The pattern.

        Raises:
            UsageError: it cannot be read.
        """
        written, opened = [], list[int]()
        at = 0
        while at < len(self.tokens):
            token = self.tokens[at]
            kind, text = token.lastgroup, token.group()
            at += 1
            if kind == "negation":
                negated, at = self._negated(at)
                written.append(self._sign(negated))
            elif kind in ("regex", "escaped", "words"):
                written += [self._sign(WordSet(*each)) for each in self._read(token, self._is_repeated(at))]
            elif kind == "repeat":
                written.append(self._repeat(at - 1))
            elif kind == "sign":
                written.append(text)
                if text == "(":
                    opened.append(token.start())
                elif text == ")" and not (opened and opened.pop() >= 0):
                    self._fault(token.start(), "this ) closes nothing; for the sign itself write \\)")
        for place in opened:
            self._fault(place, "this ( is never closed; for the sign itself write \\(")
        if not self.sets and not self.problems.found:
            self.problems.add("", "expected at least one word")
        self.problems.raise_if_any()
        return WordPattern(self.source, tuple(self.sets), "".join(written))

    def _fault(self, at: int, message: str) -> None:
        self.problems.add(f"at {at}, before {short_repr(self.source[at : at + 12])}", message)

    def _sign(self, words: WordSet) -> str:
        return self.sets.setdefault(words, chr(_FIRST_SIGN + len(self.sets)))

    def _is_repeated(self, after: int) -> bool:
        return after < len(self.tokens) and self.tokens[after].lastgroup == "repeat"

    def _read(self, token: re.Match[str], single: bool) -> list[tuple[frozenset[str], frozenset[str]]]:
        """The words of a token, or its regular expression, in the order of the text; `single` wants just one."""
        nothing = frozenset[str]()
        if (regex := token["regex"]) is not None:
            try:
                re.compile(regex)
            except re.error as error:
                self._fault(token.start(), f"/{regex}/ is no regular expression: {error}")
                regex = ""
            return [(nothing, frozenset({regex}))]
        words = split_words(token["escaped"] or token.group())
        if single and len(words) > 1:
            self._fault(
                token.start(), f"{token.group()!r} is {len(words)} words ({' '.join(words)}), and which is meant is not clear"
            )
        elif single and words == ["."]:
            self._fault(token.start(), "a full stop stands for itself; write * for any words, ?{2,4} for two to four")
        return [(frozenset({word}), nothing) for word in words]

    def _negated(self, at: int) -> tuple[WordSet, int]:
        """What stands behind a !, from the token `at` on: one word, or alternatives in parentheses; and the token after it."""
        start = self.tokens[at].start()
        grouped = self.tokens[at].group() == "("
        end = next((i for i in range(at, len(self.tokens)) if self.tokens[i].group() == ")"), at) if grouped else at
        inside = [token for token in self.tokens[at + grouped : end + (not grouped)] if token.lastgroup != "space"]
        atoms, bars = inside[::2], inside[1::2]
        if (
            not atoms
            or len(atoms) != len(bars) + 1
            or any(token.lastgroup not in ("regex", "escaped", "words") for token in atoms)
            or any(token.group() != "|" for token in bars)
            or any(len(self._read(token, False)) != 1 for token in atoms)
        ):
            self._fault(start - 1, "a ! forbids one word, as in !cheap or !(cheap|dear); to forbid more use `exclude`")
            return ANY, end + 1
        read = [each for token in atoms for each in self._read(token, False)]
        words, regexes = (frozenset[str]().union(*parts) for parts in zip(*read, strict=True))
        return WordSet(words, regexes, True), end + 1

    def _repeat(self, at: int) -> str:
        """A repetition of what stands directly before it; * and ? by themselves are any words and any one word."""
        token = self.tokens[at]
        free = self._stands_alone(at)
        if free and token.group() in ("*", "?"):
            any_word = self._sign(ANY)
            return f"({any_word}*)" if token.group() == "*" else any_word
        if free:
            self._fault(token.start(), f"{token.group()} repeats nothing; write it directly behind a word, ), * or ?")
        elif self.tokens[at - 1].lastgroup == "repeat" and not self._stands_alone(at - 1):
            self._fault(token.start(), "a repetition of a repetition; put the inner one in parentheses")
        if token["least"] is None:
            return token.group()
        least, most = int(token["least"] or 0), int(token["most"]) if token["most"] else None
        if (not token["least"] and most is None) or (most is not None and least > most):
            self._fault(token.start(), f"{token.group()} is no number of times; write {{2}}, {{2,4}}, {{2,}} or {{,4}}")
            return ""
        return f"{{{least}{',' if token['comma'] else ''}{'' if most is None else most}}}"

    def _stands_alone(self, at: int) -> bool:
        """Is nothing directly before a token that it could belong to?"""
        before = self.tokens[at - 1] if at else None
        return before is None or before.lastgroup == "space" or before.group() in ("(", "|")
