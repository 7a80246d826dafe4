"""A model whose words are independent, so that its denoiser is exact; controls that are any function of a state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlm_control import Check, Control, Controller, LanguageModel, Plan, State
from dlm_control.diffusion.backbone import Backbone, Draws, Latents
from dlm_control.diffusion.gaussian import GaussianBackbone, GaussianProcess
from dlm_control.diffusion.model import DiffusionLM, DiffusionLMConfig
from dlm_control.sampling.layout import Layouts
from dlm_control.text.tokenizer import WordTokenizer

WORDS = ("ale", "bread", "cheese", "dill")
PRIOR = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
A, B, C, D = range(4)
FIRST = 3  # id of the first word, behind UNK, PAD and END


class Energy(Controller):
    """Any function of the state."""

    def __init__(self, function: Callable[[State], Any], reads: str | None = "log_probs", plan: Plan | None = None) -> None:
        self._function, self._plan = function, plan or Plan()
        self.reads = reads  # type: ignore[assignment]

    def energy(self, state: State) -> Any:
        return self._function(state)

    def check(self, text: str) -> Check:
        return Check(1.0, "")

    def plan(self, lm: Backbone) -> Plan:
        return self._plan


def control(function: Callable[[State], Any], reads: str = "log_probs", weight: float = 1.0, name: str = "toy") -> Control:
    return Control(name, Energy(function, reads), weight)


class Given(Draws):
    """The same normal numbers every time."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers

    def normal(self, *shape: int) -> Tensor:
        assert self.numbers.shape[1:] == shape
        return self.numbers

    def uniform(self, *shape: int) -> Tensor:
        raise AssertionError("asked for uniform numbers")


# --- by sampling: a model whose words are independent, so its denoiser is exact ---------------------------------------------


def exact_language_model() -> LanguageModel:
    """Every position holds one of WORDS with probability PRIOR: constant logits and local likelihood are then Bayes' rule."""
    tokenizer = WordTokenizer.train([" ".join(WORDS)], min_count=1)
    torch.manual_seed(3)
    config = DiffusionLMConfig(
        vocab_size=len(tokenizer), dim=8, width=8, depth=0, heads=1, max_seq_len=8, length_counts=[0] * 8
    )
    model = DiffusionLM(config)
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.fill_(-30)
        model.output.bias[FIRST:] = PRIOR.log()
    return LanguageModel(GaussianBackbone(model, tokenizer))


def latents(lm: LanguageModel, z: Tensor, words: int = 3) -> Latents:
    """Noisy texts of three words each."""
    plans = [("length", Plan(min_words=words, max_words=words))]
    layout = Layouts(plans, lm.backbone.tokenizer, lm.backbone.length_counts, 8).draw(torch.Generator().manual_seed(0))
    return Latents(z, layout.allowed.expand(len(z), *layout.allowed.shape), torch.full((len(z),), layout.words))


def process_of(lm: LanguageModel, steps: int = 1, **settings: Any) -> GaussianProcess:
    process = lm.backbone.process(steps, **settings)
    assert isinstance(process, GaussianProcess)
    return process
