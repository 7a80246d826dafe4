"""Parts of speech: a whole tag sequence, a partial one, or tags from one position on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from dlm_control.control.controller import Check, State
from dlm_control.control.plan import Plan
from dlm_control.control.registry import register_controller
from dlm_control.controllers.guides.structural import Structural
from dlm_control.controllers.linguistics.trees import ANY, PENN, UNIVERSAL
from dlm_control.support.errors import ErrorCollector, UsageError, suggestion
from dlm_control.support.values import AtLeast, Fits
from dlm_control.text.words import split_words

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_control.controllers.guides.syntax_guide import Labels
    from dlm_control.diffusion.backbone import Backbone

TagList = Annotated[
    str | Sequence[str],
    Fits("tags such as 'DET NOUN ? VERB'", lambda tags: bool(_listed(tags)) and all(tag.strip() for tag in _listed(tags))),
]


@register_controller("pos")
class PartsOfSpeech(Structural):
    """The parts of speech of a text's words, such as "PROPN AUX DET ADJ NOUN PUNCT".

    Args:
        tags: Universal Dependencies or Penn Treebank tags, parted by spaces or as a list; `?` leaves a word's tag open.
        position: of the first tag, counted from 0. Without it the tags are the whole text's, one a word.
        tagset: `universal` or `penn`; by default the one that knows all tags, universal where both do.
        guide: `words`: p(tags | word, x_t) for every word, by the structure guide; `counts`: p(tag | word) from counts;
            `x_t`, `x0`: a noise-aware tagger's gradient in that space. The first was best at equal network calls
            (docs/composition.md).
    """

    def __init__(
        self,
        tags: TagList,
        *,
        position: Annotated[int, AtLeast(0)] | None = None,
        tagset: Literal["universal", "penn"] | None = None,
        guide: Literal["words", "counts", "x_t", "x0"] = "words",
    ) -> None:
        given = _listed(tags)
        if all(tag in ANY for tag in given):
            raise UsageError(f"pos: tags: {tags!r} leaves every tag open; give at least one")
        self.tags, self.position, self.guide = " ".join(given), position, guide
        self.tagset = _tagset(given, tagset)
        self.reads = guide if guide in ("x_t", "x0") else "log_probs"
        inventory = UNIVERSAL if self.tagset == "universal" else PENN
        self._first = position or 0
        self._wanted = tuple(0 if tag in ANY else 1 + inventory.index(tag) for tag in given)

    def plan(self, lm: Backbone) -> Plan:
        from dlm_control.controllers.guides.energies import words_bearing

        super().plan(lm)
        problems = ErrorCollector("pos")
        at = {self._first + i: words_bearing(lm, tag, self.tagset) for i, tag in enumerate(self._wanted) if tag}
        for place in sorted(place for place, words in at.items() if not words):
            tag = self.tags.split()[place - self._first]
            problems.add("tags", f"no word that the model knows is a {tag} (expected at position {place})")
        problems.raise_if_any()
        size = self._first + len(self._wanted)
        return Plan(min_words=size, max_words=size if self.position is None else None, at=at)

    def labels(self) -> tuple[Labels, bool]:
        from dlm_control.controllers.guides.syntax_guide import Labels

        tags = (0,) * self._first + self._wanted
        return (Labels(tags, (), ()) if self.tagset == "universal" else Labels((), tags, ())), False

    def word_log_likelihoods(self, state: State) -> Tensor | None:
        from dlm_control.controllers.guides.energies import count_log_likelihoods

        if self.guide == "counts":
            guide = state.bound.structure
            table = guide.universal_of_word if self.tagset == "universal" else guide.penn_of_word
            return count_log_likelihoods(state, (0,) * self._first + self._wanted, table)
        return super().word_log_likelihoods(state)

    def check(self, text: str) -> Check:
        """Checks by spaCy's tags; the score is the share of expected tags that are at their positions."""
        from dlm_control.controllers.linguistics.taggers import tags_of, unjudged

        missing = unjudged("tags")
        if missing:
            return missing
        found = getattr(tags_of(text), self.tagset)
        expected = {self._first + i: tag for i, tag in enumerate(self.tags.split()) if tag not in ANY}
        right = sum(place < len(found) and found[place] == tag for place, tag in expected.items())
        size = self._first + len(self._wanted)
        fits = len(split_words(text)) == size or self.position is not None
        total = max(len(expected), len(found)) if not fits and self.position is None else len(expected)
        words = split_words(text)
        wrong = [
            f"{words[place]!r} is {found[place]}, expected {tag}" if place < len(found) else f"no word {place}, expected {tag}"
            for place, tag in expected.items()
            if place >= len(found) or found[place] != tag
        ]
        length = [] if fits else [f"{len(words)} words, expected {size}"]
        return Check(right / total, "; ".join([*length, *wrong[:3]]) or f"{right} of {total} tags")


def _listed(tags: str | Sequence[str]) -> list[str]:
    return tags.split() if isinstance(tags, str) else list(tags)


def _tagset(tags: Sequence[str], given: str | None) -> Literal["universal", "penn"]:
    known = {"universal": UNIVERSAL, "penn": PENN}
    expected = [tag for tag in tags if tag not in ANY]
    candidates = [given] if given else list(known)
    fits = [name for name in candidates if all(tag in known[name] for tag in expected)]
    if fits:
        return "universal" if fits[0] == "universal" else "penn"
    problems = ErrorCollector("pos")
    best = max(candidates, key=lambda name: sum(tag in known[name] for tag in expected))
    for tag in dict.fromkeys(tag for tag in expected if tag not in known[best]):
        other = [name for name in known if tag in known[name]]
        hint = f"; it is a {other[0]} tag: do not mix the two sets" if other else suggestion(tag, known[best])
        problems.add("tags", f"unknown {best} tag {tag!r}{hint}; there are: {' '.join(known[best])}")
    problems.raise_if_any()
    raise AssertionError("some tag is unknown")
