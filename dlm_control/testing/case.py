"""What the rules look at: a controller with texts that obey and texts that do not, and states as sampling meets them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch
from torch import Tensor

from dlm_control.control.controller import Controller, State
from dlm_control.control.plan import Plan
from dlm_control.control.use import BoundControl, Control
from dlm_control.diffusion.backbone import Draws
from dlm_control.diffusion.seq_len import seq_len_of
from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.guidance import finished_state, state_of
from dlm_control.sampling.layout import Layouts

ITEMS = 3  # in a batch
LEVELS = (0.001, 0.5, 1.0)  # both ends of the noise range, and its middle


@dataclass(frozen=True)
class Case:
    """What the rules look at.

    Attributes:
        controller: the one that is tested.
        satisfying, violating: texts that its check must pass, and texts that it must fail.
        faulty: calls that make it with a mistake, each of which must raise a UsageError.
        lm: a model that it steers.
    """

    controller: Controller
    satisfying: tuple[str, ...]
    violating: tuple[str, ...]
    faulty: tuple[Callable[[], object], ...]
    lm: LanguageModel

    @property
    def control(self) -> Control:
        """The controller in use; it checks shapes and numbers."""
        return Control("tested", self.controller)

    @property
    def steers(self) -> bool:
        """Has it an energy?"""
        return self.controller.reads is not None

    @cached_property
    def bound(self) -> BoundControl:
        """The controller resolved for the model."""
        return self.control.bind(self.lm.backbone)

    def layouts(self, *plans: tuple[str, Plan]) -> Layouts:
        """What plans leave open."""
        return Layouts(plans, self.lm.backbone.tokenizer, self.lm.backbone.length_counts, self.lm.backbone.max_seq_len)

    @cached_property
    def states(self) -> list[State]:
        """States as sampling meets them, one a noise level: noised texts, what the denoiser says of them."""
        lm, draws = self.lm.backbone, _OneStream(self.lm.backbone.device)
        layouts = self.layouts(("tested", self.controller.plan(lm)))
        texts = {len(ids): ids for ids in self._texts()}
        many = (layouts.draw(draws.generator) for _ in range(200))
        fitting = (layout for layout in many if not texts or layout.words in texts)
        first = next(fitting, None) or layouts.draw(draws.generator)
        drawn = [first, *islice((layout for layout in fitting if layout.seq_len == first.seq_len), ITEMS - 1)]
        drawn += [drawn[0]] * (ITEMS - len(drawn))
        words = torch.randint(3, len(lm.tokenizer), (ITEMS, first.seq_len), generator=draws.generator).to(lm.device)
        for row, layout in enumerate(drawn):
            if layout.words in texts:
                words[row, : layout.words] = torch.tensor(texts[layout.words], device=lm.device)
        allowed = torch.stack([layout.allowed for layout in drawn]).to(lm.device)
        length = torch.tensor([layout.words for layout in drawn], device=lm.device)
        states, process = [], lm.process(1)
        for t in LEVELS:
            with torch.no_grad():
                latents = process.diffuse(words, allowed, length, t, draws)
                states.append(state_of(lm, process.predict(latents, t), latents, t))
        return states

    def _texts(self) -> list[Sequence[int]]:
        """Words that may stand in a state: those of obeying texts, where words stand for good, and none that a control forbids
        is ever settled; empty where any word may be under way.
        """
        lm = self.lm.backbone
        return [lm.ids(text, "obeying text") for text in self.satisfying] if lm.kind == "masked" else []

    def gradient(self, state: State) -> tuple[Tensor, Tensor]:
        """Energy and gradient in the space it reads."""
        assert self.controller.reads is not None
        space = self.controller.reads
        energy, gradient = self.bound.gradient(state, space)
        return energy, gradient.added_to(torch.zeros_like(getattr(state, space)))

    def text_state(self, text: str) -> State:
        """The state of a finished text."""
        lm, tokenizer = self.lm.backbone, self.lm.backbone.tokenizer
        ids = list(lm.ids(text, "text"))
        seq_len = seq_len_of(len(ids), lm.max_seq_len)
        row = [*ids, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * seq_len][:seq_len]
        return finished_state(lm, torch.tensor([row], device=lm.device), torch.tensor([len(ids)], device=lm.device))


class _OneStream(Draws):
    """Random numbers of all rows from one stream, drawn on the CPU: the same on every device."""

    def __init__(self, device: torch.device) -> None:
        self.generator, self.device = torch.Generator().manual_seed(0), device

    def normal(self, *shape: int) -> Tensor:
        return torch.randn((ITEMS, *shape), generator=self.generator).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand((ITEMS, *shape), generator=self.generator).to(self.device)
