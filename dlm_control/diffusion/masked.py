"""Words under absorbing noise: any masked language model of transformers, and how its texts come into being."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import AutoModelForMaskedLM

from dlm_control.diffusion.backbone import CLEAN, Backbone, Draws, Latents, Prediction, Process, normalise_, read_pretrained
from dlm_control.diffusion.samplers import ORDERS
from dlm_control.support.errors import ErrorCollector, UsageError, suggestion
from dlm_control.support.seeds import seeded
from dlm_control.text.tokenizer import WordTokenizer

SETTLED = 1e4  # the local likelihood of a word that stands
_ROUNDING = 1e-4  # in float32 the level 1/22 times 22 can fall short of 1
_PARTS, _MASKINGS = 4, 2  # a text's likelihood is judged with each quarter of its words masked, in two partitions


class MaskedBackbone(Backbone):
    """An `AutoModelForMaskedLM` whose tokenizer has a mask token (Sahoo et al. 2024, MDLM; Nie et al. 2025, LLaDA).

    The noise level is the share of masked words among those that are not given. What guides read of a noisy text is the
    embeddings of its words, and zeros at masks; nothing of it moves little by little, so no control can act by a gradient in
    that space.
    """

    kind = "masked"
    settings: ClassVar[tuple[str, ...]] = ("temperature", "order", "remask")
    spaces: ClassVar[tuple[str, ...]] = ("log_probs", "x0")
    likelihood_calls = _PARTS * _MASKINGS

    @classmethod
    def reads(cls, config: Mapping[str, Any]) -> bool:
        return any(str(name).endswith("ForMaskedLM") for name in config.get("architectures") or ())

    @classmethod
    def load(cls, folder: Path, source: str) -> Self:
        if not (folder / "tokenizer.json").is_file():
            raise UsageError(f"model {source!r}: {folder} has no tokenizer.json, which `WordTokenizer.save_pretrained` writes")
        model, tokenizer = read_pretrained(AutoModelForMaskedLM, folder, source, spare=("unexpected_keys",))
        _check_words(tokenizer, model.get_input_embeddings().weight, source)
        return cls(model, tokenizer, source)

    @property
    def table(self) -> Tensor:
        embedding = self.model.get_input_embeddings()
        assert isinstance(embedding, torch.nn.Embedding)
        return embedding.weight

    @property
    def max_seq_len(self) -> int:
        most: int = self.model.config.max_position_embeddings
        return most

    @property
    def length_counts(self) -> Sequence[int]:
        counts: Sequence[int] | None = getattr(self.model.config, "length_counts", None)
        return counts or [1] * self.max_seq_len

    def process(self, steps: int, **settings: Any) -> MaskedProcess:
        return MaskedProcess(self, steps, **settings)

    def corrupt(self, ids: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """As the base says; a word is masked where the first number of its noise is below the t-quantile."""
        masked = torch.special.ndtr(noise[..., 0]) < t[:, None]
        words = ~torch.isin(ids, torch.tensor([self.tokenizer.eos_token_id, self.tokenizer.pad_token_id], device=ids.device))
        return self.embeddings[ids].masked_fill((masked & words)[..., None], 0.0)

    def signal(self, t: Tensor) -> Tensor:
        return 1 - t

    def log_snr(self, t: Tensor) -> Tensor:
        return -torch.logit(t.clamp(CLEAN, 1 - CLEAN))

    def local_likelihood(self, x_t: Tensor, t: Tensor) -> Tensor:
        table = self.embeddings
        nearest = (x_t @ table.T - table.square().sum(-1) / 2).argmax(-1)  # of the words, by squared distance
        stands = (table[nearest] == x_t).all(-1, keepdim=True)  # a mask is no word's embedding
        return torch.zeros(*x_t.shape[:-1], len(table), device=x_t.device, dtype=x_t.dtype).scatter(
            -1, nearest[..., None], SETTLED * stands.to(x_t.dtype)
        )

    @torch.no_grad()
    def nats_per_word(self, ids: Tensor, length: Tensor) -> Tensor:
        """As the base says: a pseudo-likelihood, each word once in every partition, given those of the other parts.

        The parts of a text of n words, and their sizes, are a function of n alone.
        """
        seq_len, total = ids.shape[1], torch.zeros(len(ids), device=ids.device)
        live = torch.arange(seq_len, device=ids.device) < length[:, None]
        for number in range(_MASKINGS):
            noise = torch.rand(self.max_seq_len, generator=seeded("likelihood", number))[:seq_len].to(ids.device)
            rank = noise.expand(ids.shape).masked_fill(~live, math.inf).argsort(-1).argsort(-1)
            for part in range(_PARTS):
                masked = live & (rank % _PARTS == part)
                logits = self.model(input_ids=ids.masked_fill(masked, self.tokenizer.mask_token_id)).logits.float()
                costs = F.cross_entropy(logits.transpose(1, 2), ids, reduction="none")
                total = total + (costs * masked).sum(1) / length
        return total / _MASKINGS


class MaskedProcess(Process):
    """Settling of masked words, some at each step, for good.

    With a step for each open word, an order that does not look at the words drawn samples exactly what the network's
    conditionals say. `confidence` does look, and so prefers likely texts, the more the fewer the words of a step.

    Args:
        backbone: the model.
        steps: network calls; of n open words about n/steps settle at each.
        temperature: divides the logits of the words.
        order: which of the words drawn settle first: `confidence` (the likeliest), `random`, `left_to_right`, `right_to_left`.
        remask: of the open words, the share that is masked again at each step but the last, and settled anew: those that were
            the least likely when they settled (Wang et al. 2025, ReMDM).
    """

    def __init__(
        self,
        backbone: MaskedBackbone,
        steps: int,
        temperature: float = 1.0,
        order: str = "confidence",
        remask: float = 0.0,
    ) -> None:
        if order not in ORDERS:
            raise UsageError(f"order: unknown {order!r}{suggestion(order, ORDERS)}; there are: {', '.join(ORDERS)}")
        self.backbone, self.temperature, self.order, self.remask = backbone, temperature, order, remask
        self.mask: int = backbone.tokenizer.mask_token_id
        self.levels = [1 - i / steps for i in range(steps)] + [0.0]

    def start(self, allowed: Tensor, length: Tensor, draws: Draws) -> Latents:
        """Masks; what only one word may fill is filled."""
        allowed = self._without_mask(allowed)
        return Latents(torch.where(_several(allowed), self.mask, allowed.int().argmax(-1)), allowed, length)

    def diffuse(self, ids: Tensor, allowed: Tensor, length: Tensor, t: float, draws: Draws) -> Latents:
        allowed = self._without_mask(allowed)
        masked = _several(allowed) & (draws.uniform(ids.shape[1]) < t)
        return Latents(ids.masked_fill(masked, self.mask), allowed, length)

    def predict(self, latents: Latents, t: float) -> Prediction:
        z = latents.z
        logits = self.backbone.model(input_ids=z).logits.float()
        self.calls += 1
        log_probs = normalise_(logits / self.temperature, self._open(latents))
        x_t = self.backbone.embeddings[z].masked_fill((z == self.mask)[..., None], 0.0)
        return Prediction(log_probs, x_t, self.embed)

    def embed(self, log_probs: Tensor) -> Tensor:
        return log_probs.exp() @ self.backbone.embeddings

    def step(self, latents: Latents, guided: Prediction, t: float, s: float, draws: Draws) -> Latents:
        """Draw every masked word, and settle so many of them that the share of masks among the open words is s."""
        log_probs, masked = guided.log_probs, latents.z == self.mask
        seq_len, vocab = log_probs.shape[1:]
        gumbel = draws.uniform(seq_len, vocab).clamp_(1e-20, 1 - 1e-7).log_().neg_().log_().neg_()  # in place: these are large
        drawn = gumbel.add_(log_probs).argmax(-1)  # one draw of each position's distribution (Maddison et al. 2014)
        confidence = log_probs.gather(-1, drawn[..., None])[..., 0]
        open_words = _several(latents.allowed)
        left = torch.floor(s * open_words.sum(-1) + _ROUNDING).long()
        again = self._again(masked, open_words, left, t)
        if self.order == "confidence":
            rank = confidence
        elif self.order == "random":
            rank = draws.uniform(seq_len)
        else:
            places = torch.arange(seq_len, device=drawn.device).float().expand_as(drawn)
            rank = places if self.order == "right_to_left" else -places
        settled = masked & _first(rank, masked, masked.sum(-1) - left + again)
        latents = replace(latents, z=torch.where(settled, drawn, latents.z))
        if not self.remask:
            return latents
        stood = torch.where(settled, confidence, latents.memory.get(_CONFIDENCE, confidence))
        doubtful = open_words & ~masked
        doubtful &= _first(-stood, doubtful, again)
        return replace(latents, z=latents.z.masked_fill(doubtful, self.mask)).remember(**{_CONFIDENCE: stood})

    def _again(self, masked: Tensor, open_words: Tensor, left: Tensor, t: float) -> Tensor:
        """(batch,): how many of the words that stand are masked again; none where all are to stand.

        The share may be less than a word a step: what is left over counts at later ones.
        """
        a_step, done = self.remask * open_words.sum(-1), round((1 - t) * (len(self.levels) - 1))
        wanted = torch.floor(a_step * (done + 1) + _ROUNDING).long() - torch.floor(a_step * done + _ROUNDING).long()
        return torch.minimum(torch.minimum(wanted, left), (open_words & ~masked).sum(-1))

    def log_ratio(self, before: Latents, after: Latents, free: Prediction, guided: Prediction, t: float, s: float) -> Tensor:
        """As the base says. Which words settle first is decided by the same rule for both: under `confidence` each word's
        probability under controls. A word that was drawn and had to wait counts by the probability of a less confident one."""
        masked, settled = before.z == self.mask, (before.z == self.mask) & (after.z != self.mask)
        drawn = after.z[..., None]
        gain = (free.log_probs.gather(-1, drawn) - guided.log_probs.gather(-1, drawn))[..., 0]
        ratio = (gain * settled).sum(-1)
        if self.order != "confidence":
            return ratio
        confidence = guided.log_probs.gather(-1, drawn)[..., 0].masked_fill(~settled, math.inf)
        below = guided.log_probs <= confidence.amin(-1)[:, None, None]  # (batch, seq_len, vocab), what would have had to wait
        waited = [said.log_probs.masked_fill(~below, -math.inf).logsumexp(-1) for said in (free, guided)]
        return ratio + ((waited[0] - waited[1]) * (masked & ~settled)).nan_to_num().sum(-1)

    def words(self, latents: Latents, guided: Prediction) -> Tensor:
        return torch.where(latents.z == self.mask, guided.log_probs.argmax(-1), latents.z)

    def _without_mask(self, allowed: Tensor) -> Tensor:
        """The same, but no mask may come."""
        column = torch.tensor([self.mask], device=allowed.device)
        return allowed.index_fill(-1, column, False)

    def _open(self, latents: Latents) -> Tensor:
        """(batch, seq_len, vocab): what may still come; where a word stands, that word alone."""
        stands = latents.z != self.mask
        alone = torch.zeros_like(latents.allowed).scatter(-1, latents.z[..., None], True)
        return torch.where(stands[..., None], alone, latents.allowed)


_CONFIDENCE = "log-probability of each word when it settled"  # in the memory


def _first(rank: Tensor, among: Tensor, number: Tensor) -> Tensor:
    """(batch, seq_len): which places are the first, so many of those that are asked for, by falling rank."""
    return rank.masked_fill(~among, -math.inf).argsort(-1, descending=True).argsort(-1) < number[:, None]


def _several(allowed: Tensor) -> Tensor:
    """(batch, seq_len) bool: may more than one word stand here?"""
    return allowed.sum(-1) > 1


def _check_words(tokenizer: WordTokenizer, table: Tensor, source: str) -> None:
    """Refuse words that no text can be written with.

    Raises:
        UsageError: with all that is wrong.
    """
    problems = ErrorCollector(f"model {source!r}: its tokenizer")
    if tokenizer.mask_token_id is None:
        problems.add("", "has no mask token, and a masked model writes over masks")
    lacking = [name for name in ("unk_token", "pad_token", "eos_token") if getattr(tokenizer, name) is None]
    if lacking:
        problems.add("", f"has no {', '.join(lacking)}; a text is words, an END (eos_token) and PADs")
    if not isinstance(tokenizer.backend_tokenizer.model, WordLevel):
        problems.add("", "writes parts of words; a token must be a word, as `WordTokenizer.train` makes them")
    elif len(tokenizer) != len(table):
        problems.add("", f"has {len(tokenizer)} words, and the model's embeddings are of {len(table)}")
    problems.raise_if_any()
