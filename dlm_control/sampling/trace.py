"""What a run tells of each step: the texts as they stand, and what every control does to them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from dlm_control.control.columns import Columns, covariance
from dlm_control.text.tokenizer import WordTokenizer

HOLDS = math.log(2)  # nats: a control holds a word whose probability its push at least doubles


@dataclass(frozen=True)
class Effect:
    """What one control does to one text at one step.

    Attributes:
        energy: −log p(control | state), nats, before the push.
        share: of this control's push in the lengths of all pushes, in [0, 1].
        changed: by position, the word that this push alone makes the likeliest in place of another.
        cosines: with the pushes of the other controls, in [−1, 1]; absent where one of the two is zero.
    """

    energy: float
    share: float
    changed: Mapping[int, str]
    cosines: Mapping[str, float]


@dataclass(frozen=True)
class Draft:
    """One text after one step.

    Attributes:
        index: of the text.
        candidate: of which of its candidates (or particles) this is the draft, from 0.
        text: as it stands, the likeliest word wherever none is settled.
        words: of the text.
        probs: p(word) of each word under the controls, in the prediction from which the step was taken.
        held: by position, the control that holds the word: it fixed the word before sampling, or of all pushes its own raised
            the word's probability most, and at least twofold, when the word came up.
        effects: by control; empty under the guidance `paper`, and where no control acts at this noise level.
    """

    index: int
    candidate: int
    text: str
    words: tuple[str, ...]
    probs: tuple[float, ...]
    held: Mapping[int, str]
    effects: Mapping[str, Effect]


@dataclass(frozen=True)
class Step:
    """One step of the texts that share a network call.

    Attributes:
        number: from 1 to `total`. Texts that do not fit into one call are written batch by batch, and each batch begins at 1.
        total: steps of a text.
        t: noise level in [0, 1] that the step starts from; the last step ends at 0.
        done: steps × texts that are done since the step before.
        drafts: of the texts that are not finished before this step.
    """

    number: int
    total: int
    t: float
    done: int
    drafts: Sequence[Draft] = ()


@dataclass
class Trace:
    """Keeps the drafts of a run: `generate(…, callback_on_step=trace)`.

    Attributes:
        drafts: of each (index, candidate), by noise level, which falls.
    """

    drafts: dict[tuple[int, int], dict[float, Draft]] = field(default_factory=dict)

    def __call__(self, step: Step) -> None:
        """Keep a step's drafts. A text that is tried again, because another one of its batch failed, replaces its own."""
        for draft in step.drafts:
            self.drafts.setdefault((draft.index, draft.candidate), {})[step.t] = draft

    def drafts_of(self, index: int, words: Sequence[str]) -> dict[float, Draft]:
        """The drafts of the candidate that became a text, given the text's index and words."""
        candidates = (drafts for (of, _), drafts in self.drafts.items() if of == index)
        return next(drafts for drafts in candidates if drafts and list(drafts.values())[-1].words == tuple(words))

    def effects(self) -> Iterator[tuple[float, int, str, Effect]]:
        """Noise level, index, name of the control, and what it did: text by text."""
        for (index, _), drafts in self.drafts.items():
            for t, draft in drafts.items():
                for control, effect in draft.effects.items():
                    yield t, index, control, effect


class _Push(NamedTuple):
    control: str
    rows: Sequence[int]
    push: Columns
    log_total: Tensor  # (batch, seq_len), of the probabilities after the push alone


class Recorder:
    """Makes drafts of a batch, from what guidance tells of its pushes and from the words after the step.

    Args:
        tokenizer: of the model.
        given: of each row, by position, the control that fixed the word before sampling.
    """

    def __init__(self, tokenizer: WordTokenizer, given: Sequence[Mapping[int, str]]) -> None:
        self._tokenizer, self._given = tokenizer, given
        self._held: list[dict[int, tuple[str, int]]] = [{} for _ in given]  # control and word id, by position
        self._effects: list[dict[str, Effect]] = [{} for _ in given]
        self._pushes: list[_Push] = []

    def note(
        self, rows: Sequence[int], log_probs: Tensor, energies: Mapping[str, Tensor], pushes: Mapping[str, Columns]
    ) -> None:
        """Note what the controls of a group do at a step.

        Args:
            rows: of the batch, to which the first rows of the tensors belong.
            log_probs: (batch, seq_len, vocab), log-probabilities of words before the pushes.
            energies: (batch,) by control.
            pushes: of (batch, seq_len, vocab) by control.
        """
        probs, likeliest = log_probs.exp(), log_probs.argmax(-1)
        lengths = {name: covariance(push, push, probs).clamp(min=0).sqrt() for name, push in pushes.items()}
        total = sum(lengths.values(), torch.zeros(len(log_probs), device=log_probs.device)).clamp(min=1e-12)
        for name, push in pushes.items():
            after = push.added_to(log_probs.clone())
            self._pushes.append(_Push(name, rows, push, after.logsumexp(-1)))
            changed = self._changed(likeliest, after.argmax(-1))
            cosines = {
                other: (covariance(push, pushes[other], probs) / (lengths[name] * lengths[other])).tolist()
                for other in pushes
                if other != name
            }
            shares, energy = (lengths[name] / total).tolist(), energies[name].tolist()
            for i, row in enumerate(rows):
                along = {other: values[i] for other, values in cosines.items() if math.isfinite(values[i])}
                self._effects[row][name] = Effect(energy[i], shares[i], changed[i], along)

    def drafts(self, texts: Mapping[int, tuple[int, int]], ids: Tensor, log_probs: Tensor) -> list[Draft]:
        """The drafts after a step, of which no note is kept but of who holds each word.

        Args:
            texts: index and candidate, of the rows that a draft is wanted of.
            ids: (batch, seq_len), the words as they stand.
            log_probs: (batch, seq_len, vocab), of the words, as controls left them.
        """
        holder, most = self._holders(ids)
        probs = log_probs.gather(-1, ids[..., None])[..., 0].exp().tolist()
        made = []
        for row, (index, candidate) in texts.items():
            words = self._tokenizer.until_end(ids[row].tolist())
            held = self._held[row] = self._held_now(row, words, holder[row], most[row])
            tokens = tuple(self._tokenizer.convert_ids_to_tokens(words))
            made.append(
                Draft(
                    index=index,
                    candidate=candidate,
                    text=self._tokenizer.join(tokens),
                    words=tokens,
                    probs=tuple(probs[row][: len(words)]),
                    held={position: control for position, (control, _) in held.items()},
                    effects=self._effects[row],
                )
            )
        self._effects, self._pushes = [{} for _ in self._given], []
        return made

    def follow(self, rows: Tensor) -> None:
        """Row i goes on from rows[i], (batch,); all rows are of one group."""
        chosen = rows.tolist()
        self._held, self._effects = [self._held[row] for row in chosen], [self._effects[row] for row in chosen]
        self._pushes = [
            each._replace(push=replace(each.push, values=each.push.values[rows]), log_total=each.log_total[rows])
            for each in self._pushes
        ]

    def _changed(self, before: Tensor, after: Tensor) -> list[dict[int, str]]:
        """Of each row, by position, the words (batch, seq_len) that have become others."""
        found: list[dict[int, str]] = [{} for _ in before]
        for row, position in (before != after).nonzero().tolist():
            found[row][position] = str(self._tokenizer.convert_ids_to_tokens(int(after[row, position])))
        return found

    def _holders(self, ids: Tensor) -> tuple[list[list[int]], list[list[float]]]:
        """Of each row and position the push that raised log p(word) most, by number, and by how much."""
        gains = torch.zeros(len(self._pushes) or 1, *ids.shape, device=ids.device)
        for number, (_, rows, push, log_total) in enumerate(self._pushes):
            words = ids[list(rows)]
            first = Columns(push.values[: len(rows)], push.words)
            gains[number, list(rows)] = first.of_words(words) - log_total[: len(rows)]
        most, strongest = gains.max(0)
        return strongest.tolist(), most.tolist()

    def _held_now(
        self, row: int, words: Sequence[int], holder: Sequence[int], most: Sequence[float]
    ) -> dict[int, tuple[str, int]]:
        held, before = {}, self._held[row]
        for position, word in enumerate(words):
            if position in self._given[row]:
                held[position] = (self._given[row][position], word)
            elif most[position] >= HOLDS:
                held[position] = (self._pushes[holder[position]].control, word)
            elif position in before and before[position][1] == word:
                held[position] = before[position]
        return held
