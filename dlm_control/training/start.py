"""A finished model whose training goes on."""

from __future__ import annotations

from typing import Any, TypeVar

from transformers import PreTrainedModel

from dlm_control.diffusion.loading import load_backbone
from dlm_control.support.errors import UsageError
from dlm_control.text.tokenizer import WordTokenizer

Network = TypeVar("Network", bound=PreTrainedModel)


def check_start(start_from: str | None, model: dict[str, Any] | None) -> None:
    """Refuse sizes beside a model that has its own.

    Raises:
        UsageError: both are given.
    """
    if start_from is not None and model:
        raise UsageError("recipe.start_from: a model that training starts with has its sizes; remove recipe.model")


def started_from(source: str, cls: type[Network]) -> tuple[Network, WordTokenizer]:
    """The network of a model, to be trained further, and its words.

    Args:
        source: a bundled name, a folder or a hub id.
        cls: what the recipe trains.

    Raises:
        UsageError: as `load_backbone`, or the model is of another class.
    """
    backbone = load_backbone(source)
    network: Any = backbone.model
    if not isinstance(network, cls):
        raise UsageError(f"recipe.start_from: {source!r} holds a {type(network).__name__}, expected a {cls.__name__}")
    if not isinstance(backbone.tokenizer, WordTokenizer):
        raise UsageError(f"recipe.start_from: {source!r} has a tokenizer of another kind than one token a word")
    return network.float().train().requires_grad_(), backbone.tokenizer
