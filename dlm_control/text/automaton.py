"""Deterministic automata over classes of words: made of patterns, complemented, counted, intersected, minimised."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from dlm_control.support.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_STATES = 4000
State = TypeVar("State", bound=Hashable)


class TooManyStatesError(UsageError):
    """An automaton would have more than `MOST_STATES` states."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} needs an automaton of more than {MOST_STATES} states; write smaller repetitions, fewer alternatives or "
            "fewer conditions at once, or make several controls of it, whose pushes are added"
        )


@dataclass(frozen=True, eq=False)
class Automaton:
    """A complete deterministic automaton; a text is a sequence of classes of words, and state 0 is the start.

    Attributes:
        steps: (states, classes), the next state.
        accepting: (states,) bool, may a text end here?
    """

    steps: NDArray[np.int32]
    accepting: NDArray[np.bool_]

    def ends(self, text: Iterable[int]) -> list[bool]:
        """May a text, given as classes of its words, end before its first word, after it, …, after its last?"""
        states = [0]
        for word in text:
            states.append(int(self.steps[states[-1], word]))
        return [bool(self.accepting[state]) for state in states]

    @cached_property
    def alive(self) -> NDArray[np.bool_]:
        """(states,), those from which a text can still be accepted."""
        alive = self.accepting
        while True:
            wider = alive | alive[self.steps].any(1)
            if (wider == alive).all():
                return alive
            alive = wider

    @cached_property
    def fewest(self) -> int | None:
        """How many words its shortest text has; None if it has no text."""
        reached, words = {0}, 0
        while reached and not any(self.accepting[state] for state in reached):
            reached = {after for state in reached for after in self.steps[state].tolist() if self.alive[after]}
            words += 1
        return words if reached else None

    def complement(self) -> Automaton:
        """The texts that this one does not accept."""
        return Automaton(self.steps, ~self.accepting)

    def intersection(self, other: Automaton, what: str) -> Automaton:
        """The texts that both accept.

        Args:
            other: over the same classes.
            what: heads the error.

        Raises:
            TooManyStatesError: of the product.
        """
        ours, theirs = self.steps.tolist(), other.steps.tolist()

        def after(state: tuple[int, int]) -> list[tuple[int, int]]:
            if not (self.alive[state[0]] and other.alive[state[1]]):
                return [state] * len(ours[0])
            return list(zip(ours[state[0]], theirs[state[1]], strict=True))

        both = lambda state: bool(self.accepting[state[0]] and other.accepting[state[1]])  # noqa: E731
        return explored((0, 0), after, both, what)

    def counted(self, least: int, most: int | None, what: str) -> Automaton:
        """The texts of which so many beginnings are accepted by this automaton.

        Args:
            least, most: how many, bounds included; None is no bound.
            what: heads the error.

        Raises:
            TooManyStatesError: of the automaton with its counter.
        """
        steps, cap = self.steps.tolist(), least if most is None else most + 1

        def after(state: tuple[int, int]) -> list[tuple[int, int]]:
            at, count = state
            if most is not None and count > most:
                return [state] * len(steps[0])
            return [(reached, min(cap, count + int(self.accepting[reached]))) for reached in steps[at]]

        return explored((0, 0), after, lambda state: least <= state[1] and (most is None or state[1] <= most), what)

    def minimised(self) -> Automaton:
        """The smallest automaton of the same texts (Moore 1956), its states in the order in which a search from the start
        meets them: the same automaton however it was made."""
        import numpy as np

        block = self.accepting.astype(np.int32)
        blocks = len(set(block.tolist()))
        while True:
            seen: dict[tuple[int, bytes], int] = {}
            rows = block[self.steps]
            block = np.array(
                [seen.setdefault((own, row.tobytes()), len(seen)) for own, row in zip(block.tolist(), rows, strict=True)],
                dtype=np.int32,
            )
            if len(seen) == blocks:
                break
            blocks = len(seen)
        one = {int(number): state for state, number in reversed(list(enumerate(block)))}  # a state of each block
        return explored(
            int(block[0]),
            lambda number: block[self.steps[one[number]]].tolist(),
            lambda number: bool(self.accepting[one[number]]),
            "",
        )


def explored(start: State, after: Callable[[State], Sequence[State]], accepts: Callable[[State], bool], what: str) -> Automaton:
    """The automaton of all states that can be reached.

    Args:
        start: the first state.
        after: the state that each class of words leads to.
        accepts: may a text end in a state?
        what: heads the error.

    Raises:
        TooManyStatesError: there are more than `MOST_STATES`.
    """
    number, order, steps = {start: 0}, [start], []
    for state in order:
        row = after(state)
        for reached in row:
            if reached not in number:
                if len(order) == MOST_STATES:
                    raise TooManyStatesError(what)
                number[reached] = len(order)
                order.append(reached)
        steps.append([number[reached] for reached in row])
    import numpy as np

    return Automaton(np.array(steps, dtype=np.int32), np.array([accepts(state) for state in order]))
