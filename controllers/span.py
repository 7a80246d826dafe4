"""Syntactic spans: these words are a phrase of that kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from dlm_control.control.controller import Check
from dlm_control.control.plan import Plan
from dlm_control.control.registry import register_controller
from dlm_control.controllers.guides.structural import Structural
from dlm_control.controllers.linguistics.trees import Constituent, check_label, constituents
from dlm_control.support.errors import ErrorCollector, UsageError
from dlm_control.support.values import Fits, MisfitError, fitted
from dlm_control.text.words import split_words

if TYPE_CHECKING:
    from dlm_control.controllers.guides.syntax_guide import Labels
    from dlm_control.diffusion.backbone import Backbone

Spans = Annotated[
    Sequence[Any], Fits("[first, last, label] such as [0, 2, NP], or a list of them", lambda spans: len(spans) > 0)
]


@register_controller("span")
class Span(Structural):
    """The words i to j are a phrase, such as [0, 2, NP].

    Args:
        spans: one [first, last, label] or a list of them; words are counted from 0, the last one belongs to the phrase. A unary
            chain is one label, as the parser gives it: S::VP is not VP.
        guide: `words`: p(phrase | word, x_t) for every word, by the structure guide; `x_t`, `x0`: a noise-aware span
            classifier's gradient in that space. The first was best at equal network calls (docs/composition.md).
    """

    power = 2.0  # a span says little about each of its words; see docs/design-notes.md

    def __init__(self, spans: Spans, *, guide: Literal["words", "x_t", "x0"] = "words") -> None:
        given = [spans] if isinstance(spans[0], int) else list(spans)
        problems = ErrorCollector("span")
        expected = [_constituent(each, problems) for each in given]
        problems.raise_if_any()
        self.spans = [list(each) for each in expected if each is not None]
        self._wanted = tuple(each for each in expected if each is not None)
        for i, a in enumerate(self._wanted):
            for b in self._wanted[i + 1 :]:
                if a.first < b.first <= a.last < b.last or b.first < a.first <= b.last < a.last:
                    problems.add("spans", f"{list(a)} and {list(b)} overlap without nesting; no tree has both")
                if a[:2] == b[:2] and a.label != b.label:
                    problems.add("spans", f"{list(a)} and {list(b)} are the same words; write a unary chain, such as S::VP")
        problems.raise_if_any()
        self.guide = guide
        self.reads = "log_probs" if guide == "words" else guide

    def plan(self, lm: Backbone) -> Plan:
        super().plan(lm)
        return Plan(min_words=1 + max(span.last for span in self._wanted))

    def labels(self) -> tuple[Labels, bool]:
        from dlm_control.controllers.guides.syntax_guide import Labels

        return Labels((), (), self._wanted), False

    def check(self, text: str) -> Check:
        """benepar's tree; the score is the share of spans that are phrases of it, ends and label exact."""
        from dlm_control.controllers.linguistics.taggers import tree_of, unjudged

        missing = unjudged("trees")
        if missing:
            return missing
        there = set(constituents(tree_of(text)))
        lost = [span for span in self._wanted if span not in there]
        if not lost:
            return Check(1.0, f"{len(self._wanted)} of {len(self._wanted)} spans")
        span = lost[0]
        words = " ".join(split_words(text)[span.first : span.last + 1])
        others = [other.label for other in there if other[:2] == span[:2]]
        is_what = f"is {others[0]}" if others else "is no phrase"
        return Check(
            1 - len(lost) / len(self._wanted), f"{words!r} ({span.first} to {span.last}) {is_what}, expected {span.label}"
        )


def _constituent(given: Any, problems: ErrorCollector) -> Constituent | None:
    try:
        first, last, label = fitted(tuple[int, int, Any], given)
    except MisfitError:
        problems.add("spans", f"expected [first, last, label] such as [0, 2, NP], got {given!r}")
        return None
    if not 0 <= first <= last:
        problems.add("spans", f"{given!r}: expected 0 <= first <= last (both counted from 0)")
        return None
    try:
        return Constituent(first, last, check_label(label))
    except UsageError as error:
        problems.add("spans", f"{given!r}: {error}")
        return None
