"""Where samplers from outside take controls: a wrapped network, and a logits processor of transformers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor

from dlm_control.control.controller import Controller
from dlm_control.control.use import Control
from dlm_control.outside.backbone import logits_of
from dlm_control.outside.steering import OPEN, Steering
from dlm_control.support.errors import UsageError
from dlm_control.support.values import Above


class SteeredModel(nn.Module):
    """A masked network whose logits are under control; samplers call it as they call the network.

    It has nothing of the network but forward, config, device and dtype: a method such as `generate` would call the network
    itself, and not be steered.

    Attributes:
        network: as it was given.
        steering: the controls at work.
    """

    def __init__(self, network: nn.Module, steering: Steering) -> None:
        super().__init__()
        self.network, self.steering = network, steering

    @property
    def config(self) -> Any:
        """Of the network."""
        return getattr(self.network, "config", None)

    @property
    def device(self) -> torch.device:
        """Of the network's weights."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the network's weights."""
        return next(self.network.parameters()).dtype

    def forward(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the network returns, its logits under control.

        Args:
            input_ids: (batch, seq_len), the prompt, then the text or its beginning, with masks.
            *args, **kwargs: for the network.

        Raises:
            UsageError: its logits are not of these positions.
        """
        output = self.network(input_ids, *args, **kwargs)
        logits = logits_of(output)
        if logits.shape[:2] != input_ids.shape:
            expected, got = tuple(input_ids.shape), tuple(logits.shape[:2])
            raise UsageError(f"steer: the network gives logits for {got} positions, expected one for each of {expected} tokens")
        if self.steering.shifted:
            ahead = self.steering.on_sequence(input_ids, torch.cat([logits[:, :1], logits[:, :-1]], 1))
            steered = torch.cat([ahead[:, 1:], logits[:, -1:]], 1)
        else:
            steered = self.steering.on_sequence(input_ids, logits)
        if isinstance(output, Tensor):
            return steered
        changed = copy.copy(output)
        changed.logits = steered
        return changed


def steer(network: nn.Module, tokenizer: Any, controls: Sequence[Controller | Control], **settings: Any) -> SteeredModel:
    """A network that samplers from outside write with under control, such as diffusers' `LLaDA2Pipeline`.

    Args:
        network: called with input_ids, it returns logits of all positions, or an output that has them.
        tokenizer, controls, **settings: as `Steering`.

    Raises:
        UsageError: as `Steering`.
    """
    return SteeredModel(network, Steering(network, tokenizer, controls, **settings))


class ControlLogitsProcessor(LogitsProcessor):
    """Controls for `DiffusionGemmaForBlockDiffusion.generate` of transformers, whose canvas starts as uniform noise.

    No position of the canvas is settled before its last step, so energies read the network's distributions at all of them.
    Earlier canvases are certain.

    Args:
        steering: the controls at work; its `prompt_length` is that of `input_ids`, its `gen_length` is `max_new_tokens`.
        steps: `max_denoising_steps`.
    """

    def __init__(self, steering: Steering, steps: Annotated[int, Above(0)]) -> None:
        self.steering, self.steps = steering, steps

    def __call__(self, input_ids: Tensor, scores: Tensor, cur_step: Tensor | int) -> Tensor:
        """
        Args:
            input_ids: (batch, seq_len), the prompt and the canvases before this one.
            scores: (batch, canvas, size), logits.
            cur_step: steps that are left, this one among them.
        """
        earlier = input_ids[:, self.steering.prompt_length :]
        left = self.steering.gen_length - earlier.shape[1]
        if left <= 0:
            return scores
        canvas = scores[:, :left]
        tokens = torch.cat([earlier, earlier.new_full(canvas.shape[:2], OPEN)], 1)
        steered = self.steering.on_text(tokens, canvas, float(cur_step) / self.steps)
        return torch.cat([steered, scores[:, left:]], 1)
