"""The frozen language model with its vocabulary: what users load and generate with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from torch import Tensor

from dlm_control.control.controller import Controller
from dlm_control.control.use import Control
from dlm_control.diffusion.model import DiffusionLM
from dlm_control.sampling.generate import generate
from dlm_control.sampling.presets import Preset, preset
from dlm_control.sampling.sample import Sample
from dlm_control.sampling.trace import Trace
from dlm_control.support.errors import Problems, UsageError
from dlm_control.support.hub import model_folder
from dlm_control.support.progress import hush, progress
from dlm_control.support.validation import checked_call_of
from dlm_control.support.values import Above, AtLeast, Seed
from dlm_control.text.tokenizer import WordTokenizer

T = TypeVar("T")


class LanguageModel:
    """A frozen Diffusion-LM.

    Attributes:
        model: the network.
        tokenizer: its words.
        source: what it was loaded from.
    """

    def __init__(self, model: DiffusionLM, tokenizer: WordTokenizer, source: str = "") -> None:
        self.model, self.tokenizer, self.source = model.eval().requires_grad_(False), tokenizer, source
        self._loaded: dict[str, Any] = {}

    @cached_property
    def embeddings(self) -> Tensor:
        """(vocab, dim), the table that is diffused."""
        table: Tensor = self.model.embeddings.detach()
        return table

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The words by id. (get_vocab() comes in another order in every process.)"""
        return tuple(self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer)))))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of vocabulary and embedding table, in float32 on the CPU: a guide fits the models that share it."""
        table = self.model.diffused(self.model.word_embedding.weight.detach().float().cpu()).numpy().round(4).tobytes()
        return hashlib.sha256(table + "\n".join(self.vocabulary).encode()).hexdigest()[:16]

    @cached_property
    def weights_digest(self) -> str:
        """Hash of all weights, in float32 on the CPU."""
        digest = hashlib.sha256()
        for _, tensor in sorted(self.model.state_dict().items()):
            digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def once(self, name: str, load: Callable[[], T]) -> T:
        """The result of load(), kept under a name: where controllers keep their guides."""
        if name not in self._loaded:
            self._loaded[name] = load()
        kept: T = self._loaded[name]
        return kept

    def ids(self, text: str, place: str) -> tuple[int, ...]:
        """The word ids of a target's text.

        Raises:
            UsageError: it has no words, or words that the vocabulary lacks; suggestions come with it.
        """
        if not self.tokenizer.words(text):
            raise UsageError(f"{place}: {text!r} has no words")
        problems = Problems(place)
        vocabulary = self.vocabulary
        for word in {*self.tokenizer.words(text)} & {*self.tokenizer.all_special_tokens}:
            problems.add("", f"{word!r} is a sign of the model's own, which stands in no text; use another word")
        for word in self.tokenizer.unknown(text):
            near = [v for v in vocabulary if v.lower() == word.lower()] or _similar(word, vocabulary)
            hint = f"; near it: {', '.join(near[:3])}" if near else ""
            problems.add("", f"the word {word!r} is not among the {len(vocabulary)} the model knows{hint}")
        problems.raise_if_any()
        return tuple(self.tokenizer.word_ids(text))

    @checked_call_of("generate", own=1)
    def generate(
        self,
        controls: Sequence[Controller | Control] = (),
        num_samples: Annotated[int, Above(0)] = 1,
        seed: Seed = 0,
        preset: Preset | str = "default",
        indices: Sequence[Annotated[int, AtLeast(0)]] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        trace: Trace | None = None,
        **changes: Any,
    ) -> list[Sample]:
        """Texts that obey all controls.

        Args:
            controls: controllers, or Controls where a weight, an interval or a name is wanted.
            num_samples: how many texts.
            seed: text i is a function of (controls, preset, seed, i) alone.
            preset: a name, or a Preset.
            indices: the i of each text, 0 … num_samples − 1 by default.
            on_error: `skip` lets the other items live when a control fails for one: that one's sample says how, in `error`.
            trace: is told what every control does at every step.
            **changes: values of the preset to replace, such as steps=20.

        Raises:
            UsageError: controls that contradict each other or the vocabulary, or a preset that cannot be.
        """
        chosen = _preset(preset, changes)
        if trace is not None and chosen.guidance != "tilt":
            raise UsageError(f"trace: the guidance {chosen.guidance!r} leaves no trace; use guidance: tilt")
        wanted = list(range(num_samples)) if indices is None else list(indices)
        total = len(wanted) * chosen.candidates * chosen.particles * chosen.steps
        with progress("generate", total=total) as bar:
            return generate(self, named(controls), wanted, seed, chosen, bar.advance, on_error == "skip", trace)

    def __repr__(self) -> str:
        return f"LanguageModel({self.source!r}, {len(self.tokenizer)} words, {self.model.num_parameters():,} parameters)"


@checked_call_of("load")
def load(source: str | Path = "e2e") -> LanguageModel:
    """A language model.

    Args:
        source: a bundled name (`e2e`), a folder that `dlm train` wrote, or a hub id.

    Raises:
        UsageError: nothing is there, or it is no Diffusion-LM.
    """
    folder = model_folder(source)
    hush()
    try:
        loaded: Any = DiffusionLM.from_pretrained(folder, output_loading_info=True)
        model, report = loaded
        tokenizer = WordTokenizer.from_pretrained(folder)
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        raise UsageError(f"model {str(source)!r}: {folder} does not load: {str(error).strip().splitlines()[0]}") from None
    wrong = [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]
    if wrong:
        raise UsageError(f"model {str(source)!r}: the weights are of another shape or model than config.json says: {wrong[0]}")
    return LanguageModel(model, tokenizer, str(source))


def named(controls: Sequence[Controller | Control]) -> list[Control]:
    """Controls with unique names: the registry's, numbered where several share one."""
    given = [c if isinstance(c, Control) else Control(c.name or type(c).__name__.lower(), c) for c in controls]
    counts: dict[str, int] = {}
    for control in given:
        counts[control.name] = counts.get(control.name, 0) + 1
    seen: dict[str, int] = {}
    unique = []
    for control in given:
        seen[control.name] = seen.get(control.name, 0) + 1
        name = control.name if counts[control.name] == 1 else f"{control.name}#{seen[control.name]}"
        unique.append(replace(control, name=name))
    return unique


def _preset(given: Preset | str, changes: dict[str, Any]) -> Preset:
    if isinstance(given, str):
        return preset(given, **changes)
    return preset("default", **{**vars(given), **changes})


def _similar(word: str, vocabulary: Sequence[str]) -> list[str]:
    import difflib

    return difflib.get_close_matches(word, list(vocabulary), n=3, cutoff=0.7)
