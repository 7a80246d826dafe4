"""What can be trained: a recipe says what to build, what a batch is, and what to minimise; the trainer does the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from dlm_control.support.registry import Registry, subclass_of
from dlm_control.support.validation import construct
from dlm_control.training.objectives import Draws


class Loss(NamedTuple):
    """A scalar to minimise and named scalars for the log."""

    total: Tensor
    parts: dict[str, Tensor]


class Recipe(ABC):
    """One trainable thing: the Diffusion-LM, a guide, a teacher. Its constructor takes the config's `recipe` section.

    Attributes:
        model: what is trained; set by `setup`.
    """

    model: nn.Module
    kind: ClassVar[str]
    usual: ClassVar[dict[str, Any]] = {}  # keys of a training config for those who have no config file

    @classmethod
    def home(cls, settings: dict[str, Any]) -> str | None:
        """The folder that the model is written to when the config names none; None: there is no such folder.

        Args:
            settings: the config's `recipe` section.
        """
        return None

    @abstractmethod
    def setup(self, data: str, seed: int, processes: int) -> None:
        """Read the data and build the model.

        Args:
            data: where the corpus is, as for `read_split`.
            seed: of initialisation and shuffles.
            processes: batches must divide by it.
        """

    @abstractmethod
    def batch(self, step: int, rank: int, world: int) -> Any:
        """This process's share of the batch of a step, on the model's device; a function of its arguments alone."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any, draws: Draws) -> Loss:
        """The loss of a batch; `model` is `self.model`, perhaps wrapped for several processes."""

    @abstractmethod
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Figures on held-out data."""

    @abstractmethod
    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the finished (averaged) model and all that is needed to load it."""

    def to(self, device: str | torch.device) -> None:
        """Move the model to a device, and what it learns from. Called once, after `setup`."""
        self.model.to(device)

    @property
    def device(self) -> torch.device:
        """The device of the model and its batches."""
        return next(self.model.parameters()).device

    def after_backward(self, step: int) -> None:
        """Change gradients before they are clipped; nothing by default."""


RECIPES: Registry[type[Recipe]] = Registry("recipe", "dlm_control.recipes", "a subclass of Recipe", subclass_of(Recipe))


def recipe(kind: str, settings: dict[str, Any]) -> Recipe:
    """The recipe of that kind with these settings.

    Raises:
        UsageError: an unknown kind or setting.
    """
    return construct(recipe_class(kind), "recipe", **settings)


def recipe_class(kind: str) -> type[Recipe]:
    """The class of the recipes of that kind.

    Raises:
        UsageError: an unknown kind.
    """
    return RECIPES.find(kind, "kind: unknown recipe")
