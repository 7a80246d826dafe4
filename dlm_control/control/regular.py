"""Probabilities of regular languages under independent word distributions, and the distributions given the language."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlm_control.control.plan import Language

IMPOSSIBLE = -1e6  # log-probability of an end that no text reaches
_LEAST = 1e-35  # probability of an edge; float32 holds its inverse
_MOST = 80.0  # nats; float32 holds exp of that


class RegularEvent:
    """The event that a text belongs to a language, made ready for a device.

    The automaton's edges between living states carry sets of classes of words. With e edges and k classes a pass costs
    batch · seq_len · (e + k·e); the size of the vocabulary matters for one sum over its words alone.

    Args:
        language: with at least one text.
        device: of the tensors.
    """

    def __init__(self, language: Language, device: torch.device) -> None:
        automaton, alive = language.automaton, language.automaton.alive
        states = [int(state) for state in alive.nonzero()[0]]
        number = {state: i for i, state in enumerate(states)}
        labels: dict[tuple[int, int], list[int]] = {}
        for state in states:
            for word_class, reached in enumerate(automaton.steps[state].tolist()):
                if alive[reached]:
                    labels.setdefault((number[state], number[reached]), []).append(word_class)
        edges = sorted(labels)
        classes = torch.tensor(language.classes)
        members = [(classes == word_class).nonzero()[:, 0] for word_class in range(automaton.steps.shape[1])]
        single = [word_class for word_class, words in enumerate(members) if len(words) == 1]
        several = [word_class for word_class, words in enumerate(members) if len(words) != 1]
        column = {word_class: i for i, word_class in enumerate([*single, *several])}
        admits = torch.zeros(len(column), len(edges))
        for i, edge in enumerate(edges):
            admits[[column[word_class] for word_class in labels[edge]], i] = 1.0
        targets = torch.tensor([target for _, target in edges], dtype=torch.long)
        by_target = targets.argsort(stable=True)

        def on(tensor: Tensor) -> Tensor:
            return tensor.to(device)

        self.states = len(states)
        self.start = number.get(0, 0)
        self.end = on(torch.tensor([0.0 if automaton.accepting[state] else IMPOSSIBLE for state in states]))
        self.sources, self.targets = on(torch.tensor([source for source, _ in edges], dtype=torch.long)), on(targets)
        self.out_of = on(_bounds(torch.tensor([source for source, _ in edges], dtype=torch.long), len(states)))
        self.by_target, self.into = on(by_target), on(_bounds(targets[by_target], len(states)))
        self.admits = on(admits)
        self.single = on(torch.tensor([int(members[word_class]) for word_class in single], dtype=torch.long))
        self.member = on(torch.stack([(classes == c).float() for c in several], 1) if several else torch.zeros(len(classes), 0))
        self.columns = on(torch.tensor([column[c] if c >= 0 else len(column) for c in language.classes], dtype=torch.long))

    def log_prob(self, log_probs: Tensor, length: Tensor) -> Tensor:
        """log p(a text belongs to the language), (batch,), in nats; differentiable once, in closed form.

        Args:
            log_probs: (batch, seq_len, vocab), of words at positions.
            length: (batch,), how many words each text has.
        """
        found: Tensor = _LogProb.apply(log_probs, length, self)
        return found

    def posterior(self, log_probs: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """A backward pass over (position, state), and a forward pass in probabilities given the event (Baum et al. 1970).

        Args:
            log_probs, length: as `log_prob`.

        Returns:
            (batch,): log p(event). (batch, seq_len, vocab): p(word at position | event) / p(word at position); 0 for words that
            may not occur, and behind the text.
        """
        probs = log_probs.exp()
        by_class = torch.cat([probs[..., self.single], probs @ self.member], -1)  # (batch, seq_len, classes)
        weights = (by_class @ self.admits).clamp(min=_LEAST).log().permute(1, 2, 0).contiguous()  # (seq_len, edges, batch)
        inside = length > torch.arange(len(weights), device=length.device)[:, None]  # (seq_len, batch)
        end = self.end[:, None].expand(-1, len(probs)).contiguous()  # (states, batch)
        futures = [end]  # log p(accepted | state at position), of the last position first
        for weight, within in zip(weights.flip(0), inside.flip(0), strict=True):
            through = weight + futures[-1][self.targets]
            best = torch.segment_reduce(through, "max", offsets=self.out_of, axis=0, initial=IMPOSSIBLE)
            total = torch.segment_reduce((through - best[self.sources]).exp(), "sum", offsets=self.out_of, axis=0, initial=0.0)
            futures.append(torch.where(within, best + total.clamp(min=_LEAST).log(), end))
        future = torch.stack(futures[::-1])  # (seq_len + 1, states, batch)
        gain = (future[1:, self.targets] - future[:-1, self.sources]).clamp(max=_MOST).exp()  # (seq_len, edges, batch)
        moves = gain * weights.exp()
        here = torch.zeros_like(end)  # p(state at position | event)
        here[self.start] = 1.0
        ratios = []
        for gained, move in zip(gain, moves, strict=True):
            leaving = here[self.sources]
            ratios.append(leaving * gained)
            arriving = (leaving * move)[self.by_target]
            here = torch.segment_reduce(arriving, "sum", offsets=self.into, axis=0, initial=0.0)
        by_edge = torch.stack(ratios).permute(2, 0, 1)  # (batch, seq_len, edges)
        by_class = by_edge @ self.admits.T * inside.T[..., None]
        nothing = torch.zeros_like(by_class[..., :1])
        return future[0, self.start], torch.cat([by_class, nothing], -1)[..., self.columns]


def _bounds(ascending: Tensor, segments: int) -> Tensor:
    """(segments + 1,), where each segment of ascending numbers begins, and the end."""
    return torch.searchsorted(ascending, torch.arange(segments + 1))


class _LogProb(torch.autograd.Function):
    """log p(event), whose derivative by a log-probability is the posterior probability of that word."""

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, length: Tensor, event: RegularEvent) -> Tensor:
        with torch.no_grad():
            log_prob, ratio = event.posterior(log_probs, length)
            if ctx.needs_input_grad[0]:
                ctx.save_for_backward(log_probs.exp() * ratio)
        return log_prob

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        [posterior] = ctx.saved_tensors
        return posterior * gradients[0][:, None, None], None, None
