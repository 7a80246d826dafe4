"""The baselines of Li et al. 2022, §6.2, as generators: each writes word by word with an autoregressive LM."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor
from transformers import GenerationConfig

from dlm_control.control.controller import Controller
from dlm_control.control.use import Control
from dlm_control.eval.baselines.decode import MOST_WORDS, Judge, Network, Stream, generators, network, sample, written
from dlm_control.eval.baselines.prompts import prompt_of
from dlm_control.eval.run.generator import Generator, Output
from dlm_control.support.errors import UsageError
from dlm_control.support.hub import file_digest
from dlm_control.support.values import AtLeast
from dlm_control.tasks.suite import Suite
from dlm_control.tasks.targets.target import Target

FOLDER = "runs/baselines"
Count = Annotated[int, AtLeast(1)]
CountOrNone = Annotated[int, AtLeast(0)]
Power = Annotated[float, AtLeast(0)]
STRENGTHS = {"semantic": 8.0, "pos": 20.0, "tree": 20.0, "span": 20.0, "length": 2.0}  # FUDGE's λ (Li et al. 2022, App. D)


class Baseline(Generator):
    """A generator that uses the networks of one folder, where `dlm train configs/baselines/*.yaml` left them.

    Attributes:
        beside: pattern of the networks that it may use beside the language model.
    """

    beside: ClassVar[str] = ""

    def __init__(self, suite: Suite, model: str | None = None, **settings: Any) -> None:
        self.folder, self.settings = Path(model or FOLDER), settings
        self.lm, self.home = self.network("ar-lm"), self.folder / "ar-lm"

    def network(self, name: str) -> Network:
        """A network of the folder."""
        return network(self.folder / name)

    def provenance(self) -> dict[str, Any]:
        used = [self.folder / "ar-lm", *(sorted(self.folder.glob(self.beside)) if self.beside else ())]
        weights = {folder.name: file_digest(file) for folder in used for file in sorted(folder.glob("*.safetensors"))}
        return {"model": "ar-lm", "weights": weights, "settings": self.settings}

    def outputs(self, texts: Sequence[Sequence[int]], networks: int) -> list[Output]:
        """Texts, each charged a call a word (END included) and network."""
        return [Output(written(self.lm.tokenizer, ids), (len(ids) + 1) * networks) for ids in texts]


class Unconditional(Baseline):
    """The autoregressive LM without controls."""

    def __init__(self, suite: Suite, model: str | None = None) -> None:
        super().__init__(suite, model)

    def texts(self, target: Target, indices: Sequence[int], seed: int) -> list[Output]:
        stream = Stream(self.lm, [], len(indices))
        return self.outputs(sample([stream], partial(_mean, [stream]), generators(seed, indices)), 1)


class Reject(Baseline):
    """The best of n samples without controls: the highest sum of check scores, the first of equals.

    Args:
        suite: not used.
        model: folder of the networks.
        draws: samples for each text.
    """

    def __init__(self, suite: Suite, model: str | None = None, draws: Count = 50) -> None:
        super().__init__(suite, model, draws=draws)
        self.draws = draws

    def texts(self, target: Target, indices: Sequence[int], seed: int) -> list[Output]:
        stream = Stream(self.lm, [], len(indices) * self.draws)
        drawn = self.outputs(sample([stream], partial(_mean, [stream]), generators(seed, indices, self.draws)), 1)
        found = []
        for i in range(0, len(drawn), self.draws):
            group = drawn[i : i + self.draws]
            best = max(group, key=lambda output: _obedience(target, output.text))  # the first of equals
            found.append(Output(best.text, sum(output.calls for output in group)))
        return found


class Finetuned(Baseline):
    """The LM fine-tuned on a control's tokens before the text: "FT-sample", or with beams "FT-search".

    Args:
        suite: not used.
        model: folder of the networks.
        beams: 0 samples; 4 searches as in 2022, and then all texts of a target are one.
    """

    beside = "finetuned-*"

    def __init__(self, suite: Suite, model: str | None = None, beams: CountOrNone = 0) -> None:
        super().__init__(suite, model, beams=beams)
        self.beams = beams

    def texts(self, target: Target, indices: Sequence[int], seed: int) -> list[Output]:
        [(kind, prompt)] = _prompts(target, most=1)
        tuned = self.network(f"finetuned-{kind}")
        if not self.beams:
            stream = Stream(tuned, prompt, len(indices))
            return self.outputs(sample([stream], partial(_mean, [stream]), generators(seed, indices)), 1)
        return self.outputs([self._searched(tuned, prompt)] * len(indices), self.beams)

    def _searched(self, tuned: Network, prompt: Sequence[str]) -> list[int]:
        ids, places = (torch.tensor([row], device=tuned.device) for row in tuned.prompt(prompt))
        tokenizer = tuned.tokenizer
        never = [tokenizer.pad_token_id, tokenizer.unk_token_id, *range(len(tokenizer), tuned.model.config.vocab_size)]
        settings = GenerationConfig(
            num_beams=self.beams, do_sample=False, max_new_tokens=MOST_WORDS, min_new_tokens=2, suppress_tokens=never,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        whole = tuned.model.generate(ids, settings, position_ids=places, attention_mask=torch.ones_like(ids))
        return tokenizer.until_end(whole[0, ids.shape[1] :].tolist())


class Experts(Baseline):
    """Product of experts: the mean of the log-probabilities of one fine-tuned LM a control ("FT-PoE")."""

    beside = "finetuned-*"

    def __init__(self, suite: Suite, model: str | None = None) -> None:
        super().__init__(suite, model)

    def texts(self, target: Target, indices: Sequence[int], seed: int) -> list[Output]:
        prompts = _prompts(target)
        streams = [Stream(self.network(f"finetuned-{kind}"), prompt, len(indices)) for kind, prompt in prompts]
        return self.outputs(sample(streams, partial(_mean, streams), generators(seed, indices)), len(streams))


class Fudge(Baseline):
    """FUDGE (Yang & Klein 2021): the LM times a future discriminator of each control; of several, their product.

    Args:
        suite: not used.
        model: folder of the networks.
        strength: λ, the power of each discriminator's probability; by default 2022's for its kind of control.
        before: only so many of the LM's likeliest words are considered (2022: 200 of a larger vocabulary).
        top_k: only so many of the best are drawn from.
    """

    beside = "discriminator-*"

    def __init__(
        self, suite: Suite, model: str | None = None, strength: Power | None = None, before: Count = 50, top_k: CountOrNone = 10
    ) -> None:
        super().__init__(suite, model, strength=strength, before=before, top_k=top_k)
        self.strength, self.before, self.top_k = strength, before, top_k

    def texts(self, target: Target, indices: Sequence[int], seed: int) -> list[Output]:
        prompts = _prompts(target)
        lm = Stream(self.lm, [], len(indices))
        judges = [Judge(self.network(f"discriminator-{kind}"), prompt, len(indices)) for kind, prompt in prompts]
        powers = [STRENGTHS[kind] if self.strength is None else self.strength for kind, _ in prompts]

        def combined() -> Tensor:
            likely, candidates = lm.logits.log_softmax(-1).topk(min(self.before, lm.logits.shape[-1]))
            for power, judge in zip(powers, judges, strict=True):
                likely = likely + power * judge.verdicts(candidates)
            return torch.full_like(lm.logits, -torch.inf).scatter(1, candidates, likely)

        texts = sample([lm, *judges], combined, generators(seed, indices), self.top_k)
        return self.outputs(texts, 1 + 2 * len(judges))


def _prompts(target: Target, most: int | None = None) -> list[tuple[str, list[str]]]:
    """Kind and tokens of each control; one of several fields gives a prompt for each."""
    controls: list[Controller] = [c.controller if isinstance(c, Control) else c for c in target.controls]
    found = []
    for control in controls:
        kind, tokens = prompt_of(control)
        found += [(kind, [token]) for token in tokens] if kind == "semantic" else [(kind, tokens)]
    if not found or (most is not None and len(found) > most):
        raise UsageError(
            f"baselines: {len(found)} controls, expected {'one' if most else 'at least one'}; `experts` takes several"
        )
    return found


def _obedience(target: Target, text: str) -> float:
    return sum(control.check(text).score for control in target.controls)


def _mean(streams: Sequence[Stream]) -> Tensor:
    return torch.stack([stream.logits.log_softmax(-1) for stream in streams]).mean(0)
