"""A network of the 2022 release as a backbone: each text stands in the canvas that the network was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from dlm_control.diffusion.backbone import Draws, Latents, read_pretrained
from dlm_control.diffusion.gaussian import GaussianBackbone, GaussianProcess
from dlm_control.diffusion.model import Denoised
from dlm_control.diffusion.paper_model import PaperLM
from dlm_control.support.seeds import seeded

FRAME = "noise of the frame"  # in the memory: (batch, canvas, dim)


class PaperBackbone(GaussianBackbone):
    """A converted checkpoint of the release (`dlm convert`).

    The network was trained on sequences of one length: START, the text, in some corpora a line break, END, PADs. Controls see
    the text alone. What stands around it is known, so at each noise level the network is given the noisy embeddings of these
    signs (inpainting with q(x_t | x0), Lugmayr et al. 2022, eq. 8a); a text's noise there is drawn once.
    """

    model: PaperLM

    @classmethod
    def reads(cls, config: Mapping[str, Any]) -> bool:
        return config.get("model_type") == "diffusion-lm-2022"

    @classmethod
    def load(cls, folder: Path, source: str) -> Self:
        model, tokenizer = read_pretrained(PaperLM, folder, source)
        return cls(model, tokenizer, source)

    @property
    def max_seq_len(self) -> int:
        return self.model.config.canvas - 1 - (self.model.config.newline_token_id is not None)

    def process(self, steps: int, **settings: Any) -> PaperProcess:
        return PaperProcess(self, steps, **settings)

    def denoise(self, x_t: Tensor, t: Tensor, length: Tensor, memory: Mapping[str, Tensor]) -> Denoised:
        noise = memory.get(FRAME)
        if noise is None:  # the likelihood of a text, whose noise is always the same
            noise = torch.randn(self.model.config.canvas, self.model.config.dim, generator=seeded("frame")).to(x_t.device)
            noise = noise.expand(len(x_t), -1, -1)
        frame, text = self._frame(length), slice(1, 1 + x_t.shape[1])
        canvas = self.corrupt(frame, t, noise)
        words = torch.arange(x_t.shape[1], device=x_t.device) < length[:, None]
        around = torch.where(words[..., None], x_t, canvas[:, text])
        whole = torch.cat([canvas[:, :1], around, canvas[:, text.stop :]], dim=1)
        return Denoised(self.model(whole, t).x0[:, text], None)

    def rounding_logits(self, x0: Tensor) -> Tensor:
        return self.model.rounding_logits(x0)

    def _frame(self, length: Tensor) -> Tensor:
        """(batch, canvas), the signs around texts of these lengths (batch,); PAD where words will stand."""
        tokenizer, newline = self.tokenizer, self.model.config.newline_token_id
        after = [tokenizer.eos_token_id] if newline is None else [newline, tokenizer.eos_token_id]
        frame = torch.full((len(length), self.model.config.canvas), tokenizer.pad_token_id, device=length.device)
        frame[:, 0] = tokenizer.bos_token_id
        for i, sign in enumerate(after, start=1):
            frame.scatter_(1, length[:, None] + i, sign)
        return frame


class PaperProcess(GaussianProcess):
    """As its base, with noise for what stands around each text."""

    backbone: PaperBackbone

    def start(self, allowed: Tensor, length: Tensor, draws: Draws) -> Latents:
        return self._framed(super().start(allowed, length, draws), draws)

    def diffuse(self, ids: Tensor, allowed: Tensor, length: Tensor, t: float, draws: Draws) -> Latents:
        return self._framed(super().diffuse(ids, allowed, length, t, draws), draws)

    def _framed(self, latents: Latents, draws: Draws) -> Latents:
        config = self.backbone.model.config
        return latents.remember(**{FRAME: draws.normal(config.canvas, config.dim)})
