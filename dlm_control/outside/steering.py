"""Controls at work on the logits of a network that another sampler runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from dlm_control.control.controller import Check, Controller
from dlm_control.control.use import BoundControl, Control, with_unique_names
from dlm_control.diffusion.backbone import Latents, Prediction, normalise
from dlm_control.outside.backbone import OutsideBackbone, check_shift
from dlm_control.outside.whole_words import WholeWords
from dlm_control.sampling.guidance import LEAST_RATIO, Group, TiltGuidance
from dlm_control.sampling.layout import Layouts
from dlm_control.support.errors import ErrorCollector, UsageError
from dlm_control.support.seeds import seeded
from dlm_control.support.validation import checked_constructor
from dlm_control.support.values import Above, AtLeast, Seed

OPEN = -1  # in the place of a token that is not chosen yet, where no mask token says so
_CERTAIN = 1e3  # nats
_DOUBT = 1e-4  # that a word which stands is another: energies say what a change means only where it is possible
_LEAST = 1e-38  # float32 holds it
_RUIN = math.log(LEAST_RATIO) + 1e-3  # nats; a change of a word that stands is closed if it makes a control this unlikely


class Steering:
    """Controls at work on the logits of a network that another sampler runs.

    The sampler's network says what it would write, as ever; here the same guidance as in our sampler tilts it. Each text has a
    length drawn first (by `config.length_counts` of the network, if it has them; otherwise all lengths are alike, so give a
    `Length`), its END stands there, and words that no plan allows are closed. Tokens that stand are certain.

    Args:
        network: the sampler's; only its embeddings and its config are read.
        tokenizer: its tokenizer, or `WholeWords`, made once for several prompts.
        controls: controllers, or Controls.
        gen_length: positions for a text at most, END included.
        prompt_length: tokens before it.
        shifted: the network's logits at a position are of the token behind it.
        edits: the sampler changes tokens that stand. It may, unless a control would be lost; that costs a second look at the
            energies. Without it nothing that stands is changed.
        seed: of what is drawn for each row: length, and gaps of templates.

    Raises:
        UsageError: the tokenizer has no whole words, a control cannot work with it or outside our sampler, or no text can obey.
    """

    def __init__(
        self,
        network: nn.Module,
        tokenizer: Any,
        controls: Sequence[Controller | Control],
        gen_length: Annotated[int, Above(1)],
        prompt_length: Annotated[int, AtLeast(0)] = 0,
        shifted: bool = False,
        edits: bool = False,
        seed: Seed = 0,
    ) -> None:
        check_shift(prompt_length, shifted)
        self.words = tokenizer if isinstance(tokenizer, WholeWords) else WholeWords(tokenizer)
        self.gen_length, self.prompt_length, self.seed = gen_length, prompt_length, seed
        self.shifted, self.edits = shifted, edits
        self._lm = OutsideBackbone(network, self.words, gen_length)
        self.controls = _bound(self._lm, with_unique_names(controls))
        plans = [(control.control.name, control.plan) for control in self.controls if control.control.weight > 0]
        self._layouts = Layouts(plans, self._lm.tokenizer, self._lm.length_counts, gen_length)
        self._row = lru_cache(maxsize=None)(self._make_row)

    def check(self, text: str) -> dict[str, Check]:
        """What every control says of a text."""
        return {control.control.name: control.control.check(text) for control in self.controls}

    def on_sequence(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """Logits under control, where a network has seen a prompt and a text, or its beginning.

        Args:
            tokens: (batch, seq_len), the prompt, then chosen tokens and masks.
            logits: (batch, seq_len, size), those at a position of the token there, whatever `shifted` says.
        """
        end = min(tokens.shape[1], self.prompt_length + self.gen_length)
        if end <= self.prompt_length:
            return logits
        text = slice(self.prompt_length, end)
        steered = self.on_text(tokens[:, text], logits[:, text], None)
        return torch.cat([logits[:, : self.prompt_length], steered, logits[:, end:]], 1)

    def hook(self, step: int | None, tokens: Tensor, logits: Tensor) -> Tensor:
        """As `on_sequence`: the `generation_logits_hook_func` of Dream and DiffuCoder, whose loop undoes the shift itself."""
        return logits if logits is None else self.on_sequence(tokens, logits)

    @torch.no_grad()
    def on_text(self, tokens: Tensor, logits: Tensor, t: float | None) -> Tensor:
        """Logits of the last positions of a text under control.

        Args:
            tokens: (batch, n), the text so far from its first position on, with masks, or OPEN, at what is not chosen.
            logits: (batch, k, size), of its last k positions.
            t: noise level in [0, 1]; None: the share of masks among the positions that no plan fixes.

        Raises:
            UsageError: a token that stands is no whole word.
        """
        offset, size = tokens.shape[1] - logits.shape[1], logits.shape[-1]
        allowed, length = self._rows(len(tokens), logits.device)
        z = self._words_of(tokens)
        masked = z == self.words.mask
        pad = self.words.words.pad_token_id
        z = z.masked_fill(~masked & allowed[..., pad], pad)  # its token may be that of END
        said = self.words.log_probs(logits, offset)
        level = _level(masked, allowed) if t is None else t
        latents, window = Latents(z, allowed, length), slice(offset, tokens.shape[1])
        push = self._push(self._logits(z, said, offset, 0.0), latents, level)
        opened = allowed & (masked[..., None] | torch.zeros_like(allowed).scatter_(-1, z[..., None], True))
        if self.edits:
            change = self._push(self._logits(z, said, offset, _DOUBT), latents, level)
            against = change - change.gather(-1, z[..., None])  # what another word than the one that stands means for controls
            push = torch.where(masked[..., None], push, change)
            opened = allowed & (masked[..., None] | (against > _RUIN))
        push = normalise(said, allowed[:, window]) + push[:, window] - said  # normalised, each word can be raised: see FLOOR
        opened = opened[:, window]
        push, closed = self.words.of_tokens(push, size, offset, 0.0), ~self.words.of_tokens(opened, size, offset, False)
        closed[..., self.words.pad_token_id] &= ~opened[..., pad]
        return (logits.float() + push).to(logits.dtype).masked_fill(closed, torch.finfo(logits.dtype).min)

    def _push(self, state: Tensor, latents: Latents, t: float) -> Tensor:
        """(batch, gen_length, words), what all controls add to log-probabilities of words, given as logits of that shape."""
        log_probs = normalise(state, latents.allowed)
        guidance = TiltGuidance(self._lm, self._lm.process(1), [Group(self.controls, range(len(state)))])
        return guidance.tilted(self._said(log_probs, latents.z), latents, t)[0] - log_probs

    def _words_of(self, tokens: Tensor) -> Tensor:
        """(batch, gen_length), the words of a text, masks at what is not chosen or not seen yet."""
        z = self.words.word_ids(tokens).masked_fill(tokens == OPEN, self.words.mask)
        if (z == -1).any():
            row, place = (int(i) for i in (z == -1).nonzero()[0])
            token = self.words.tokenizer.convert_ids_to_tokens(int(tokens[row, place]))
            raise UsageError(
                f"steer: position {place} of text {row} holds {token!r}, which is no whole word; prompt_length "
                f"({self.prompt_length}) must cover all that is given, and nothing else may choose tokens"
            )
        unseen = z.new_full((len(z), self.gen_length - z.shape[1]), self.words.mask)
        return torch.cat([z, unseen], 1)

    def _logits(self, z: Tensor, said: Tensor, offset: int, doubt: float) -> Tensor:
        """(batch, gen_length, words): what the network says. At positions that it has not seen, words are as likely as on
        average at the open ones that it has.

        Args:
            z: (batch, gen_length), words, with masks.
            said: (batch, k, words), log-probabilities at the positions that the network has seen last.
            offset: of the first of these.
            doubt: probability that a word which stands is another.
        """
        masked, seen = z == self.words.mask, offset + said.shape[1]
        open_ = masked[:, offset:seen, None]
        usual = ((said.exp() * open_).sum(1, keepdim=True) / open_.sum(1, keepdim=True).clamp(min=1)).clamp(min=_LEAST).log()
        whole = usual.repeat(1, self.gen_length, 1)
        whole[:, offset:seen] = said
        others = -_CERTAIN if doubt == 0 else math.log(doubt / said.shape[-1])
        certain = torch.full_like(whole, others).scatter_(-1, z[..., None], 0.0)
        return torch.where(masked[..., None], whole, certain)

    def _said(self, log_probs: Tensor, z: Tensor) -> Prediction:
        """What energies may read; the embeddings of the whole vocabulary only where one of them does."""
        lm = self._lm
        x_t = lm.embedded(z).float().masked_fill((z == self.words.mask)[..., None], 0.0)
        return Prediction(log_probs, x_t, lambda each: each.exp() @ lm.embeddings)

    def _rows(self, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """(batch, gen_length, words) bool, what may stand where; (batch,), how many words each text has."""
        rows = [self._row(i, device) for i in range(batch)]
        return torch.stack([allowed for allowed, _ in rows]), torch.tensor([words for _, words in rows], device=device)

    def _make_row(self, row: int, device: torch.device) -> tuple[Tensor, int]:
        layout = self._layouts.draw(seeded(self.seed, row, "layout"))
        behind = torch.zeros(self.gen_length - layout.seq_len, len(self.words.words), dtype=torch.bool)
        behind[:, self.words.words.pad_token_id] = True
        return torch.cat([layout.allowed, behind]).to(device), layout.words


Steering.__init__ = checked_constructor(Steering.__init__, lambda steering: "steer")  # type: ignore[method-assign]


def _bound(lm: OutsideBackbone, controls: Sequence[Control]) -> list[BoundControl]:
    """The controls resolved for a model.

    Raises:
        UsageError: with all that some of them cannot do here.
    """
    problems, found = ErrorCollector("steer: controls that cannot work here"), []
    for control in controls:
        try:
            bound = control.bind(lm)
        except UsageError as error:
            problems.extend(control.name, error)
            continue
        found.append(bound)
        if control.weight > 0 and control.controller.reads is None and bound.plan == type(bound.plan)():
            problems.add(control.name, "acts by checks of whole texts, which only our sampler asks for; leave it out")
    problems.raise_if_any()
    return found


def _level(masked: Tensor, allowed: Tensor) -> float:
    """The share of masks among the positions that no plan fixes, of all rows together."""
    free = allowed.sum(-1) > 1
    return float((masked & free).sum() / free.sum().clamp(min=1))
