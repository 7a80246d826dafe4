"""What guidance, controls and guides know of a frozen diffusion language model, of whatever kind."""

from __future__ import annotations

import difflib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from dlm_control.support.errors import ErrorCollector, UsageError
from dlm_control.support.hub import model_folder
from dlm_control.support.progress import hush
from dlm_control.text.tokenizer import WordTokenizer

T = TypeVar("T")

NEVER = -1e4  # log-probability of a word that may not stand at a position
FLOOR = -50.0  # lowest log-probability of one that may: a control can still raise it
CLEAN = 0.01  # noise level of a finished text


@dataclass(frozen=True)
class Prediction:
    """What a model says of the clean text, in float32.

    Attributes:
        log_probs: (batch, seq_len, vocab), of the words, over those allowed.
        x_t: (batch, seq_len, dim), the noisy text as guides read it.
        embed: makes clean embeddings (batch, seq_len, dim) of `log_probs`.
    """

    log_probs: Tensor
    x_t: Tensor
    embed: Callable[[Tensor], Tensor]

    @cached_property
    def x0(self) -> Tensor:
        """(batch, seq_len, dim), clean embeddings; made when they are first read."""
        return self.embed(self.log_probs)

    def rows(self, index: Tensor) -> Prediction:
        """Some rows."""
        return replace(self, log_probs=self.log_probs[index], x_t=self.x_t[index], embed=lambda _: self.x0[index])


@dataclass(frozen=True)
class Latents:
    """All that the rows of a batch carry from step to step, so that one indexing follows a resampling.

    Attributes:
        z: the noisy texts: (batch, seq_len, dim) embeddings, or (batch, seq_len) word ids with masks.
        allowed: (batch, seq_len, vocab) bool, the words that may stand at each position.
        length: (batch,), how many words each text will have.
        memory: what samplers and guidance remember of earlier steps, (batch, …) each.
    """

    z: Tensor
    allowed: Tensor
    length: Tensor
    memory: Mapping[str, Tensor] = field(default_factory=dict)

    def rows(self, index: Tensor) -> Latents:
        """Row i goes on from row index[i]."""
        memory = {name: value[index] for name, value in self.memory.items()}
        return Latents(self.z[index], self.allowed[index], self.length[index], memory)

    def remember(self, **values: Tensor) -> Latents:
        """With these in memory, in place of what bore the same names."""
        return replace(self, memory={**self.memory, **values})

    def remember_for(self, rows: Tensor, values: Mapping[str, Tensor], default: float) -> Latents:
        """With these in memory for some rows.

        Args:
            rows: which.
            values: (as many or more, …) each; row i of them is for rows[i].
            default: what the other rows have where the name is new.
        """
        merged = {}
        for name, each in values.items():
            before = self.memory.get(name, each.new_full((len(self.z), *each.shape[1:]), default))
            merged[name] = before.index_copy(0, rows, each[: len(rows)])
        return self.remember(**merged)


class Draws(ABC):
    """Random numbers of a batch; each row has a stream of its own."""

    @abstractmethod
    def normal(self, *shape: int) -> Tensor:
        """(batch, *shape) standard normal numbers."""

    @abstractmethod
    def uniform(self, *shape: int) -> Tensor:
        """(batch, *shape) uniform numbers in [0, 1)."""


class Process(ABC):
    """How a model's texts come into being from noise, under settings of a preset.

    Attributes:
        levels: noise levels from 1 down to 0; each step goes from one to the next.
        stochastic: whether a step draws random numbers; particles need one that does.
        calls: network calls so far.
    """

    levels: list[float]
    stochastic: bool = True
    calls: int = 0

    @abstractmethod
    def start(self, allowed: Tensor, length: Tensor, draws: Draws) -> Latents:
        """Pure noise, for texts of these words and lengths (see `Latents`)."""

    @abstractmethod
    def diffuse(self, ids: Tensor, allowed: Tensor, length: Tensor, t: float, draws: Draws) -> Latents:
        """The forward process: clean texts at noise level t.

        Args:
            ids: (batch, seq_len), word ids of the texts.
            allowed, length: as in `Latents`.
            t: noise level in [0, 1].
            draws: random numbers.
        """

    @abstractmethod
    def predict(self, latents: Latents, t: float) -> Prediction:
        """What the network says at noise level t: one call."""

    @abstractmethod
    def embed(self, log_probs: Tensor) -> Tensor:
        """Clean embeddings (batch, seq_len, dim) of word distributions (batch, seq_len, vocab)."""

    @abstractmethod
    def step(self, latents: Latents, guided: Prediction, t: float, s: float, draws: Draws) -> Latents:
        """The texts at noise level s < t.

        Args:
            latents: at noise level t.
            guided: the prediction at t, as controls left it.
            t, s: noise levels.
            draws: random numbers.
        """

    @abstractmethod
    def log_ratio(self, before: Latents, after: Latents, free: Prediction, guided: Prediction, t: float, s: float) -> Tensor:
        """How much likelier a step was by itself than under controls: (batch,), log p(after | before) − log q(after | before).

        Particles are weighed by it.

        Args:
            before, after: the texts at noise level t, and what `step` made of them.
            free: what the model says at t.
            guided: the same as controls left it, from which the step was taken.
            t, s: noise levels, s < t.
        """

    def words(self, latents: Latents, guided: Prediction) -> Tensor:
        """(batch, seq_len) word ids: the text as it stands, the likeliest word wherever none is settled."""
        return guided.log_probs.argmax(-1)


def normalise(logits: Tensor, allowed: Tensor) -> Tensor:
    """Log-probabilities (batch, seq_len, vocab) over the allowed words."""
    closed = ~allowed
    log_probs = logits.masked_fill(closed, NEVER).log_softmax(-1)
    return log_probs.clamp(min=FLOOR).masked_fill_(closed, NEVER)


def normalise_(logits: Tensor, allowed: Tensor) -> Tensor:
    """`normalise` for large tables: what is given is overwritten, and no gradient passes."""
    closed = ~allowed
    return logits.masked_fill_(closed, NEVER).log_softmax(-1).clamp_(min=FLOOR).masked_fill_(closed, NEVER)


class Backbone(ABC):
    """A frozen diffusion language model with its vocabulary.

    Attributes:
        kind: `gaussian`, `masked`, or what a plugin calls its own.
        settings: the values of a preset that its process takes.
        spaces: what a control's energy may be a function of.
        likelihood_calls: network calls of `nats_per_word`.
        model: the network.
        tokenizer: its words.
        source: what it was loaded from.
    """

    kind: ClassVar[str]
    settings: ClassVar[tuple[str, ...]]
    spaces: ClassVar[tuple[str, ...]] = ("log_probs", "x0", "x_t")
    likelihood_calls: ClassVar[int]
    model: PreTrainedModel

    def __init__(self, model: PreTrainedModel, tokenizer: WordTokenizer, source: str = "") -> None:
        self.model, self.tokenizer, self.source = model.eval().requires_grad_(False), tokenizer, source
        self._kept: dict[str, Any] = {}

    @classmethod
    @abstractmethod
    def reads(cls, config: Mapping[str, Any]) -> bool:
        """Is a model with this config.json of its kind?"""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, source: str) -> Self:
        """The model in a folder, in float32 on the CPU.

        Raises:
            UsageError: it does not load.
        """

    @property
    @abstractmethod
    def table(self) -> Tensor:
        """(vocab, dim), the word embeddings that guides read, on any device and in any dtype (`embeddings`: in float32)."""

    @property
    @abstractmethod
    def max_seq_len(self) -> int:
        """Positions at most, END and PADs included."""

    @property
    @abstractmethod
    def length_counts(self) -> Sequence[int]:
        """How many training sentences have n words, n = 0, 1, …; lengths are drawn in proportion."""

    @abstractmethod
    def process(self, steps: int, **settings: Any) -> Process:
        """A new process of `steps` steps with the values that `settings` names."""

    @abstractmethod
    def corrupt(self, ids: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Clean texts as guides read them under noise, (batch, seq_len, dim).

        Args:
            ids: (batch, seq_len), words.
            t: (batch,), noise levels.
            noise: (batch, seq_len, dim), standard normal numbers.
        """

    @abstractmethod
    def signal(self, t: Tensor) -> Tensor:
        """(batch,), the factor of a clean embedding in a noisy one at noise levels (batch,)."""

    @abstractmethod
    def log_snr(self, t: Tensor) -> Tensor:
        """(batch,), how clear texts are at noise levels (batch,), in nats."""

    @abstractmethod
    def local_likelihood(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log p(x_t at i | word at i) up to a constant: (batch, seq_len, vocab), of x_t (batch, seq_len, dim), t (batch,)."""

    @abstractmethod
    def nats_per_word(self, ids: Tensor, length: Tensor) -> Tensor:
        """How unlikely finished texts are under the model: mean −log p(word | the text under noise), (batch,), in nats.

        The noise is the same for all texts and rows, so that a text's figure depends on the text alone.

        Args:
            ids: (batch, seq_len), words, END, PADs.
            length: (batch,), how many words each text has.
        """

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the network's weights."""
        return self.model.dtype

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move the network, and forget what was made for where it was. The hashes stay those of the weights before."""
        _ = self.fingerprint, self.weights_digest
        place: Any = {"device": device, "dtype": dtype}
        self.model.to(**place)
        self._kept = {name: kept for name, kept in self._kept.items() if not _lies_on_a_device(kept)}
        self.__dict__.pop("embeddings", None)
        return self

    @property
    def unit(self) -> str:
        """What it writes: `words`, or `tokens` that spell them."""
        return "words"

    @cached_property
    def embeddings(self) -> Tensor:
        """(vocab, dim), the word embeddings that guides read, in float32 beside the network."""
        return self.table.detach().float()

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The words by id. (get_vocab() comes in another order in every process.)"""
        return tuple(self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer)))))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of vocabulary and embedding table: a guide fits the models that share it."""
        table = self.table.detach().float().cpu().numpy().round(4).tobytes()
        return hashlib.sha256(table + "\n".join(self.vocabulary).encode()).hexdigest()[:16]

    @cached_property
    def weights_digest(self) -> str:
        """Hash of all weights."""
        digest = hashlib.sha256()
        for _, tensor in sorted(self.model.state_dict().items()):
            digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def home(self) -> Path | None:
        """The folder that it was loaded from; None for one that was not loaded from anywhere."""

        def found() -> Path | None:
            try:
                return model_folder(self.source) if self.source else None
            except UsageError:
                return None

        return self.once("home", found)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """The result of make(), kept under a name: where controllers keep their guides."""
        if name not in self._kept:
            self._kept[name] = make()
        kept: T = self._kept[name]
        return kept

    def ids(self, text: str, place: str) -> tuple[int, ...]:
        """The word ids of a target's text.

        Args:
            text: words.
            place: heads the report.

        Raises:
            UsageError: it has no words, or words that the vocabulary lacks; suggestions come with it.
        """
        if not self.tokenizer.words(text):
            raise UsageError(f"{place}: {text!r} has no words")
        problems = ErrorCollector(place)
        vocabulary = self.vocabulary
        for word in {*self.tokenizer.words(text)} & {*self.tokenizer.all_special_tokens}:
            problems.add("", f"{word!r} is a sign of the model's own, which stands in no text; use another word")
        for word in self.tokenizer.unknown(text):
            near = [v for v in vocabulary if v.lower() == word.lower()]
            near = near or difflib.get_close_matches(word, list(vocabulary), n=3, cutoff=0.7)
            hint = f"; near it: {', '.join(near[:3])}" if near else ""
            problems.add("", f"{self.lacks(word)}{hint}")
        problems.raise_if_any()
        return tuple(self.tokenizer.word_ids(text))

    def lacks(self, word: str) -> str:
        """That the vocabulary has not this word, for a report."""
        return f"the word {word!r} is not among the {len(self.vocabulary)} the model knows"

    def __repr__(self) -> str:
        size = f"{len(self.tokenizer)} words, {self.model.num_parameters():,} parameters"
        return f"{type(self).__name__}({self.source!r}, {size})"


def read_pretrained(cls: Any, folder: Path, source: str, spare: Sequence[str] = ()) -> tuple[Any, WordTokenizer]:
    """A network and its tokenizer from a folder, every weight where it belongs.

    Args:
        cls: of the network, with transformers' `from_pretrained`.
        folder: of the files.
        source: what users call it.
        spare: kinds of misfit that do no harm, such as `unexpected_keys`.

    Raises:
        UsageError: it does not load, or weights are missing or of another shape.
    """
    hush()
    try:
        model, report = cls.from_pretrained(folder, output_loading_info=True)
        tokenizer = WordTokenizer.from_pretrained(folder)
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        raise UsageError(f"model {source!r}: {folder} does not load: {str(error).strip().splitlines()[0]}") from None
    kinds = [kind for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if kind not in spare]
    wrong = [key for kind in kinds for key in report[kind]]
    if wrong:
        raise UsageError(f"model {source!r}: the weights are of another shape or model than config.json says: {wrong[0]}")
    return model, tokenizer


def _lies_on_a_device(kept: object) -> bool:
    return isinstance(kept, (Tensor, torch.nn.Module))
