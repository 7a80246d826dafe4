"""Energies of tags and constituents in the three spaces that a controller may read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from dlm_control.control.controller import State
from dlm_control.controllers.guides.structure_guide import NOTHING_ASKED, Structure, StructureGuide, structure_guide
from dlm_control.controllers.guides.syntax_guide import OTHER, Labels, Reading, SyntaxGuide, chart_index
from dlm_control.diffusion.backbone import CLEAN

if TYPE_CHECKING:
    from dlm_control.diffusion.backbone import Backbone

LEAST_SHARE = 1e-4  # of a word's occurrences that bear a tag, for the word to stand where the tag is wanted

TagSet = Literal["universal", "penn"]


class Asked:
    """Labels that are asked of a model's guides, resolved once for the model.

    Args:
        labels: tags (0 is open) and constituents.
        complete: every other cell of the chart must be empty.
        structure, syntax: the guides; None where the model has none, or nothing asks it.
    """

    def __init__(self, labels: Labels, complete: bool, structure: StructureGuide | None, syntax: SyntaxGuide | None) -> None:
        self.labels, self.complete, self.structure, self.syntax = labels, complete, structure, syntax
        self._by_seq_len: dict[int, tuple[Structure, Structure]] = {}

    def structures(self, seq_len: int) -> tuple[Structure, Structure]:
        """What is asked, and nothing, for one padded text."""
        if seq_len not in self._by_seq_len:
            assert self.structure is not None
            asked = self.structure.structure([self.labels], [self.complete], seq_len)
            self._by_seq_len[seq_len] = asked, self.structure.structure([NOTHING_ASKED], [False], seq_len)
        return self._by_seq_len[seq_len]


def word_log_likelihoods(state: State, asked: Asked, power: float = 1.0) -> Tensor:
    """log p(structure | w at i, x_t)^power for every word, (batch, seq_len, vocab), by the structure guide.

    Up to a constant at each position: the likeliest word's is 0. After a text's end all are 0.
    """
    assert asked.structure is not None
    with torch.no_grad():
        log_snr, rows = state.lm.log_snr(state.t), len(state.x_t)
        expected, nothing = (
            asked.structure(state.x_t, log_snr, _repeated(each, rows)).log_softmax(-1)
            for each in asked.structures(state.x_t.shape[1])
        )
        ratio = power * (expected - nothing)
        likelihoods: Tensor = (ratio - ratio.amax(-1, keepdim=True)) * _live(state)[..., None]
    return likelihoods


def _repeated(structure: Structure, rows: int) -> Structure:
    return Structure(*(part.expand(rows, *part.shape[1:]) for part in structure))


def count_log_likelihoods(state: State, tags: tuple[int, ...], table: Tensor) -> Tensor:
    """log p(tag_i | w) for every word, (1, seq_len, vocab), with p(tag | word) from counts; tag 0 is open."""
    places = [i for i, tag in enumerate(tags) if tag]
    likelihoods = table.new_zeros(1, state.log_probs.shape[1], len(table))
    likelihoods[0, places] = table[:, [tags[i] for i in places]].T.log()
    return likelihoods


def tag_table(lm: Backbone, tagset: TagSet) -> Tensor:
    """(vocab, 1 + tags), p(tag | word) from counts."""
    guide = structure_guide(lm)
    return guide.universal_of_word if tagset == "universal" else guide.penn_of_word


def words_bearing(lm: Backbone, tag: int, tagset: TagSet) -> frozenset[int]:
    """The words that bear a tag in at least one of ten thousand occurrences, by smoothed counts."""

    def found() -> frozenset[int]:
        special = {lm.tokenizer.unk_token_id, lm.tokenizer.pad_token_id, lm.tokenizer.eos_token_id}
        return frozenset((tag_table(lm, tagset)[:, tag] >= LEAST_SHARE).nonzero()[:, 0].tolist()) - special

    return lm.once(f"words bearing {tagset} {tag} in {structure_guide(lm).name_or_path}", found)


def network_energy(state: State, space: Literal["x_t", "x0"], asked: Asked) -> Tensor:
    """−log p(tags) − log p(constituents), (batch,), by the syntax guide.

    Args:
        state: of the step.
        space: `x_t`, or `x0`, which the same network reads as almost clean text.
        asked: the labels and the guide.
    """
    guide, labels = asked.syntax, asked.labels
    assert guide is not None
    t = state.t if space == "x_t" else torch.full_like(state.t, CLEAN)
    reading: Reading = guide(getattr(state, space), state.lm.log_snr(t))
    log_prob = state.x_t.new_zeros(len(state.x_t))
    for tags, log_probs in ((labels.universal, reading.universal), (labels.penn, reading.penn)):
        places = [i for i, tag in enumerate(tags) if tag]
        if places:
            log_prob = log_prob + log_probs[:, places, [tags[i] for i in places]].sum(-1)
    index = chart_index(guide.config.labels)
    cells = {(span.first, span.last): index.get(span.label, index[OTHER]) for span in labels.spans}
    if asked.complete:
        size = 1 + max(last for _, last in cells)
        cells = {(i, j): cells.get((i, j), 0) for i in range(size) for j in range(i, size)}
    if cells:
        firsts, lasts = zip(*cells, strict=True)
        log_prob = log_prob + reading.chart[:, list(firsts), list(lasts), list(cells.values())].sum(-1)
    return -log_prob


def _live(state: State) -> Tensor:
    """(batch, seq_len), 1 at the words of the text."""
    return (torch.arange(state.x_t.shape[1], device=state.length.device) < state.length[:, None]).float()
