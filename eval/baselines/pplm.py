"""PPLM (Dathathri et al. 2020), batched: the cache of the LM is pushed towards an attribute before each word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import DynamicCache

from dlm_control.diffusion.seq_len import padded
from dlm_control.eval.baselines.decode import MOST_WORDS, Texts, generators, network
from dlm_control.eval.baselines.generators import Baseline, CountOrNone, Power, _prompts
from dlm_control.eval.baselines.prompts import MEANINGS, said
from dlm_control.eval.run.generator import Output
from dlm_control.support.errors import UsageError
from dlm_control.support.values import Between
from dlm_control.tasks.suite import Suite
from dlm_control.tasks.targets.target import Target
from dlm_control.training.data import CanvasBatches, encode, read_split
from dlm_control.training.objectives import Draws
from dlm_control.training.recipe import Loss, Recipe


class AttributeRecipe(Recipe):
    """PPLM's attribute model: which fields have which values, read linearly off the LM's mean hidden state.

    Args:
        base: folder of the language model, which is not changed.
        tokens: positions in a batch.
        text_column: the column that holds the sentences.
    """

    kind = "attribute-head"

    def __init__(self, base: str, tokens: int = 1800, text_column: str = "ref") -> None:
        self.base, self.tokens, self.text_column = base, tokens, text_column

    def setup(self, data: str, seed: int, processes: int) -> None:
        self.lm = network(Path(self.base))
        torch.manual_seed(seed)
        self.model = nn.Linear(self.lm.model.config.n_embd, len(MEANINGS))
        self.sentences, self.meanings = self._read(data, "train")
        self.held_out = self._read(data, "validation")
        lengths = [len(sentence) - 1 for sentence in self.sentences]
        self.batches = CanvasBatches(lengths, MOST_WORDS, self.tokens, seed, multiple=8 * processes)

    def to(self, device: str | torch.device) -> None:
        super().to(device)
        self.lm.model.to(device)

    def _read(self, data: str, split: str) -> tuple[list[list[int]], list[list[int]]]:
        found = read_split(data, split, [self.text_column, "mr"])
        texts = [str(text) for text in found[self.text_column]]
        sentences = encode(self.lm.tokenizer, texts, MOST_WORDS, data, "remove them")
        return sentences, [[MEANINGS.index(token) for token in said(str(meaning))] for meaning in found["mr"]]

    def batch(self, step: int, rank: int, world: int) -> Any:
        rows, _ = self.batches[step]
        share = np.array_split(rows, world)[rank]
        return self._batch([self.sentences[i] for i in share], [self.meanings[i] for i in share])

    def _batch(self, sentences: list[list[int]], meanings: list[list[int]]) -> tuple[Tensor, Tensor]:
        """(batch, width) mean hidden states; (batch, MEANINGS) 1 where said."""
        end = self.lm.tokenizer.eos_token_id
        wholes = [[end, *sentence[:-1]] for sentence in sentences]
        ids = padded(wholes, max(map(len, wholes)), self.lm.tokenizer.pad_token_id, self.device)
        counted = (ids != self.lm.tokenizer.pad_token_id)[..., None]
        with torch.no_grad():
            hidden = self.lm.model.transformer(ids).last_hidden_state
        expected = torch.zeros(len(sentences), len(MEANINGS))
        for row, places in enumerate(meanings):
            expected[row, places] = 1
        return (hidden * counted).sum(1) / counted.sum(1), expected.to(self.device)

    def loss(self, model: nn.Module, batch: Any, draws: Draws) -> Loss:
        return Loss(F.binary_cross_entropy_with_logits(model(batch[0]), batch[1]), {})

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Share of right verdicts among the values that the texts give."""
        sentences, meanings = self.held_out
        means, expected = self._batch(sentences[:512], meanings[:512])
        return {"recall": float((model(means) > 0)[expected > 0].float().mean())}

    def save(self, model: nn.Module, folder: Path) -> None:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "head.safetensors")


class PPLM(Baseline):
    """Plug-and-play LM: gradient steps on the cached keys and values before each word, for semantic controls.

    Args:
        suite: not used.
        model: folder of the networks.
        updates: gradient steps a word.
        step: length of a step, as a share of the gradient's norm.
        kl: weight of staying near the LM.
        blend: power of the pushed LM in the product with the LM that words are drawn from.
        top_k: only so many of the likeliest words are drawn from.
    """

    beside = "attribute-head"

    def __init__(
        self, suite: Suite, model: str | None = None, updates: CountOrNone = 30, step: Power = 0.1,
        kl: Power = 0.01, blend: Annotated[float, Between(0, 1)] = 0.9, top_k: CountOrNone = 10,
    ) -> None:  # fmt: skip
        super().__init__(suite, model, updates=updates, step=step, kl=kl, blend=blend, top_k=top_k)
        self.updates, self.step, self.kl, self.blend, self.top_k = updates, step, kl, blend, top_k
        file = self.folder / "attribute-head" / "head.safetensors"
        if not file.is_file():
            raise UsageError(f"{file}: no such file; `dlm train configs/baselines/attribute-head.yaml --data DATA` trains it")
        weights = load_file(file)
        self.head = nn.Linear(weights["weight"].shape[1], weights["weight"].shape[0]).requires_grad_(False)
        self.head.load_state_dict(weights)
        self.head.to(self.lm.device)

    def texts(self, target: Target, indices: Sequence[int], seed: int) -> list[Output]:
        prompts = _prompts(target)
        if any(kind != "semantic" for kind, _ in prompts):
            raise UsageError(f"pplm: {prompts[0][0]} controls are not attributes; it knows semantic ones")
        expected = [MEANINGS.index(token) for _, [token] in prompts]
        model, rows, calls = self.lm.model, len(indices), 0
        texts = Texts(self.lm.tokenizer, generators(seed, indices), self.top_k)
        last = torch.full((rows, 1), self.lm.tokenizer.eos_token_id, device=self.lm.device)
        past: list[tuple[Tensor, Tensor]] = []
        hidden_sum = torch.zeros(rows, model.config.n_embd, device=self.lm.device)
        for place in range(MOST_WORDS):
            pushed = self._pushed(last, past, hidden_sum, place, expected) if past else past
            with torch.no_grad():
                plain = model(last, past_key_values=_cache(past), use_cache=True, output_hidden_states=True)
                moved = model(last, past_key_values=_cache(pushed), use_cache=True)
            calls += 2 + (2 * self.updates if past else 0)
            past = [(layer.keys, layer.values) for layer in plain.past_key_values.layers]
            hidden_sum = hidden_sum + plain.hidden_states[-1][:, -1]
            shares = ((self.blend, moved), (1 - self.blend, plain))
            last = texts.drawn(sum(share * out.logits[:, -1].log_softmax(-1) for share, out in shares))[:, None]
            if not any(texts.alive):
                break
        return [Output(output.text, calls) for output in self.outputs(texts.words, 1)]

    def _pushed(
        self, last: Tensor, past: list[tuple[Tensor, Tensor]], hidden_sum: Tensor, seen: int, expected: list[int]
    ) -> list[tuple[Tensor, Tensor]]:
        """The cache after gradient steps towards the attributes (eq. 3), each of unit length a layer and row."""
        model = self.lm.model
        with torch.no_grad():
            before = model(last, past_key_values=_cache(past)).logits[:, -1].softmax(-1)
        deltas = [torch.zeros_like(tensor) for pair in past for tensor in pair]
        for _ in range(self.updates):
            leaves = [delta.detach().requires_grad_() for delta in deltas]
            with torch.enable_grad():
                moved = [(k + leaves[2 * i], v + leaves[2 * i + 1]) for i, (k, v) in enumerate(past)]
                out = model(last, past_key_values=_cache(moved), use_cache=True, output_hidden_states=True)
                now = out.logits[:, -1].softmax(-1)
                expected_embedding = now @ model.transformer.wte.weight[: now.shape[1]]
                ahead = model(
                    inputs_embeds=expected_embedding[:, None], past_key_values=out.past_key_values, output_hidden_states=True
                )
                state = hidden_sum + out.hidden_states[-1][:, -1] + ahead.hidden_states[-1][:, -1]
                logits = self.head(state / (seen + 2))[:, expected]
                loss = F.softplus(-logits).sum() + self.kl * (now * (now.clamp(min=1e-9) / before.clamp(min=1e-9)).log()).sum()
                gradients = torch.autograd.grad(loss, leaves)
            norms = [g.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1) for g in gradients]
            deltas = [d - self.step * g / n for d, g, n in zip(deltas, gradients, norms, strict=True)]
        return [(k + deltas[2 * i], v + deltas[2 * i + 1]) for i, (k, v) in enumerate(past)]


def _cache(past: list[tuple[Tensor, Tensor]]) -> Any:
    made = DynamicCache()
    for layer, (keys, values) in enumerate(past):
        made.update(keys, values, layer)
    return made
