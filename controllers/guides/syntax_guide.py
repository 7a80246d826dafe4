"""A noise-aware tagger and span classifier: p(tag at i | x_t) and p(label of words i to j | x_t)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from dlm_control.controllers.guides.lookup import load_guide
from dlm_control.controllers.guides.noise_aware import GuideConfig, GuideRecipe, Trunk
from dlm_control.controllers.linguistics.trees import PENN, UNIVERSAL, Constituent, constituents, read_tree
from dlm_control.diffusion.backbone import Backbone
from dlm_control.diffusion.seq_len import padded, seq_len_of
from dlm_control.training.objectives import Draws
from dlm_control.training.recipe import Loss

NOTHING = 0  # label 0 of the chart: no constituent; tag 0: END, PAD, or a tag outside the inventory
IGNORED = -100
OTHER = "*"  # any label that the training data had too rarely


class SyntaxGuideConfig(GuideConfig):
    """Sizes of a syntax guide.

    Args:
        labels: constituent labels, unary chains among them; label 0 (none) is not counted. The last is OTHER.
        span_width: features of a span's two ends.
        **kwargs: of GuideConfig.
    """

    model_type = "dlm-syntax-guide"

    def __init__(self, labels: list[str] | None = None, span_width: int = 96, **kwargs: Any) -> None:
        self.labels, self.span_width = labels or [], span_width
        super().__init__(**kwargs)


class Reading(NamedTuple):
    """Log-probabilities.

    Attributes:
        universal: (batch, seq_len, 1 + 17), of UD tags; column 0 is none.
        penn: (batch, seq_len, 1 + 48), of Penn tags.
        chart: (batch, seq_len, seq_len, 1 + labels), of the words i to j; only i ≤ j means anything.
    """

    universal: Tensor
    penn: Tensor
    chart: Tensor


class SyntaxGuide(PreTrainedModel):
    """Reads noisy embeddings, answers with tags and constituents.

    The chart scores a span by a two-layer network over its first and last word, as 2022's classifier did with a width of 768
    (Li et al. 2022, App. D; Stern et al. 2017).
    """

    config_class = SyntaxGuideConfig
    config: SyntaxGuideConfig

    def __init__(self, config: SyntaxGuideConfig) -> None:
        super().__init__(config)
        self.trunk = Trunk(config)
        self.universal = nn.Linear(config.width, 1 + len(UNIVERSAL))
        self.penn = nn.Linear(config.width, 1 + len(PENN))
        self.first = nn.Linear(config.width, config.span_width)
        self.last = nn.Linear(config.width, config.span_width)
        self.label = nn.Linear(config.span_width, 1 + len(config.labels))
        self.post_init()

    def forward(self, x_t: Tensor, log_snr: Tensor) -> Reading:
        """Log-probabilities for x_t (batch, seq_len, dim) at noise levels of log-SNR (batch,)."""
        h = self.trunk(x_t, log_snr)
        spans = F.gelu(self.first(h)[:, :, None] + self.last(h)[:, None])
        return Reading(self.universal(h).log_softmax(-1), self.penn(h).log_softmax(-1), self.label(spans).log_softmax(-1))


def syntax_guide(lm: Backbone) -> SyntaxGuide:
    """The language model's guide.

    Raises:
        UsageError: as `load_guide`.
    """
    return load_guide(SyntaxGuide, "syntax", lm)


class Labels(NamedTuple):
    """What the annotation says of a sentence: tags as indices from 1, and its constituents."""

    universal: tuple[int, ...]
    penn: tuple[int, ...]
    spans: tuple[Constituent, ...]


def read_labels(row: Mapping[str, str]) -> Labels:
    """The labels in the columns that `dlm annotate` writes."""
    universal = tuple(1 + UNIVERSAL.index(tag) if tag in UNIVERSAL else NOTHING for tag in row["pos"].split())
    penn = tuple(1 + PENN.index(tag) if tag in PENN else NOTHING for tag in row["penn"].split())
    # Most trees have a TOP of several sentences, which read_tree leaves on; constituents() drops its label.
    return Labels(universal, penn, tuple(constituents(read_tree(row["tree"]))))


def common_labels(labelled: Sequence[Labels], least: int) -> list[str]:
    """Constituent labels seen at least so often, the most frequent first; OTHER for all the rest."""
    counts: dict[str, int] = {}
    for each in labelled:
        for span in each.spans:
            counts[span.label] = counts.get(span.label, 0) + 1
    common = sorted((label for label, count in counts.items() if count >= least), key=lambda label: (-counts[label], label))
    return [*common, OTHER]


def chart_index(labels: Sequence[str]) -> dict[str, int]:
    """The class of each label in a chart."""
    return {label: 1 + i for i, label in enumerate(labels)}


class AnnotatedGuideRecipe(GuideRecipe):
    """What recipes of guides share that learn from sentences `dlm annotate` has tagged and parsed.

    Args:
        least: a constituent label must be seen so often.
        **kwargs: of GuideRecipe.
    """

    columns = ("pos", "penn", "tree")
    source = "`dlm annotate CORPUS --out FOLDER` writes a copy of a corpus that has it"

    def __init__(self, least: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.least = least

    def labels_of(self, rows: Sequence[Mapping[str, str]], data: str) -> list[Labels]:
        return [read_labels(row) for row in rows]


class SyntaxGuideRecipe(AnnotatedGuideRecipe):
    """Train a syntax guide."""

    kind = "syntax-guide"
    usual: ClassVar[dict[str, Any]] = {"steps": 2500, "lr": 3e-3}
    model: SyntaxGuide

    def network(self, sizes: dict[str, Any]) -> SyntaxGuide:
        return SyntaxGuide(SyntaxGuideConfig(labels=common_labels(self.labels, self.least), **sizes))

    def loss(self, model: nn.Module, batch: Any, draws: Draws) -> Loss:
        """−log p of tags and of chart cells, each a mean over words or cells, at noise levels drawn per sentence."""
        ids, labels, _ = batch
        t = draws.levels(len(ids))
        x_t = self.lm.corrupt(ids, t, draws.normal(*ids.shape, self.lm.embeddings.shape[1]))
        reading = model(x_t, self.lm.log_snr(t))
        universal, penn, chart = self._targets(labels, ids.shape[1])
        # Nine cells in ten are empty: the filled ones count as much as all others together.
        cells = F.nll_loss(reading.chart.flatten(0, 2), chart.flatten(), reduction="none", ignore_index=IGNORED)
        filled = chart.flatten() > 0
        parts = {
            "universal": F.nll_loss(reading.universal.flatten(0, 1), universal.flatten()),
            "penn": F.nll_loss(reading.penn.flatten(0, 1), penn.flatten()),
            "chart": cells.sum() / filled.sum().clamp(min=1) / 2,
        }
        return Loss(torch.stack(list(parts.values())).sum(), {k: v.detach() for k, v in parts.items()})

    def _targets(self, labels: Sequence[Labels], seq_len: int) -> tuple[Tensor, Tensor, Tensor]:
        index = chart_index(self.model.config.labels)
        universal, penn = (
            padded([getattr(each, name) for each in labels], seq_len, NOTHING, self.device) for name in ("universal", "penn")
        )
        chart = np.full((len(labels), seq_len, seq_len), IGNORED)
        for row, each in enumerate(labels):
            n = len(each.universal)
            chart[row, :n, :n] = np.where(np.triu(np.ones((n, n), dtype=bool)), NOTHING, IGNORED)
            for first, last, label in each.spans:
                chart[row, first, last] = index.get(label, index[OTHER])
        return universal, penn, torch.from_numpy(chart).to(self.device)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Tag accuracy, and F1 of chart cells, at noise levels 0.05, 0.5 and 0.8."""
        order = sorted(range(len(self.held_out)), key=lambda row: len(self.held_out[row]))[::8]
        figures: dict[str, float] = {}
        for level in (0.05, 0.5, 0.8):
            right = words = matched = expected = found = 0
            for number, start in enumerate(range(0, len(order), 32)):
                rows = order[start : start + 32]
                seq_len = seq_len_of(len(self.held_out[rows[-1]]) - 1, self.lm.max_seq_len)
                ids = padded([self.held_out[row] for row in rows], seq_len, self.lm.tokenizer.pad_token_id, self.device)
                t = torch.full((len(rows),), level, device=self.device)
                draws = Draws(0, number, device=self.device)
                x_t = self.lm.corrupt(ids, t, draws.normal(*ids.shape, self.lm.embeddings.shape[1]))
                reading = model(x_t, self.lm.log_snr(t))
                universal, _, chart = self._targets([self.held_out_labels[row] for row in rows], seq_len)
                right += int(((reading.universal.argmax(-1) == universal) & (universal > 0)).sum())
                words += int((universal > 0).sum())
                guess = torch.where(chart == IGNORED, 0, reading.chart.argmax(-1))
                matched += int(((guess == chart) & (chart > 0)).sum())
                expected, found = expected + int((chart > 0).sum()), found + int((guess > 0).sum())
            figures |= {f"tags_at_{level}": right / words, f"spans_f1_at_{level}": 2 * matched / (expected + found)}
        return figures
