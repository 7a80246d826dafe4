"""A noise-aware classifier of fields: p(value | field, x_t) for all fields of a domain at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from dlm_control.controllers.fields.domain import ABSENT as NOT_SAID
from dlm_control.controllers.fields.lookup import domain_at, domain_of_model
from dlm_control.controllers.fields.meaning import COLUMN, labels, meaning_columns, meaning_of
from dlm_control.controllers.guides.lookup import load_guide
from dlm_control.controllers.guides.noise_aware import GuideConfig, GuideRecipe, Trunk
from dlm_control.diffusion.backbone import Backbone
from dlm_control.diffusion.seq_len import padded, seq_len_of
from dlm_control.support.errors import UsageError
from dlm_control.support.hub import model_folder
from dlm_control.training.objectives import Draws
from dlm_control.training.recipe import Loss

ABSENT = 0  # class 0 of every field: the text does not speak of it


class SemanticGuideConfig(GuideConfig):
    """Sizes of a semantic guide.

    Args:
        fields: the fields, one head each.
        values: the values of each field in turn, `ABSENT` not counted.
        **kwargs: of GuideConfig.
    """

    model_type = "dlm-semantic-guide"

    def __init__(self, fields: list[str] | None = None, values: list[list[str]] | None = None, **kwargs: Any) -> None:
        self.fields, self.values = fields or [], values or []
        super().__init__(**kwargs)


class SemanticGuide(PreTrainedModel):
    """Reads noisy embeddings, answers with log-probabilities of every field's values."""

    config_class = SemanticGuideConfig
    config: SemanticGuideConfig

    def __init__(self, config: SemanticGuideConfig) -> None:
        super().__init__(config)
        self.trunk = Trunk(config)
        self.heads = nn.ModuleList(nn.Linear(config.width, 1 + len(values)) for values in config.values)
        self.post_init()

    def forward(self, x_t: Tensor, log_snr: Tensor) -> dict[str, Tensor]:
        """Log-probabilities of values.

        Args:
            x_t: (batch, seq_len, dim), noisy embeddings.
            log_snr: (batch,), of the noise level.

        Returns:
            For each field (batch, 1 + values); column 0 is "not said".
        """
        pooled = self.trunk(x_t, log_snr).mean(1)
        return {field: head(pooled).log_softmax(-1) for field, head in zip(self.config.fields, self.heads, strict=True)}


class LoadedGuide:
    """A guide together with the language model it belongs to."""

    def __init__(self, lm: Backbone, network: SemanticGuide) -> None:
        self._lm, self._network = lm, network.eval().requires_grad_(False)

    def energy(self, x_t: Tensor, t: Tensor, field: str, value: str) -> Tensor:
        """−log p(value | field, x_t), (batch,), in nats.

        Args:
            x_t: (batch, seq_len, dim), noisy embeddings.
            t: (batch,), noise levels in [0, 1].
            field: name of the field.
            value: of the field, or `absent`.
        """
        log_probs = self._network(x_t, self._lm.log_snr(t))[field]
        values = self._network.config.values[self._network.config.fields.index(field)]
        energy: Tensor = -log_probs[:, ABSENT if value == NOT_SAID else 1 + values.index(value)]
        return energy


def semantic_guide(lm: Backbone, asked: Mapping[str, str]) -> LoadedGuide:
    """The language model's guide.

    Args:
        lm: the model.
        asked: fields and values that it must know.

    Raises:
        UsageError: as `load_guide`; or it was trained on other fields.
    """
    network = load_guide(SemanticGuide, "semantic", lm)
    known = dict(zip(network.config.fields, network.config.values, strict=True))
    lacking = [f"{field} = {value}" for field, value in asked.items() if value not in (*known.get(field, ()), NOT_SAID)]
    lacking += [field for field, value in asked.items() if value == NOT_SAID and field not in known]
    if lacking:
        raise UsageError(
            f"semantic: the guide of {lm.source!r} does not know {', '.join(lacking)}: it was trained on the fields "
            f"{', '.join(known)}; train it again with the domain of today, or use guide: words"
        )
    return LoadedGuide(lm, network)


class SemanticGuideRecipe(GuideRecipe):
    """Train a semantic guide on noised sentences whose fields are known.

    Their meaning is in a column of meaning representations, such as `food[English], area[riverside]`, or in a column for each
    field.

    Args:
        mr_column: of the meanings.
        domain: which fields there are: a domain file or a bundled name; by default the model's own.
        **kwargs: of GuideRecipe.
    """

    kind = "semantic-guide"
    usual: ClassVar[dict[str, Any]] = {"steps": 2000, "lr": 3e-3}
    model: SemanticGuide

    def __init__(self, mr_column: str = COLUMN, domain: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mr_column, self.domain_source = mr_column, domain

    def setup(self, data: str, seed: int, processes: int) -> None:
        given, lm = self.domain_source, self.lm_source
        self.domain = domain_at(given) if given else domain_of_model(model_folder(lm), lm)
        super().setup(data, seed, processes)

    def network(self, sizes: dict[str, Any]) -> SemanticGuide:
        fields = self.domain.fields
        return SemanticGuide(
            SemanticGuideConfig(fields=list(fields), values=[list(what.values) for what in fields.values()], **sizes)
        )

    def labels_of(self, rows: Sequence[Mapping[str, str]], data: str) -> list[list[int]]:
        columns = meaning_columns(rows[0].keys() if rows else (), self.domain, self.mr_column)
        if not columns:
            there, example = ", ".join(rows[0] if rows else ()), next(iter(self.domain.fields))
            raise UsageError(
                f"--data {data}: no column of the fields {', '.join(self.domain.fields)}, and no column {self.mr_column!r} of "
                f"meanings such as `{example}[…]`; beside the text it has {there or 'none'}"
            )
        return labels([meaning_of(row, columns) for row in rows], self.domain, f"--data {data}")

    def loss(self, model: nn.Module, batch: Any, draws: Draws) -> Loss:
        """Sum over fields of −log p(value | x_t) at noise levels drawn per sentence."""
        ids, values, _ = batch
        expected = torch.tensor(values, device=ids.device)
        t = draws.levels(len(ids))
        x_t = self.lm.corrupt(ids, t, draws.normal(*ids.shape, self.lm.embeddings.shape[1]))
        fields = model(x_t, self.lm.log_snr(t))
        losses = {field: F.nll_loss(log_probs, expected[:, i]) for i, (field, log_probs) in enumerate(fields.items())}
        return Loss(torch.stack(list(losses.values())).sum(), {})

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Share of held-out field values named rightly, at noise levels 0.05, 0.5 and 0.8."""
        order = sorted(range(len(self.held_out)), key=lambda row: len(self.held_out[row]))[::4]
        figures: dict[str, float] = {}
        for level in (0.05, 0.5, 0.8):
            right = total = 0
            for number, start in enumerate(range(0, len(order), 64)):
                rows = order[start : start + 64]
                seq_len = seq_len_of(len(self.held_out[rows[-1]]) - 1, self.model.config.max_seq_len)
                ids = padded([self.held_out[row] for row in rows], seq_len, self.lm.tokenizer.pad_token_id, self.device)
                t = torch.full((len(rows),), level, device=self.device)
                draws = Draws(0, number, device=self.device)
                x_t = self.lm.corrupt(ids, t, draws.normal(*ids.shape, self.lm.embeddings.shape[1]))
                guesses = torch.stack([p.argmax(-1) for p in model(x_t, self.lm.log_snr(t)).values()], 1)
                expected = torch.tensor([self.held_out_labels[row] for row in rows], device=self.device)
                right += int((guesses == expected).sum())
                total += guesses.numel()
            figures[f"accuracy_at_{level}"] = right / total
        return figures
