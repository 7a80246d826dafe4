"""Energies of tags and constituents in the three spaces that a controller may read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from dlm_control.control.controller import State
from dlm_control.controllers.guides.structure_guide import NOTHING_ASKED, Structure, structure_guide
from dlm_control.controllers.guides.syntax_guide import OTHER, Labels, Reading, chart_index, syntax_guide
from dlm_control.sampling.denoiser import CLEAN

if TYPE_CHECKING:
    from dlm_control.pipeline import LanguageModel

LEAST_SHARE = 1e-4  # of a word's occurrences that bear a tag, for the word to stand where the tag is wanted

TagSet = Literal["universal", "penn"]


def words_energy(state: State, labels: Labels, complete: bool, power: float = 1.0) -> Tensor:
    """−log E_p[Π_i r_i(w_i)], (batch,), with r = p(structure | w at i, x_t)^power up to a constant, at most 1 at each position.

    The structure guide says r for every word from x_t, so the energy is a function of the word distributions p and conditions
    them without a gradient through any network.
    """
    guide = structure_guide(state.lm)
    with torch.no_grad():
        log_snr = state.lm.model.schedule.log_snr(state.t)
        rows = len(state.x_t)
        asked, nothing = (
            guide(state.x_t, log_snr, structure).log_softmax(-1) for structure in _asked(state, labels, complete, rows)
        )
        ratio = power * (asked - nothing)
        ratio = ratio - ratio.amax(-1, keepdim=True)
    terms = (state.log_probs + ratio).logsumexp(-1)  # (batch, canvas)
    energy: Tensor = -(terms * _live(state)).sum(-1)
    return energy


def _asked(state: State, labels: Labels, complete: bool, rows: int) -> tuple[Structure, Structure]:
    canvas, guide = state.x_t.shape[1], structure_guide(state.lm)
    with_it, without = (guide.structure([each], [flag], canvas) for each, flag in ((labels, complete), (NOTHING_ASKED, False)))
    return _repeated(with_it, rows), _repeated(without, rows)


def _repeated(structure: Structure, rows: int) -> Structure:
    return Structure(*(part.expand(rows, *part.shape[1:]) for part in structure))


def counts_energy(state: State, tags: tuple[int, ...], tagset: TagSet) -> Tensor:
    """−Σ_i log Σ_w p_i(w)·p(tag_i | w), (batch,), with p(tag | word) from counts; tag 0 is open."""
    table = tag_table(state.lm, tagset)
    places = [i for i, tag in enumerate(tags) if tag]
    shares = table[:, [tags[i] for i in places]].T.log()  # (places, vocab)
    return -(state.log_probs[:, places] + shares).logsumexp(-1).sum(-1)


def tag_table(lm: LanguageModel, tagset: TagSet) -> Tensor:
    """(vocab, 1 + tags), p(tag | word) from counts."""
    guide = structure_guide(lm)
    return guide.universal_of_word if tagset == "universal" else guide.penn_of_word


def words_bearing(lm: LanguageModel, tag: int, tagset: TagSet) -> frozenset[int]:
    """The words that bear a tag in at least one of ten thousand occurrences, by smoothed counts."""

    def found() -> frozenset[int]:
        special = {lm.tokenizer.unk_token_id, lm.tokenizer.pad_token_id, lm.tokenizer.eos_token_id}
        return frozenset((tag_table(lm, tagset)[:, tag] >= LEAST_SHARE).nonzero()[:, 0].tolist()) - special

    return lm.once(f"words bearing {tagset} {tag} in {structure_guide(lm).name_or_path}", found)


def network_energy(state: State, space: Literal["x_t", "x0"], labels: Labels, complete: bool) -> Tensor:
    """−log p(tags) − log p(constituents), (batch,), by the syntax guide.

    Args:
        state: of the step.
        space: `x_t`, or `x0`, which the same network reads as almost clean text.
        labels: tags (0 is open) and constituents.
        complete: every other cell of the chart must be empty.
    """
    guide, schedule = syntax_guide(state.lm), state.lm.model.schedule
    t = state.t if space == "x_t" else torch.full_like(state.t, CLEAN)
    reading: Reading = guide(getattr(state, space), schedule.log_snr(t))
    log_prob = state.x_t.new_zeros(len(state.x_t))
    for tags, log_probs in ((labels.universal, reading.universal), (labels.penn, reading.penn)):
        places = [i for i, tag in enumerate(tags) if tag]
        if places:
            log_prob = log_prob + log_probs[:, places, [tags[i] for i in places]].sum(-1)
    index = chart_index(guide.config.labels)
    cells = {(span.first, span.last): index.get(span.label, index[OTHER]) for span in labels.spans}
    if complete:
        size = 1 + max(last for _, last in cells)
        cells = {(i, j): cells.get((i, j), 0) for i in range(size) for j in range(i, size)}
    if cells:
        firsts, lasts = zip(*cells, strict=True)
        log_prob = log_prob + reading.chart[:, list(firsts), list(lasts), list(cells.values())].sum(-1)
    return -log_prob


def _live(state: State) -> Tensor:
    """(batch, canvas), 1 at the words of the text."""
    return (torch.arange(state.x_t.shape[1]) < state.words[:, None]).float()
