"""A masked network from outside as a backbone of ours, which writes its whole words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from dlm_control.diffusion.masked import MaskedBackbone
from dlm_control.outside.whole_words import WholeWords
from dlm_control.support.errors import UsageError


class _Output(NamedTuple):
    logits: Tensor


class WordNetwork(nn.Module):
    """A network over tokens, called with words and answering with words.

    Args:
        network: called as network(input_ids), it returns logits or an output that has them.
        words: of its tokenizer.
        prompt: (prompt_length,), tokens before each text.
        shifted: the logits at a position are of the token behind it.
    """

    def __init__(self, network: nn.Module, words: WholeWords, prompt: Tensor, shifted: bool) -> None:
        super().__init__()
        self.network, self.words, self.shifted = network, words, shifted
        self.register_buffer("prompt", prompt, persistent=False)
        self.config: Any = getattr(network, "config", None)

    @property
    def device(self) -> torch.device:
        """Of the network's weights."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the network's weights."""
        return next(self.network.parameters()).dtype

    def num_parameters(self) -> int:
        """Of the network."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def save_pretrained(self, *args: object, **kwargs: object) -> None:
        """
        Raises:
            UsageError: always; it is no model of ours.
        """
        raise UsageError("a network from outside is saved with its own library, and so is its tokenizer")

    def forward(self, input_ids: Tensor) -> _Output:
        """Log-probabilities of words, (batch, positions, words), of word ids (batch, positions).

        Raises:
            UsageError: the network knows no masks, so our sampler cannot write with it.
        """
        if self.words.mask_token_id is None:
            raise UsageError("the tokenizer has no mask token; if the network was trained with one, give WholeWords its id")
        prompt = self.get_buffer("prompt").to(input_ids.device).expand(len(input_ids), -1)
        tokens = torch.cat([prompt, self.words.token_ids(input_ids)], 1)
        begin = prompt.shape[1] - self.shifted
        logits = logits_of(self.network(tokens))[:, begin : begin + input_ids.shape[1]]
        return _Output(self.words.log_probs(logits, 0))


class OutsideBackbone(MaskedBackbone):
    """A masked language model from outside under our sampler and controls, over the whole words of its tokenizer.

    Args:
        network: as `WordNetwork`.
        words: of its tokenizer.
        positions: of a text at most, END included.
        prompt: (prompt_length,), tokens before each text.
        shifted: as `WordNetwork`.
    """

    def __init__(
        self, network: nn.Module, words: WholeWords, positions: int, prompt: Tensor | None = None, shifted: bool = False
    ) -> None:
        given = torch.zeros(0, dtype=torch.long) if prompt is None else prompt
        check_shift(len(given), shifted)
        name = str(getattr(words.tokenizer, "name_or_path", "") or type(network).__name__)
        model: Any = WordNetwork(network, words, given, shifted)
        super().__init__(model, words.words, name)
        self.words, self.positions = words, positions

    @classmethod
    def reads(cls, config: Mapping[str, Any]) -> bool:
        return False  # it is made of objects, not read from a folder

    @classmethod
    def load(cls, folder: Path, source: str) -> Self:
        raise UsageError(f"model {source!r}: a model from outside is loaded with its own library; see docs/outside-models.md")

    @property
    def unit(self) -> str:
        return self.words.unit

    @property
    def table(self) -> Tensor:
        """(words, dim), the embeddings of the words' tokens."""
        return self.embedded(torch.arange(len(self.words.words)))

    def embedded(self, words: Tensor) -> Tensor:
        """(…, dim), the embeddings of some words' tokens."""
        network: Any = self.model.network
        weight: Tensor = network.get_input_embeddings().weight
        tokens = self.words.inner_token_ids(words.to(weight.device))
        return weight[tokens.clamp(max=len(weight) - 1)]

    @property
    def max_seq_len(self) -> int:
        return self.positions

    @property
    def length_counts(self) -> Sequence[int]:
        counts: Sequence[int] | None = getattr(self.model.config, "length_counts", None)
        return counts or [1] * self.positions

    def lacks(self, word: str) -> str:
        pieces = self.words.pieces(word)
        if len(pieces) > 1:
            return f"the tokenizer writes {word!r} as {' + '.join(pieces)}, and controls act on words of one token"
        return f"the word {word!r} is not among the {len(self.vocabulary)} whole words of the tokenizer"


def logits_of(output: Any) -> Tensor:
    """The logits of what a network returns.

    Raises:
        UsageError: it has none.
    """
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise UsageError(f"the network returns a {type(output).__name__}; expected logits, or an output that has them")
    return logits


def check_shift(prompt_length: int, shifted: bool) -> None:
    """
    Raises:
        UsageError: logits are shifted, and no token stands before the first to write.
    """
    if shifted and prompt_length == 0:
        raise UsageError("shifted: the first token's logits stand at the token before it; give a prompt of one token or more")
