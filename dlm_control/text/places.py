"""Regular expressions as automata over classes of letters, by the places of their letters (Glushkov 1961)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from greenery import Charclass

from dlm_control.text.automaton import MOST_STATES, Automaton, TooManyStatesError, explored

_ANY = -1  # the sign of any letter


class Part(NamedTuple):
    """A part of an expression, in places as bits of a whole number."""

    empty: bool  # may it stand for no letters?
    first: int
    last: int


class Places:
    """The places of an expression with its repetitions written out: the sign at each, and the places that may follow it.

    Args:
        what: heads errors.
        sign_of: the number of a set of letters, as greenery read it.
    """

    def __init__(self, what: str, sign_of: Callable[[Charclass], int]) -> None:
        self._what, self._sign_of = what, sign_of
        self.signs, self.follow = list[int](), list[int]()

    def letter(self, sign: int) -> Part:
        """A new place.

        Raises:
            TooManyStatesError: there are `MOST_STATES` already.
        """
        if len(self.signs) == MOST_STATES:
            raise TooManyStatesError(self._what)
        place = 1 << len(self.signs)
        self.signs.append(sign)
        self.follow.append(0)
        return Part(False, place, place)

    def anything(self) -> Part:
        """Any number of any letters."""
        return self.repeated(lambda: self.letter(_ANY), 0, None)

    def joined(self, left: Part, right: Part) -> Part:
        """One after the other."""
        for place in _bits(left.last):
            self.follow[place] |= right.first
        return Part(
            left.empty and right.empty,
            left.first | (right.first if left.empty else 0),
            right.last | (left.last if right.empty else 0),
        )

    def repeated(self, make: Callable[[], Part], least: int, most: int | None) -> Part:
        """A part so many times over; `make` writes out one more copy."""
        whole = Part(True, 0, 0)
        for _ in range(least - 1 if most is None else least):
            whole = self.joined(whole, make())
        if most is None:
            loop = make()
            self.joined(loop, loop)
            return self.joined(whole, loop._replace(empty=loop.empty or least == 0))
        optional = Part(True, 0, 0)
        for _ in range(most - least):
            optional = self.joined(make(), optional)._replace(empty=True)
        return self.joined(whole, optional)

    def part(self, tree: Any) -> Part:
        """What greenery read: a set of letters, or alternatives of sequences of repeated parts."""
        if isinstance(tree, Charclass):
            return self.letter(self._sign_of(tree))
        whole = Part(False, 0, 0)
        for conc in tree.concs:
            sequence = Part(True, 0, 0)
            for mult in conc.mults:
                times = mult.multiplier
                sequence = self.joined(sequence, self.repeated(partial(self.part, mult.multiplicand), times.min.v, times.max.v))
            whole = Part(whole.empty or sequence.empty, whole.first | sequence.first, whole.last | sequence.last)
        return whole

    def automaton(self, body: Part, signs: Sequence[Collection[int]]) -> Automaton:
        """The smallest automaton of the whole expression.

        Args:
            body: the expression.
            signs: for each class of letters the signs that stand for it.

        Raises:
            TooManyStatesError: it has more than `MOST_STATES` states.
        """
        admitted = [sum(1 << place for place, sign in enumerate(self.signs) if sign == _ANY or sign in each) for each in signs]
        universal = self._universal(body, admitted)
        settled = universal & -universal  # one of them stands for all
        start = 1 << len(self.signs)  # stands before the first place

        def after(state: int) -> list[int]:
            follow = body.first if state & start else 0
            for place in _bits(state & ~start):
                follow |= self.follow[place]
            reached = [follow & mask for mask in admitted]
            return [settled if each & universal else each for each in reached]

        accepts = lambda state: bool(state & body.last) or (bool(state & start) and body.empty)  # noqa: E731
        return explored(start, after, accepts, self._what).minimised()

    def _universal(self, body: Part, admitted: Sequence[int]) -> int:
        """The places from which every text is accepted: beside one of them no other place matters."""
        return sum(
            1 << place
            for place in range(len(self.signs))
            if body.last >> place & 1 and self.follow[place] >> place & 1 and all(mask >> place & 1 for mask in admitted)
        )


def _bits(number: int) -> Iterator[int]:
    """The places of the ones."""
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low
