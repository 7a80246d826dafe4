"""Samplers from outside as generators: the same masked model and controls as ours, so that runs can be compared."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any

import torch
from torch import Tensor

from dlm_control.control.use import with_unique_names
from dlm_control.controllers.length import Length
from dlm_control.diffusion.seq_len import seq_len_of
from dlm_control.eval.run.generator import Generator, Output
from dlm_control.outside.steering import Steering
from dlm_control.outside.whole_words import WholeWords
from dlm_control.outside.wrap import SteeredModel
from dlm_control.pipeline import LanguageModel, load
from dlm_control.sampling.layout import Layouts
from dlm_control.support.errors import UsageError
from dlm_control.support.seeds import seeded
from dlm_control.support.values import Above
from dlm_control.tasks.suite import Suite
from dlm_control.tasks.targets.target import Target

Temperature = Annotated[float, Above(0)]


class OutsideSampler(Generator):
    """A masked model written with by a sampler from outside, one text at a time and one token a step.

    The length of text i is drawn as our sampler draws it, and given to both.

    Args:
        suite: not used.
        model: bundled name, folder or hub id of a masked model, or a loaded one.
        temperature: of the sampler.
        unconditional: leave out all controls but the length that is drawn, for comparison.
    """

    def __init__(
        self,
        suite: Suite,
        model: str | LanguageModel | None = None,
        temperature: Temperature = 0.9,
        unconditional: bool = False,
    ) -> None:
        if model is None:
            raise UsageError("generator: a sampler from outside needs a masked model; name it with --model")
        lm = model if isinstance(model, LanguageModel) else load(model)
        self.lm, self.home, self.temperature, self.unconditional = lm.backbone, lm.backbone.home, temperature, unconditional
        if self.lm.kind != "masked":
            raise UsageError(f"generator: {self.lm.source!r} is a {self.lm.kind} model, and these samplers fill masks")
        self.mask: int = self.lm.tokenizer.mask_token_id
        self.words = WholeWords(self.lm.tokenizer, pad_token_id=self.lm.tokenizer.pad_token_id)

    @abstractmethod
    def written(self, steering: Steering, generator: torch.Generator) -> Tensor:
        """(gen_length,), the tokens of one text."""

    def texts(self, target: Target, indices: Sequence[int], seed: int) -> list[Output]:
        controls = with_unique_names(() if self.unconditional else target.controls)
        plans = [(control.name, control.bind(self.lm).plan) for control in with_unique_names(target.controls)]
        layouts = Layouts(plans, self.lm.tokenizer, self.lm.length_counts, self.lm.max_seq_len)
        outputs = []
        for index in indices:
            words = layouts.draw(seeded(seed, index, 0, "layout")).words
            steering = Steering(
                self.lm.model, self.words, [*controls, Length(words)], seq_len_of(words, self.lm.max_seq_len), seed=seed + index
            )
            with self._counted() as calls:
                tokens = self.written(steering, seeded(seed, index, "noise"))
            ids = self.lm.tokenizer.until_end(tokens.tolist())
            outputs.append(Output(self.lm.tokenizer.join(self.lm.tokenizer.convert_ids_to_tokens(ids)), len(calls)))
        return outputs

    @contextmanager
    def _counted(self) -> Iterator[list[None]]:
        """A list that grows with every network call."""
        calls: list[None] = []
        handle = self.lm.model.register_forward_hook(lambda *_: calls.append(None))
        yield calls
        handle.remove()

    def provenance(self) -> dict[str, Any]:
        settings = {"temperature": self.temperature}
        return {
            "model": self.lm.source, "model_fingerprint": self.lm.fingerprint, "weights": self.lm.weights_digest,
            "controls": "none" if self.unconditional else "all", "settings": settings,
        }  # fmt: skip


class LLaDA2(OutsideSampler):
    """diffusers' `LLaDA2Pipeline` as it is, in one block, over a wrapped network; what stands is not edited."""

    def written(self, steering: Steering, generator: torch.Generator) -> Tensor:
        if find_spec("diffusers") is None:
            raise UsageError("generator llada2: diffusers is not installed; pip install 'dlm-control[outside]' brings it")
        diffusers: Any = import_module("diffusers")
        steered, scheduler = SteeredModel(self.lm.model, steering), diffusers.BlockRefinementScheduler()
        pipeline = diffusers.LLaDA2Pipeline(steered, scheduler, self.lm.tokenizer)
        pipeline.set_progress_bar_config(disable=True)
        done = pipeline(
            input_ids=torch.zeros(1, 0, dtype=torch.long), gen_length=steering.gen_length, block_length=steering.gen_length,
            num_inference_steps=steering.gen_length, temperature=self.temperature, threshold=_ONE_A_STEP,
            editing_threshold=None, eos_early_stop=False, mask_token_id=self.mask, generator=generator,
            output_type="seq",
        )  # fmt: skip
        tokens: Tensor = done.sequences[0]
        return tokens


_ONE_A_STEP = 1.1  # a confidence that no token exceeds, so that each step takes the most confident one


class LogitsHook(OutsideSampler):
    """The loop of Dream and DiffuCoder, where controls are a hook on the logits.

    At each step the most confident of the tokens drawn is taken (their `maskgit_plus`).
    """

    @torch.no_grad()
    def written(self, steering: Steering, generator: torch.Generator) -> Tensor:
        tokens = torch.full((1, steering.gen_length), self.mask, device=self.lm.device)
        for step in range(steering.gen_length):
            logits = steering.hook(step, tokens, self.lm.model(input_ids=tokens).logits) / self.temperature
            probs = logits[0].float().softmax(-1)
            drawn = torch.multinomial(probs.cpu(), 1, generator=generator).to(tokens.device)
            confidence = probs.gather(-1, drawn)[:, 0].masked_fill(tokens[0] != self.mask, -1.0)
            place = int(confidence.argmax())
            tokens[0, place] = drawn[place, 0]
        return tokens[0]
