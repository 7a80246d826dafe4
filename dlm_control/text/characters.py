"""Regular expressions over characters, and what they leave to a vocabulary of tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from greenery import Charclass, parse

from dlm_control.text.automaton import Automaton
from dlm_control.text.places import Places

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image = NDArray[np.int32]  # (states,), where a string leads from each state

_BEHIND_ALL = 0x110000  # the first number that is no character


@dataclass(frozen=True, eq=False)
class CharacterAutomaton:
    """A complete deterministic automaton of characters.

    Attributes:
        starts: code points at which the class of characters changes, in ascending order, from 0 on.
        classes: of the characters from each of these on.
        automaton: over these classes.
    """

    starts: Sequence[int]
    classes: Sequence[int]
    automaton: Automaton

    @classmethod
    def read(cls, regex: str, what: str) -> CharacterAutomaton:
        """The automaton of a regular expression that the whole text matches.

        Args:
            regex: in greenery's syntax, which is that of `re` without groups of other meaning and assertions.
            what: heads the error.

        Raises:
            TooManyStatesError: it has more than `MOST_STATES` states, or is as long as that when written out.
        """
        signs: dict[Charclass, int] = {}
        places = Places(what, lambda letters: signs.setdefault(letters, len(signs)))
        body = places.part(parse(regex))
        edges = {edge for letters in signs for first, last in letters.ord_ranges for edge in (first, last + 1)}
        starts = sorted({0, *edges} - {_BEHIND_ALL})
        number: dict[frozenset[int], int] = {}
        classes = [
            number.setdefault(frozenset(sign for letters, sign in signs.items() if _has(letters, start)), len(number))
            for start in starts
        ]
        return cls(starts, classes, places.automaton(body, list(number)))

    def accepts(self, text: str) -> bool:
        """Does the whole text match?"""
        return self.automaton.ends(map(self._class, text))[-1]

    def over_tokens(self, tokens: Sequence[str | None]) -> tuple[tuple[int, ...], Automaton]:
        """The sequences of tokens that spell a text which matches, each in any way that its tokens can spell it.

        Tokens that lead from every state to the same one are a class. Those that begin alike are read once as far as they do.

        Args:
            tokens: what each spells, one character or more; None: it may not occur.

        Returns:
            The class of each token, −1 where it stands in no text that matches; and the smallest automaton over these classes.

        Raises:
            TooManyStatesError: as `read`.
        """
        import numpy as np

        images, number, classes = list[Any](), dict[bytes, int](), [-1] * len(tokens)
        for token, image in self._images(sorted((each, i) for i, each in enumerate(tokens) if each is not None)):
            key = image.tobytes()
            if key not in number:
                number[key] = len(number)
                images.append(image)
            classes[token] = number[key]
        if not images:  # the automaton of no token: it stays where it is
            return tuple(classes), Automaton(np.zeros((1, 1), np.int32), self.automaton.accepting[:1])
        return tuple(classes), Automaton(np.stack(images, 1), self.automaton.accepting).minimised()

    def _images(self, spelled: Sequence[tuple[str, int]]) -> Iterator[tuple[int, Image]]:
        """The tokens that may stand in a text, each with where it leads from every state; `spelled` is sorted."""
        import numpy as np

        steps, alive = self.automaton.steps, self.automaton.alive
        prefixes: list[Image] = [np.arange(len(steps), dtype=np.int32)]  # of the token before, one for each of its beginnings
        before = ""
        for token, i in spelled:
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, token, strict=False)))
            del prefixes[shared + 1 :]
            for character in token[shared:]:
                prefixes.append(steps[prefixes[-1], self._class(character)])
            before = token
            if alive[prefixes[-1]].any():
                yield i, prefixes[-1]

    def _class(self, character: str) -> int:
        return self.classes[bisect_right(self.starts, ord(character)) - 1]


def _has(letters: Charclass, code: int) -> bool:
    return bool(letters.negated) != any(first <= code <= last for first, last in letters.ord_ranges)
