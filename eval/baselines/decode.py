"""Writing word by word: several networks read one growing text, and what they say together is sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GPT2Config, GPT2ForTokenClassification, GPT2LMHeadModel

from dlm_control.eval.baselines.prompts import TOKENS, place_ids
from dlm_control.support.errors import UsageError
from dlm_control.support.progress import hush
from dlm_control.support.seeds import seeded
from dlm_control.text.tokenizer import WordTokenizer

MOST_WORDS = 95  # in a text


@dataclass(frozen=True, eq=False)
class Network:
    """A GPT-2 over words, and perhaps the tokens of prompts behind them."""

    model: Any
    tokenizer: WordTokenizer

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        device: torch.device = self.model.device
        return device

    def prompt(self, tokens: Sequence[str]) -> tuple[list[int], list[int]]:
        """Ids of a prompt's tokens and of the END that stands before a text; their position ids.

        Raises:
            UsageError: the prompt speaks of more words than a text can have.
        """
        words = max(place_ids(tokens, 0))
        if (unknown := sorted({token for token in tokens if token not in TOKENS})) or words > MOST_WORDS:
            asked = ", ".join(unknown) or f"{words + 1} words"
            raise UsageError(f"baselines: a control asks for {asked}; expected texts of at most {MOST_WORDS} words")
        first = len(self.tokenizer)
        places = place_ids(tokens, 0, judged=isinstance(self.model, GPT2ForTokenClassification))
        return [*(first + TOKENS.index(token) for token in tokens), self.tokenizer.eos_token_id], places


@cache
def network(folder: Path) -> Network:
    """A trained network.

    Raises:
        UsageError: it is not there, or broken.
    """
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"{folder}: no such model; baselines are not bundled: `dlm train configs/baselines/{folder.name}.yaml --data DATA` "
            "trains it, DATA being what `dlm annotate` wrote; --model names the folder that holds them"
        )
    hush()
    try:
        judges = GPT2Config.from_pretrained(folder).architectures == [GPT2ForTokenClassification.__name__]
        kind = GPT2ForTokenClassification if judges else GPT2LMHeadModel
        return Network(kind.from_pretrained(folder).eval().requires_grad_(False), WordTokenizer.from_pretrained(folder))
    except Exception as error:  # of whatever library reads the part that is broken
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"{folder}: does not load: {message}; `dlm train configs/baselines/{folder.name}.yaml` makes it anew"
        ) from None


class Stream:
    """A network that has read a prompt and reads the words of several texts side by side.

    Attributes:
        logits: (rows, words), of each text's next word.
    """

    def __init__(self, read: Network, prompt: Sequence[str], rows: int) -> None:
        self.read = read
        self.cache: Any = None
        self.length = 0  # words read
        ids, places = read.prompt(prompt)
        self.advance(*(torch.tensor([each] * rows, device=read.device) for each in (ids, places)))

    def push(self, words: Tensor) -> None:
        """Read each text's next word, (rows, 1)."""
        self.length += 1
        self.advance(words, torch.full_like(words, self.length))

    @torch.no_grad()
    def advance(self, ids: Tensor, places: Tensor) -> None:
        """Read ids (rows, any number) at these position ids."""
        out = self.read.model(ids, position_ids=places, past_key_values=self.cache, use_cache=True)
        self.cache = out.past_key_values
        self.logits: Tensor = out.logits[:, -1, : len(self.read.tokenizer)]


class Judge(Stream):
    """A discriminator that reads the words of several texts side by side, and every candidate for their next ones."""

    @torch.no_grad()
    def advance(self, ids: Tensor, places: Tensor) -> None:
        read = self.read.model.transformer
        self.cache = read(ids, position_ids=places, past_key_values=self.cache, use_cache=True).past_key_values

    @torch.no_grad()
    def verdicts(self, candidates: Tensor) -> Tensor:
        """Log-probability that a text which goes on so will obey, (rows, candidates).

        Args:
            candidates: (rows, candidates), word ids.
        """
        rows, count = candidates.shape
        copies = DynamicCache()
        for i, layer in enumerate(self.cache.layers):
            copies.update(layer.keys.repeat_interleave(count, 0), layer.values.repeat_interleave(count, 0), i)
        words = candidates.reshape(-1, 1)
        places = torch.full_like(words, self.length + 1)
        out = self.read.model.transformer(words, position_ids=places, past_key_values=copies, use_cache=True)
        states = out.last_hidden_state
        return torch.nn.functional.logsigmoid(self.read.model.classifier(states)).view(rows, count)


def sample(
    streams: Sequence[Stream],
    combine: Callable[[], Tensor],
    generators: Sequence[torch.Generator],
    top_k: int = 0,
) -> list[list[int]]:
    """Word ids of a text for each row.

    Args:
        streams: that read the texts.
        combine: log-probabilities (rows, words) of the next words, up to a constant, by what the streams have read.
        generators: random numbers of each row.
        top_k: only so many of the likeliest words are drawn from; 0 is all.
    """
    tokenizer = streams[0].read.tokenizer
    texts = Texts(tokenizer, generators, top_k)
    for _ in range(MOST_WORDS):
        words = texts.drawn(combine())
        if not any(texts.alive):
            break
        for stream in streams:
            stream.push(words[:, None])
    return texts.words


class Texts:
    """Texts that grow by a word at a time.

    Args:
        tokenizer: of the words.
        generators: random numbers of each text.
        top_k: only so many of the likeliest words are drawn from; 0 is all.

    Attributes:
        words: ids of each text so far.
        alive: which have not ended.
    """

    def __init__(self, tokenizer: WordTokenizer, generators: Sequence[torch.Generator], top_k: int) -> None:
        self.tokenizer, self.generators, self.top_k = tokenizer, generators, top_k
        self.words: list[list[int]] = [[] for _ in generators]
        self.alive = [True] * len(generators)

    def drawn(self, scores: Tensor) -> Tensor:
        """Draw each text's next word, (rows,), from log-probabilities (rows, words) up to a constant."""
        banned = [self.tokenizer.pad_token_id, self.tokenizer.unk_token_id]
        scores = scores.clone()
        scores[:, banned if any(self.words) else [*banned, self.tokenizer.eos_token_id]] = -torch.inf
        if self.top_k:
            least = scores.topk(min(self.top_k, scores.shape[1])).values[:, -1:]
            scores = scores.masked_fill(scores < least, -torch.inf)
        noise = torch.stack([torch.rand(scores.shape[1], generator=g) for g in self.generators]).to(scores.device)
        words = (scores - (-noise.clamp(min=1e-20).log()).log()).argmax(-1)  # the Gumbel trick
        for row, word in enumerate(words.tolist()):
            self.alive[row] = self.alive[row] and word != self.tokenizer.eos_token_id
            if self.alive[row]:
                self.words[row].append(word)
        return words


def generators(seed: int, indices: Sequence[int], draws: int = 1) -> list[torch.Generator]:
    """Random numbers of each draw of each index."""
    return [seeded(seed, index, draw, "words") for index in indices for draw in range(draws)]


def written(tokenizer: WordTokenizer, ids: Sequence[int]) -> str:
    """Word ids as a text."""
    return tokenizer.join(tokenizer.convert_ids_to_tokens(list(ids)))
