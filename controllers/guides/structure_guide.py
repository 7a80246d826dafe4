"""Which words a structure makes likelier: log p(w at i | x_t, tags, constituents) − log p(w at i | x_t), for every word.

By Bayes' rule the ratio is p(structure | w at i, x_t) / p(structure | x_t): a classifier that answers for all words at once, so
that a control can condition word distributions without a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from dlm_control.controllers.guides.lookup import load_guide
from dlm_control.controllers.guides.noise_aware import GuideConfig, Trunk
from dlm_control.controllers.guides.syntax_guide import OTHER, AnnotatedGuideRecipe, Labels, common_labels
from dlm_control.controllers.linguistics.trees import PENN, UNIVERSAL
from dlm_control.diffusion.backbone import Backbone
from dlm_control.diffusion.seq_len import padded, seq_len_of
from dlm_control.training.objectives import Draws
from dlm_control.training.recipe import Loss

LEVELS = 8  # of constituents around a word that are told apart, the smallest first
_PLACES = 4  # of a word in a constituent: inside, first, last, both


class StructureGuideConfig(GuideConfig):
    """Sizes of a structure guide.

    Args:
        labels: constituent labels that it knows, OTHER last.
        **kwargs: of GuideConfig.
    """

    model_type = "dlm-structure-guide"

    def __init__(self, labels: list[str] | None = None, **kwargs: Any) -> None:
        self.labels = labels or []
        super().__init__(**kwargs)


class Structure(NamedTuple):
    """What is asked of a batch.

    Attributes:
        universal, penn: (batch, seq_len), tags as indices from 1; 0 is open.
        nodes: (batch, seq_len, LEVELS), constituents around each word; 0 is none.
        complete: (batch,) bool: there are no others.
    """

    universal: Tensor
    penn: Tensor
    nodes: Tensor
    complete: Tensor


class StructureGuide(PreTrainedModel):
    """A small conditional denoiser."""

    config_class = StructureGuideConfig
    config: StructureGuideConfig

    def __init__(self, config: StructureGuideConfig) -> None:
        super().__init__(config)
        width = config.width
        self.trunk = Trunk(config)
        self.universal = nn.Embedding(1 + len(UNIVERSAL), width)
        self.penn = nn.Embedding(1 + len(PENN), width)
        self.nodes = nn.Embedding(LEVELS * self._kinds, width)
        self.complete = nn.Embedding(2, width)
        self.output = nn.Linear(width, config.vocab_size)
        # p(tag | word) from counts, rows sum to 1; column 0 (open) is 0.
        self.universal_of_word: Tensor
        self.penn_of_word: Tensor
        self.register_buffer("universal_of_word", torch.zeros(config.vocab_size, 1 + len(UNIVERSAL)))
        self.register_buffer("penn_of_word", torch.zeros(config.vocab_size, 1 + len(PENN)))
        self.post_init()

    @property
    def _kinds(self) -> int:
        return 1 + len(self.config.labels) * _PLACES

    def forward(self, x_t: Tensor, log_snr: Tensor, structure: Structure) -> Tensor:
        """(batch, seq_len, vocab), scores of words from all that is known but x_t at the position itself.

        Args:
            x_t: (batch, seq_len, dim), noisy embeddings.
            log_snr: (batch,), of the noise level.
            structure: what is asked.
        """
        levels = torch.arange(LEVELS, device=x_t.device) * self._kinds
        asked = (
            self.universal(structure.universal) + self.penn(structure.penn) + self.complete(structure.complete.long())[:, None]
        )
        asked = asked + self.nodes(structure.nodes + levels).sum(2)
        scores: Tensor = self.output(self.trunk(x_t, log_snr, asked))
        return scores

    def structure(self, labels: Sequence[Labels], complete: Sequence[bool], seq_len: int) -> Structure:
        """Labels of a batch as tensors on the guide's device; of constituents around a word the LEVELS smallest."""
        index = {label: i for i, label in enumerate(self.config.labels)}
        nodes = np.zeros((len(labels), seq_len, LEVELS), dtype=np.int64)
        for row, each in enumerate(labels):
            used = np.zeros(seq_len, dtype=np.int64)
            for first, last, label in sorted(each.spans, key=lambda span: (span.last - span.first, -span.first)):
                for i in range(first, last + 1):
                    if used[i] < LEVELS:
                        place = (i == first) + 2 * (i == last)
                        nodes[row, i, used[i]] = 1 + index.get(label, index[OTHER]) * _PLACES + place
                        used[i] += 1
        return Structure(
            padded([each.universal for each in labels], seq_len, 0, self.device),
            padded([each.penn for each in labels], seq_len, 0, self.device),
            torch.from_numpy(nodes).to(self.device), torch.tensor(list(complete), device=self.device),
        )  # fmt: skip


NOTHING_ASKED = Labels((), (), ())


def structure_guide(lm: Backbone) -> StructureGuide:
    """The language model's guide.

    Raises:
        UsageError: as `load_guide`.
    """
    return load_guide(StructureGuide, "structure", lm)


class StructureGuideRecipe(AnnotatedGuideRecipe):
    """Train a structure guide."""

    kind = "structure-guide"
    usual: ClassVar[dict[str, Any]] = {"steps": 4800, "lr": 4e-3, "recipe": {"model": {"width": 144, "depth": 4, "heads": 4}}}
    model: StructureGuide

    def network(self, sizes: dict[str, Any]) -> StructureGuide:
        guide = StructureGuide(StructureGuideConfig(labels=common_labels(self.labels, self.least), **sizes))
        guide.universal_of_word = self._shares("universal", len(UNIVERSAL))
        guide.penn_of_word = self._shares("penn", len(PENN))
        return guide

    def _shares(self, kind: str, tags: int) -> Tensor:
        """p(tag | word) from counts, smoothed by a tenth of a token with the tags of all words."""
        counts = torch.zeros(len(self.lm.tokenizer), 1 + tags, dtype=torch.float64)
        for sentence, labels in zip(self.sentences, self.labels, strict=True):
            pairs = torch.tensor([sentence[:-1], getattr(labels, kind)])
            counts.index_put_((pairs[0], pairs[1]), torch.ones(pairs.shape[1], dtype=torch.float64), accumulate=True)
        counts[:, 0] = 0
        counts += 0.1 * counts.sum(0) / counts.sum()
        return (counts / counts.sum(1, keepdim=True)).float()

    def loss(self, model: nn.Module, batch: Any, draws: Draws) -> Loss:
        """Cross-entropy of the words, given noisy ones and a random part of the structure."""
        ids, labels, rng = batch
        asked = [part_of(each, rng) for each in labels]
        structure = self.model.structure([part for part, _ in asked], [complete for _, complete in asked], ids.shape[1])
        loss = self._cross_entropy(model, ids, structure, draws.levels(len(ids)), draws)
        return Loss(loss, {})

    def _cross_entropy(self, model: nn.Module, ids: Tensor, structure: Structure, t: Tensor, draws: Draws) -> Tensor:
        x_t = self.lm.corrupt(ids, t, draws.normal(*ids.shape, self.lm.embeddings.shape[1]))
        scores = model(x_t, self.lm.log_snr(t), structure) + self.lm.local_likelihood(x_t, t)
        return F.cross_entropy(scores.flatten(0, 1), ids.flatten())

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Cross-entropy given nothing, all tags, one constituent, the whole tree; the same noise each time."""
        order = sorted(range(len(self.held_out)), key=lambda row: len(self.held_out[row]))[::8]
        chunks = [order[i : i + 32] for i in range(0, len(order), 32)]
        figures: dict[str, float] = {}
        for kind, part in _KINDS.items():
            total = 0.0
            for number, rows in enumerate(chunks):
                seq_len = seq_len_of(len(self.held_out[rows[-1]]) - 1, self.lm.max_seq_len)
                ids = padded([self.held_out[row] for row in rows], seq_len, self.lm.tokenizer.pad_token_id, self.device)
                rng = np.random.default_rng(number)
                asked = [part(self.held_out_labels[row], rng) for row in rows]
                structure = self.model.structure([a for a, _ in asked], [c for _, c in asked], seq_len)
                draws = Draws(0, number, device=self.device)
                total += float(self._cross_entropy(model, ids, structure, draws.levels(len(ids)), draws)) * len(rows)
            figures[f"cross_entropy_given_{kind}"] = total / len(order)
        return figures


Asked = tuple[Labels, bool]  # a part of the labels, and whether its constituents are all there are


def _nothing(labels: Labels, rng: np.random.Generator) -> Asked:
    return NOTHING_ASKED, False


def _universal(labels: Labels, rng: np.random.Generator) -> Asked:
    return Labels(labels.universal, (), ()), False


def _penn(labels: Labels, rng: np.random.Generator) -> Asked:
    return Labels((), labels.penn, ()), False


def _some_tags(labels: Labels, rng: np.random.Generator) -> Asked:
    kept = rng.random(len(labels.universal)) < rng.random()
    return Labels(tuple(tag * keep for tag, keep in zip(labels.universal, kept.tolist(), strict=True)), (), ()), False


def _tree(labels: Labels, rng: np.random.Generator) -> Asked:
    return Labels((), (), labels.spans), True


def _tagged_tree(labels: Labels, rng: np.random.Generator) -> Asked:
    return Labels((), labels.penn, labels.spans), True


def _spans(labels: Labels, rng: np.random.Generator) -> Asked:
    size = min(len(labels.spans), int(rng.choice((1, 1, 1, 2, 3))))
    chosen = rng.permutation(len(labels.spans))[:size]
    return Labels((), (), tuple(labels.spans[i] for i in chosen)), False


_KINDS = {"nothing": _nothing, "tags": _universal, "spans": _spans, "tree": _tree}
_SHARES = {_nothing: 0.1, _universal: 0.12, _some_tags: 0.08, _penn: 0.08, _tree: 0.27, _tagged_tree: 0.05, _spans: 0.3}


def part_of(labels: Labels, rng: np.random.Generator) -> Asked:
    """A random part of a sentence's labels, as a task would ask for it."""
    return list(_SHARES)[rng.choice(len(_SHARES), p=list(_SHARES.values()))](labels, rng)
