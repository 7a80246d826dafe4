"""Training what the baselines need: language models that read a control, and discriminators of unfinished texts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Config, GPT2ForTokenClassification, GPT2LMHeadModel, PreTrainedModel

from dlm_control.diffusion.seq_len import padded
from dlm_control.eval.baselines.prompts import KINDS, TOKENS, drawn, place_ids, wrong
from dlm_control.support.errors import UsageError
from dlm_control.support.hub import model_folder
from dlm_control.support.progress import hush
from dlm_control.text.tokenizer import WordTokenizer
from dlm_control.training.data import CanvasBatches, encode, read_split
from dlm_control.training.objectives import Draws
from dlm_control.training.recipe import Loss, Recipe

_HELD_OUT = 512  # sentences that `evaluate` looks at


class _PromptedRecipe(Recipe):
    """Sequences of a control's tokens, END, a text and END, from a corpus that `dlm annotate` has labelled.

    Attributes:
        judged: whether the network reads whether texts obey, and does not write them.
    """

    judged: ClassVar[bool] = False

    def __init__(self, control: str, base: str, tokens: int = 1800, text_column: str = "ref") -> None:
        if control not in KINDS:
            raise UsageError(f"recipe.control: expected one of {', '.join(KINDS)}, got {control!r}")
        self.control, self.base, self.tokens, self.text_column = control, base, tokens, text_column

    def setup(self, data: str, seed: int, processes: int) -> None:
        folder = model_folder(self.base)
        hush()
        self.tokenizer = WordTokenizer.from_pretrained(folder)
        self.first = len(self.tokenizer)  # id of TOKENS[0]
        self.ids = {token: self.first + i for i, token in enumerate(TOKENS)}
        torch.manual_seed(seed)
        self.model = self.built(folder)
        self.longest = int(GPT2Config.from_pretrained(folder).n_positions)
        self.rows, self.sentences = self._read(data, "train")
        self.held_rows, self.held_sentences = self._read(data, "validation")
        self.held_rows, self.held_sentences = self.held_rows[:_HELD_OUT], self.held_sentences[:_HELD_OUT]
        lengths = [len(self._prompt(row, sentence, seed)) + len(sentence) for row, sentence in self._pairs()]
        self.seed = seed
        self.batches = CanvasBatches(lengths, self.longest, self.tokens, seed, multiple=8 * processes)

    def built(self, folder: Path) -> Any:
        """The network before training."""
        raise NotImplementedError

    def batch(self, step: int, rank: int, world: int) -> Any:
        rows, seq_len = self.batches[step]
        rng = random.Random(f"{self.seed}/{step}/{rank}")
        share = np.array_split(rows, world)[rank]
        return self._batch([self.rows[i] for i in share], [self.sentences[i] for i in share], seq_len, rng)

    def save(self, model: nn.Module, folder: Path) -> None:
        assert isinstance(model, PreTrainedModel)
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _read(self, data: str, split: str) -> tuple[list[dict[str, str]], list[list[int]]]:
        """Rows that have a control and fit, and their texts with END."""
        columns = [self.text_column, *KINDS[self.control]]
        found = read_split(data, split, columns)
        texts = [str(text) for text in found[self.text_column]]
        sentences = encode(self.tokenizer, texts, self.longest, data, "remove them")
        rows = [dict(zip(columns, map(str, values), strict=True)) for values in zip(*(found[c] for c in columns), strict=True)]
        kept = []
        for row, sentence in zip(rows, sentences, strict=True):
            prompt = drawn(self.control, row, len(sentence) - 1, random.Random(0))
            if prompt and len(prompt) + len(sentence) + 12 <= self.longest:
                kept.append((row, sentence))
        return [row for row, _ in kept], [sentence for _, sentence in kept]

    def _pairs(self) -> Any:
        return zip(self.rows, self.sentences, strict=True)

    def _prompt(self, row: dict[str, str], sentence: list[int], seed: int) -> list[str]:
        return drawn(self.control, row, len(sentence) - 1, random.Random(seed))

    def _batch(self, rows: list[dict[str, str]], sentences: list[list[int]], seq_len: int, rng: random.Random) -> Any:
        raise NotImplementedError

    def _sequences(self, prompts: list[list[str]], sentences: list[list[int]], seq_len: int) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, seq_len) each: ids of prompt, END, text and END; their position ids; bool, the text and its END."""
        end = self.tokenizer.eos_token_id
        wholes = [[*(self.ids[t] for t in p), end, *s] for p, s in zip(prompts, sentences, strict=True)]
        seq_len = max(seq_len, *map(len, wholes))
        ids = padded(wholes, seq_len, self.tokenizer.pad_token_id, self.device)
        placed = [place_ids(p, len(s), self.judged) for p, s in zip(prompts, sentences, strict=True)]
        places = padded(placed, seq_len, 0, self.device)
        words_there = torch.zeros_like(ids, dtype=torch.bool)
        for row, (prompt, sentence) in enumerate(zip(prompts, sentences, strict=True)):
            words_there[row, len(prompt) + 1 : len(prompt) + 1 + len(sentence)] = True
        return ids, places, words_there


class FinetunedRecipe(_PromptedRecipe):
    """Fine-tune the autoregressive LM to write texts after a control's tokens (Li et al. 2022, §6.2, "FT").

    Args:
        control: semantic, pos, tree, span or length.
        base: folder of the language model.
        tokens: positions in a batch.
        text_column: the column that holds the sentences.
    """

    kind = "finetuned"

    def built(self, folder: Path) -> GPT2LMHeadModel:
        model: GPT2LMHeadModel = GPT2LMHeadModel.from_pretrained(folder)
        model.resize_token_embeddings(self.first + len(TOKENS), mean_resizing=False)
        return model

    def _batch(self, rows: list[dict[str, str]], sentences: list[list[int]], seq_len: int, rng: random.Random) -> Any:
        prompts = [drawn(self.control, row, len(s) - 1, rng) for row, s in zip(rows, sentences, strict=True)]
        return self._sequences(prompts, sentences, seq_len)

    def loss(self, model: nn.Module, batch: Any, draws: Draws) -> Loss:
        ids, places, words_there = batch
        following = ids.masked_fill(~words_there, -100)[:, 1:]
        logits = model(ids[:, :-1], position_ids=places[:, :-1]).logits[:, :, : self.first]
        return Loss(F.cross_entropy(logits.flatten(0, 1), following.flatten(), ignore_index=-100), {})

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Nats per word of held-out texts after their own controls."""
        total, words = 0.0, 0
        for i in range(0, len(self.held_rows), 32):
            batch = self._batch(self.held_rows[i : i + 32], self.held_sentences[i : i + 32], 0, random.Random(i))
            counted = int(batch[2].sum())
            total, words = total + float(self.loss(model, batch, Draws(0, 0, 0, 1)).total) * counted, words + counted
        return {"nats_per_word": total / words}


class DiscriminatorRecipe(_PromptedRecipe):
    """A future discriminator (Yang & Klein 2021, FUDGE): will a text that begins like this obey the control?

    The language model with one logit at every place, trained on human texts with their own controls (half) and with controls
    that they do not obey. Whole texts count as much as all prefixes together: only they show some controls, such as lengths.

    Args:
        control: semantic, pos, tree, span or length.
        base: folder of the language model whose words it reads.
        tokens: positions in a batch.
        text_column: the column that holds the sentences.
    """

    kind = "discriminator"
    judged = True

    def built(self, folder: Path) -> GPT2ForTokenClassification:
        config = GPT2Config.from_pretrained(folder, num_labels=1)
        config.classifier_dropout = 0.0
        model: GPT2ForTokenClassification = GPT2ForTokenClassification.from_pretrained(folder, config=config)
        model.resize_token_embeddings(self.first + len(TOKENS), mean_resizing=False)
        return model

    def _batch(self, rows: list[dict[str, str]], sentences: list[list[int]], seq_len: int, rng: random.Random) -> Any:
        prompts, satisfied = [], []
        for i, (row, sentence) in enumerate(zip(rows, sentences, strict=True)):
            other, words = rows[(i + 1) % len(rows)], len(sentence) - 1
            right = drawn(self.control, row, words, rng)
            satisfied.append(rng.random() < 0.5)
            others = drawn(self.control, other, len(sentences[(i + 1) % len(rows)]) - 1, rng)
            prompts.append(right if satisfied[-1] else wrong(self.control, row, words, others, rng))
        judged = torch.tensor(satisfied, dtype=torch.float32, device=self.device)
        return *self._sequences(prompts, sentences, seq_len), judged

    def loss(self, model: nn.Module, batch: Any, draws: Draws) -> Loss:
        ids, places, words_there, satisfied = batch
        logits = model(ids, position_ids=places).logits[..., 0]
        nll = F.binary_cross_entropy_with_logits(logits, satisfied[:, None].expand_as(logits), reduction="none")
        whole = words_there & (ids == self.tokenizer.eos_token_id)
        return Loss(nll[words_there].mean() + nll[whole].mean(), {"whole": nll[whole].mean()})

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Share of right verdicts on held-out prefixes, and on whole texts."""
        right, whole = [], []
        for i in range(0, len(self.held_rows), 32):
            batch = self._batch(self.held_rows[i : i + 32], self.held_sentences[i : i + 32], 0, random.Random(i))
            ids, places, words_there, satisfied = batch
            verdict = (model(ids, position_ids=places).logits[..., 0] > 0) == (satisfied[:, None] > 0)
            right.append(verdict[words_there].float())
            whole.append(verdict[words_there & (ids == self.tokenizer.eos_token_id)].float())
        return {"accuracy": float(torch.cat(right).mean()), "accuracy_at_end": float(torch.cat(whole).mean())}
