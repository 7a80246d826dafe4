"""What guide networks have in common: a small transformer over noisy embeddings that knows the noise level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from dlm_control.controllers.fields.meaning import cell_text
from dlm_control.diffusion.loading import load_backbone
from dlm_control.diffusion.model import encoder_layer, sinusoids
from dlm_control.diffusion.seq_len import padded
from dlm_control.support.errors import UsageError
from dlm_control.training.data import CanvasBatches, encode, read_split
from dlm_control.training.recipe import Recipe


class GuideConfig(PretrainedConfig):
    """Sizes of a guide.

    Args:
        dim: of the word embeddings it reads.
        vocab_size: words of the language model.
        width, depth, heads: of its transformer.
        max_seq_len: positions at most.
        fingerprint: of the language model it was trained for.
        **kwargs: of transformers' PretrainedConfig.
    """

    def __init__(
        self,
        dim: int = 16,
        vocab_size: int = 3,
        width: int = 128,
        depth: int = 3,
        heads: int = 4,
        max_seq_len: int = 96,
        fingerprint: str = "",
        **kwargs: object,
    ) -> None:
        self.dim, self.vocab_size, self.width, self.depth, self.heads = dim, vocab_size, width, depth, heads
        self.max_seq_len, self.fingerprint = max_seq_len, fingerprint
        super().__init__(**kwargs)  # type: ignore[arg-type]


class Trunk(nn.Module):
    """Noisy embeddings to one vector a position."""

    def __init__(self, config: GuideConfig) -> None:
        super().__init__()
        width = config.width
        self.input = nn.Linear(config.dim, width)
        self.position = nn.Embedding(config.max_seq_len, width)
        self.noise_level = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(encoder_layer(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x_t: Tensor, log_snr: Tensor, more: Tensor | None = None) -> Tensor:
        """(batch, seq_len, width).

        Args:
            x_t: (batch, seq_len, dim), noisy embeddings.
            log_snr: (batch,), of the noise level.
            more: (batch, seq_len, width), added to the input, or None.
        """
        h = self.input(x_t) + self.position.weight[: x_t.shape[1]] + self.noise_level(sinusoids(log_snr))[:, None]
        if more is not None:
            h = h + more
        for layer in self.layers:
            h = layer(h)
        normed: Tensor = self.norm(h)
        return normed


class GuideRecipe(Recipe):
    """What recipes of guides share: the frozen language model, encoded sentences, batches of like length.

    Args:
        lm: the language model whose embeddings the guide reads (a bundled name or a folder).
        text_column: of the sentences.
        model: arguments of the guide's config.
        tokens: positions in a batch.
    """

    columns: ClassVar[tuple[str, ...]] = ()  # of the data, beside the text
    source: ClassVar[str] = ""  # what gives these columns, for the error message

    def __init__(
        self, lm: str = "e2e", text_column: str = "ref", model: dict[str, Any] | None = None, tokens: int = 1800
    ) -> None:
        self.lm_source, self.text_column, self.sizes, self.tokens = lm, text_column, model or {}, tokens

    @classmethod
    def home(cls, settings: dict[str, Any]) -> str | None:
        lm = settings.get("lm")
        local = isinstance(lm, str) and Path(lm).expanduser().is_dir()
        return str(Path(str(lm)).expanduser() / "guides" / cls.kind.removesuffix("-guide")) if local else None

    def setup(self, data: str, seed: int, processes: int) -> None:
        self.lm = load_backbone(self.lm_source)
        lm = self.lm
        sizes = {
            "dim": lm.embeddings.shape[1], "vocab_size": len(lm.embeddings), "max_seq_len": lm.max_seq_len,
            "fingerprint": lm.fingerprint,
        }  # fmt: skip
        torch.manual_seed(seed)
        self.sentences, self.labels = self._read(data, "train", lm.max_seq_len)
        self.held_out, self.held_out_labels = self._read(data, "validation", lm.max_seq_len)
        self.model = self.network({**sizes, **self.sizes})
        lengths = [len(sentence) - 1 for sentence in self.sentences]
        self.batches = CanvasBatches(lengths, lm.max_seq_len, self.tokens, seed, multiple=8 * processes)

    def to(self, device: str | torch.device) -> None:
        super().to(device)
        self.lm.to(device)

    def network(self, sizes: dict[str, Any]) -> nn.Module:
        """The untrained guide."""
        raise NotImplementedError

    def labels_of(self, rows: Sequence[Mapping[str, str]], data: str) -> Sequence[Any]:
        """The labels of the data's rows.

        Args:
            rows: their `columns`; all but the text where it names none.
            data: what to call them in reports.
        """
        raise NotImplementedError

    def _read(self, data: str, split: str, max_seq_len: int) -> tuple[list[list[int]], list[Any]]:
        rows = read_split(data, split, [self.text_column])
        lacking = [column for column in self.columns if column not in rows.column_names]
        if lacking:
            raise UsageError(f"--data {data}: no column {lacking[0]!r}; it has {', '.join(rows.column_names)}; {self.source}")
        texts = [str(text) for text in rows[self.text_column]]
        sentences = encode(
            self.lm.tokenizer, texts, max_seq_len, data, f"{self.lm_source} takes no longer sequence: remove them"
        )
        columns = self.columns or [column for column in rows.column_names if column != self.text_column]
        cells = zip(*(map(cell_text, rows[column]) for column in columns), strict=True)
        return sentences, list(self.labels_of([dict(zip(columns, each, strict=True)) for each in cells], data))

    def batch(self, step: int, rank: int, world: int) -> tuple[Tensor, list[Any], np.random.Generator]:
        """Word ids (batch, seq_len), the labels of the rows, and random numbers of this step."""
        rows, seq_len = self.batches[step]
        share = np.array_split(rows, world)[rank]
        ids = padded([self.sentences[row] for row in share], seq_len, self.lm.tokenizer.pad_token_id, self.device)
        return ids, [self.labels[row] for row in share], np.random.default_rng([step, rank])

    def save(self, model: nn.Module, folder: Path) -> None:
        assert isinstance(model, PreTrainedModel)
        model.save_pretrained(folder)
