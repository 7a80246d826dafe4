"""What controls cost where vocabularies are large and texts are long: random weights, an invented vocabulary."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlm_control.control.controller import Check, Controller, State
from dlm_control.control.plan import Plan
from dlm_control.control.use import BoundControl, with_unique_names
from dlm_control.controllers.infill import Infill
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.diffusion.backbone import Backbone, Draws, Latents, Process
from dlm_control.diffusion.gaussian import GaussianBackbone
from dlm_control.diffusion.masked import MaskedBackbone
from dlm_control.diffusion.model import DiffusionLM, DiffusionLMConfig
from dlm_control.sampling.guidance import Group, Guidance, TiltGuidance
from dlm_control.sampling.layout import Layouts
from dlm_control.support.errors import UsageError
from dlm_control.support.records import Record
from dlm_control.support.seeds import seeded
from dlm_control.text.tokenizer import WordTokenizer

ROWS = 2  # of a network call
LEVEL, NEXT = 0.5, 0.45  # the noise levels between which a step is measured
TAGS = 12


@dataclass(frozen=True)
class Size:
    """A vocabulary, a number of positions, and a network of about 10 million parameters, embeddings included.

    Attributes:
        words: of the vocabulary.
        positions: of a text.
        width, depth: of the transformer.
    """

    words: int
    positions: int
    width: int
    depth: int


SIZES = (Size(11_000, 64, 256, 9), Size(50_000, 256, 128, 14))


@dataclass(frozen=True)
class StepCost(Record):
    """A guided step: predict, tilt and step.

    Attributes:
        controls: which.
        planned_s: CPU seconds that binding and layout took, once a text.
        step_s, step_mb: CPU seconds, and the peak of memory above that before.
        guidance_in_calls: seconds beyond an unguided step, in network calls.
    """

    controls: str
    planned_s: float
    step_s: float
    step_mb: int
    guidance_in_calls: float


@dataclass(frozen=True)
class ModelCosts(Record):
    """What one model's steps cost.

    Attributes:
        kind, words, positions, parameters: of the model.
        rows: of a network call.
        network_s, network_mb: CPU seconds of a call, and the peak of memory above that before.
        last_word_planned_s: CPU seconds that binding and layout take for a keyword that must stand last.
        steps: under each set of controls.
    """

    kind: str
    words: int
    positions: int
    parameters: int
    rows: int
    network_s: float
    network_mb: int
    last_word_planned_s: float
    steps: Sequence[StepCost]


def measure(sizes: Sequence[Size] = SIZES, repeats: int = 2, seed: int = 0) -> list[ModelCosts]:
    """A record for each kind of model and each size: what a network call costs, and a guided step under each set of controls.

    Args:
        sizes: of vocabulary, texts and network.
        repeats: timings of each point; the median counts.
        seed: of weights and noise.

    Raises:
        UsageError: the system does not tell peak memory.
    """
    if not _STATUS.exists():
        raise UsageError(f"bench scale: peak memory is read from {_STATUS}, which this system has not; run it on Linux")
    return [_measured(made(size, seed), size, repeats, seed) for size in sizes for made in (gaussian, masked)]


def gaussian(size: Size, seed: int) -> Backbone:
    """A Diffusion-LM of random weights."""
    torch.manual_seed(seed)
    tokenizer = vocabulary(size.words, mask=False)
    config = DiffusionLMConfig(
        vocab_size=len(tokenizer), width=size.width, depth=size.depth, heads=8, max_seq_len=size.positions
    )
    return GaussianBackbone(DiffusionLM(config), tokenizer, "random")


def masked(size: Size, seed: int) -> Backbone:
    """A masked language model of random weights."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(seed)
    tokenizer = vocabulary(size.words, mask=True)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=size.width, num_hidden_layers=size.depth, num_attention_heads=8,
        intermediate_size=4 * size.width, max_position_embeddings=size.positions,
    )  # fmt: skip
    return MaskedBackbone(BertForMaskedLM(config), tokenizer, "random")


def vocabulary(size: int, mask: bool) -> WordTokenizer:
    """Invented words waaaa, waaab, …, so many with the special ones."""
    words = ("w" + "".join(letters) for letters in product("abcdefghijklmnopqrstuvwxyz", repeat=4))
    return WordTokenizer.train(islice(words, size - 3 - mask), min_count=1, mask=mask)


class Tags(Controller):
    """A tag for every position, by p(tag | word) from invented counts: it speaks of every word, as a guide's control does."""

    reads = "log_probs"

    def plan(self, lm: Backbone) -> Plan:
        words = [frozenset(range(tag, len(lm.tokenizer), TAGS)) for tag in range(TAGS)]
        return Plan(at={place: words[place % TAGS] for place in range(lm.max_seq_len // 2)})

    def bind(self, lm: Backbone) -> Tensor:
        """(positions, vocab), log p(the position's tag | word)."""
        tags = torch.arange(len(lm.tokenizer), device=lm.device) % TAGS
        places = torch.arange(lm.max_seq_len, device=lm.device)[:, None]
        return torch.where((tags == places % TAGS) | (places >= lm.max_seq_len // 2), 0.0, -9.0)

    def word_log_likelihoods(self, state: State) -> Tensor:
        likelihoods: Tensor = state.bound[None, : state.log_probs.shape[1]]
        return likelihoods

    def check(self, text: str) -> Check:
        return Check(1.0, "not judged here")


def control_sets(positions: int) -> dict[str, list[Controller]]:
    """What is measured, by what its points are called."""
    keyword, length = Keyword("waaac waaad"), Length(positions - 2)
    return {
        "none": [],
        "keyword": [keyword],
        "keyword, length, infill": [keyword, length, Infill("waaaa waaab [*] waaae [*] waaaf")],
        "keyword, length, tags": [keyword, length, Tags()],
    }


def _measured(lm: Backbone, size: Size, repeats: int, seed: int) -> ModelCosts:
    usual: dict[str, Any] = {}
    if lm.kind == "gaussian":
        usual = {"temperature": 0.9, "clamp": "soft", "local_likelihood_weight": 0.7}
    process = lm.process(20, **usual)
    draws = _Draws(seed, lm.device)
    points: list[StepCost] = []
    network: tuple[float, float] | None = None
    for name, controllers in control_sets(size.positions).items():
        started = time.process_time()
        controls = [control.bind(lm) for control in with_unique_names(controllers)]
        latents = process.diffuse(*_texts(lm, controls, seed), LEVEL, draws)
        planned = time.process_time() - started
        guidance = TiltGuidance(lm, process, [Group(controls, range(ROWS))])
        if network is None:
            network = costs(partial(_call, lm, latents), repeats)
        step = partial(_step, guidance, latents, draws) if controls else partial(_unguided_step, process, latents, draws)
        seconds, megabytes = costs(step, repeats)
        calls = (seconds - points[0].step_s) / network[0] if points else 0.0
        points.append(StepCost(name, round(planned, 3), round(seconds, 3), round(megabytes), round(calls, 2)))
    started = time.process_time()
    last = with_unique_names([Keyword("waaac", position=-1)])[0].bind(lm)
    _layouts(lm, [last])
    at_the_end = time.process_time() - started
    assert network is not None
    return ModelCosts(
        kind=lm.kind,
        words=size.words,
        positions=size.positions,
        parameters=lm.model.num_parameters(),
        rows=ROWS,
        network_s=round(network[0], 3),
        network_mb=round(network[1]),
        last_word_planned_s=round(at_the_end, 3),
        steps=points,
    )


def _layouts(lm: Backbone, controls: Sequence[BoundControl]) -> Layouts:
    counts = [0] * (lm.max_seq_len - 2) + [10**9]  # all texts as long as they can be
    return Layouts([(control.control.name, control.plan) for control in controls], lm.tokenizer, counts, lm.max_seq_len)


def _texts(lm: Backbone, controls: Sequence[BoundControl], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Texts that a step starts from: words (rows, seq_len), what may stand where, and lengths."""
    layouts = _layouts(lm, controls)
    drawn = [layouts.draw(seeded(seed, row, "layout")) for row in range(ROWS)]
    allowed = torch.stack([layout.allowed for layout in drawn]).to(lm.device)
    return allowed.int().argmax(-1), allowed, torch.tensor([layout.words for layout in drawn], device=lm.device)


@torch.no_grad()
def _call(lm: Backbone, latents: Latents) -> None:
    if lm.kind == "masked":
        lm.model(input_ids=latents.z)
    else:
        lm.model(latents.z, torch.full((ROWS,), LEVEL, device=lm.device))


@torch.no_grad()
def _step(guidance: Guidance, latents: Latents, draws: Draws) -> None:
    guided, after = guidance.predict(latents, LEVEL)
    guidance.step(after, guided, LEVEL, NEXT, draws)


@torch.no_grad()
def _unguided_step(process: Process, latents: Latents, draws: Draws) -> None:
    process.step(latents, process.predict(latents, LEVEL), LEVEL, NEXT, draws)


class _Draws(Draws):
    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator, self.device = seeded(seed, "noise"), device

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(ROWS, *shape, generator=self.generator).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(ROWS, *shape, generator=self.generator).to(self.device)


_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def costs(run: Callable[[], None], repeats: int) -> tuple[float, float]:
    """Median CPU seconds of a call, and by how many MB the memory at its peak exceeds that before."""
    ctypes.CDLL(None).malloc_trim(0)  # what earlier calls freed must not hide what this one takes
    _RESET.write_text("5")  # the peak starts anew (man 5 proc)
    before = _kilobytes("VmRSS")
    run()
    peak = _kilobytes("VmHWM")
    return statistics.median(_seconds(run, repeats)), max(0, peak - before) / 1000


def _seconds(run: Callable[[], None], repeats: int) -> Iterator[float]:
    for _ in range(repeats):
        started = time.process_time()
        run()
        yield time.process_time() - started


def _kilobytes(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])
