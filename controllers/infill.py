"""Templates: given words with gaps between them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from dlm_control.control.controller import Check, Controller
from dlm_control.control.plan import Gap, Plan
from dlm_control.control.registry import register_controller
from dlm_control.support.errors import UsageError
from dlm_control.support.values import Fits
from dlm_control.text.words import split_words

if TYPE_CHECKING:
    from dlm_control.diffusion.backbone import Backbone

Template = Annotated[str, Fits("text with gaps such as [3-6]", lambda template: bool(template.strip()))]
_GAP = re.compile(r"\[([^\[\]]*)\]")
_SIZE = re.compile(r"(?P<exact>\d+)|(?P<low>\d+)-(?P<high>\d+)?|-(?P<only_high>\d+)|\*")


@register_controller("infill")
class Infill(Controller):
    """A text with gaps for the model to fill; every given word stays, by construction.

    Gaps may stand anywhere, in any number: `[5]` is five words, `[3-6]` three to six, `[3-]` three or more, `[-6]` none to six,
    `[*]` any number. Where the sizes are not settled, each text draws its own. Given words are fixed at their place in the word
    distributions at every noise level, so they meet the sampler at the level it is at (2022 pasted clean embeddings instead).

    Args:
        template: such as "The Mill is [3-6] food in the [*] ."

    Attributes:
        given: the words before the first gap, and those after the last.
    """

    def __init__(self, template: Template) -> None:
        self.template = template
        self._pieces: list[str | Gap] = []
        for i, part in enumerate(_GAP.split(template)):
            self._pieces += [_gap(part, template)] if i % 2 else split_words(part)
        if not any(isinstance(piece, Gap) for piece in self._pieces):
            raise UsageError(f"infill: template: no gap in {template!r}; write one as [*], [4] or [3-6]")
        gaps = [i for i, piece in enumerate(self._pieces) if isinstance(piece, Gap)]
        ends = self._pieces[: gaps[0]], self._pieces[gaps[-1] + 1 :]
        self.given: tuple[list[str], list[str]] = ([*map(str, ends[0])], [*map(str, ends[1])])

    def plan(self, lm: Backbone) -> Plan:
        given = " ".join(piece for piece in self._pieces if isinstance(piece, str))
        ids = iter(lm.ids(given, "infill") if given else ())
        return Plan(template=tuple(piece if isinstance(piece, Gap) else next(ids) for piece in self._pieces))

    def check(self, text: str) -> Check:
        pattern = "".join(_regex(piece) for piece in self._pieces)
        kept = re.fullmatch(pattern, "".join(f"{word}\n" for word in split_words(text))) is not None
        return Check(float(kept), "keeps the template" if kept else f"does not fit {self.template!r}")


def _gap(text: str, template: str) -> Gap:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"infill: template: [{text}] in {template!r} is no gap; expected [*], [4], [3-6], [3-] or [-6]")
    size = {name: int(value) for name, value in match.groupdict().items() if value is not None}
    gap = Gap(size.get("exact", size.get("low", 0)), size.get("exact", size.get("high", size.get("only_high"))))
    if gap.most is not None and gap.least > gap.most:
        raise UsageError(f"infill: template: [{text}] in {template!r}: the lower bound exceeds the upper")
    return gap


def _regex(piece: str | Gap) -> str:
    if isinstance(piece, str):
        return re.escape(f"{piece}\n")
    return rf"(?:[^\n]+\n){{{piece.least},{'' if piece.most is None else piece.most}}}"
