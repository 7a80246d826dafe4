"""A noise-aware classifier of E2E fields: p(value | field, x_t) for all eight fields at once."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from dlm_control.controllers.e2e.fields import ABSENT as NOT_SAID
from dlm_control.controllers.e2e.fields import FIELDS, PHRASES, fields_of
from dlm_control.controllers.guides.lookup import load_guide
from dlm_control.controllers.guides.noise_aware import GuideConfig, GuideRecipe, Trunk
from dlm_control.diffusion.backbone import Backbone
from dlm_control.diffusion.seq_len import padded, seq_len_of
from dlm_control.support.errors import UsageError
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
        self.fields = fields or list(FIELDS)
        self.values = values or [list(PHRASES[field]) for field in self.fields]
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


def semantic_guide(lm: Backbone) -> LoadedGuide:
    """The language model's guide.

    Raises:
        UsageError: as `load_guide`.
    """
    return LoadedGuide(lm, load_guide(SemanticGuide, "semantic", lm))


class SemanticGuideRecipe(GuideRecipe):
    """Train a semantic guide on noised sentences with their meaning representations.

    The fields and their values are those of E2E (`controllers.e2e`); a corpus with fields of its own cannot train one yet.

    Args:
        mr_column: of the meanings.
        **kwargs: of GuideRecipe.
    """

    kind = "semantic-guide"
    usual: ClassVar[dict[str, Any]] = {"steps": 2000, "lr": 3e-3}
    source = (
        "a semantic guide learns from E2E's meaning representations, such as food[English]; recipe.mr_column names the column"
    )
    model: SemanticGuide

    def __init__(self, mr_column: str = "mr", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.columns = (mr_column,)
        self._values = dict(zip(FIELDS, (list(PHRASES[field]) for field in FIELDS), strict=True))

    def network(self, sizes: dict[str, Any]) -> SemanticGuide:
        return SemanticGuide(SemanticGuideConfig(**sizes))

    def labelled(self, row: dict[str, str]) -> list[int]:
        return labels(row[self.columns[0]], self._values)

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


def labels(mr: str, values: dict[str, list[str]]) -> list[int]:
    """Class of each field in a meaning representation such as "name[The Mill], food[English]".

    Raises:
        UsageError: the representation names a value the field does not have.
    """
    said = fields_of(mr)
    unknown = [f"{field}[{said[field]}]" for field in values if field in said and said[field] not in values[field]]
    if unknown:
        raise UsageError(
            f"meaning representation {mr!r}: unknown {', '.join(unknown)}; a semantic guide knows E2E's fields alone"
        )
    return [1 + values[field].index(said[field]) if field in said else ABSENT for field in values]
