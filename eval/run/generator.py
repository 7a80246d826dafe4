"""What writes the texts of a suite: our diffusion model or a baseline, behind one small interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from dlm_control.pipeline import LanguageModel, load
from dlm_control.sampling.generate import Request
from dlm_control.sampling.presets import Preset, check_kind, named_preset, preset, preset_for
from dlm_control.support.registry import Registry, subclass_of
from dlm_control.support.validation import construct
from dlm_control.tasks.suite import Suite
from dlm_control.tasks.targets.target import NOISE_AWARE, WORDS, Guides, Target

if TYPE_CHECKING:
    from dlm_control.diffusion.backbone import Backbone

G = TypeVar("G", bound="type[Generator]")


class Output(NamedTuple):
    """One text, and the network calls spent on it."""

    text: str
    calls: float


class Generator(ABC):
    """Writes texts for targets. Its constructor takes the suite, a model, and its own settings.

    Attributes:
        guides: which guides it wants the targets' controls to have.
        home: folder of its model, whose domain has a teacher; None where it is not known.
        together: how many targets it writes for at once, for they share network calls.
    """

    guides: Guides = WORDS
    home: Path | None = None
    together: int = 1

    @abstractmethod
    def texts(self, target: Target, indices: Sequence[int], seed: int) -> list[Output]:
        """One text for each index; a function of its arguments alone.

        Raises:
            UsageError: it cannot write for such a target, which then counts as failed.
        """

    def texts_of_many(self, targets: Sequence[Target], indices: Sequence[Sequence[int]], seed: int) -> list[list[Output]]:
        """As `texts`, for several targets.

        Raises:
            UsageError: it cannot write for one of them; the others are then asked for alone.
        """
        return [self.texts(target, each, seed) for target, each in zip(targets, indices, strict=True)]

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """What the texts depend on, for the manifest."""


GENERATORS: Registry[type[Generator]] = Registry(
    "generator", "dlm_control.generators", "a subclass of Generator", subclass_of(Generator)
)


def register_generator(name: str) -> Callable[[G], G]:
    """Class decorator: make a Generator known under a name.

    Raises:
        UsageError: the name is none or is taken by another class, or the decorated thing is no Generator.
    """
    GENERATORS.check_name(name)

    def register(cls: G) -> G:
        GENERATORS.register(name, cls, cls)
        return cls

    return register


_USUAL = {"device": "cpu", "dtype": "float32"}  # of which the plans of older runs say nothing


class Diffusion(Generator):
    """A frozen Diffusion-LM under the targets' controls.

    Args:
        suite: may change what a preset says.
        model: bundled name, folder or hub id, or a loaded model.
        preset: a name, or a file that `dlm tune` wrote.
        unconditional: leave out all controls, for comparison.
        **changes: of the preset.
    """

    def __init__(
        self,
        suite: Suite,
        model: str | LanguageModel | None = None,
        preset: str = "default",
        unconditional: bool = False,
        **changes: Any,
    ) -> None:
        self.lm = model if isinstance(model, LanguageModel) else _loaded(model or "e2e")
        self.home = self.lm.backbone.home
        self.unconditional, self.together = unconditional, 16
        self.preset = chosen_preset(preset, changes, suite.presets, self.lm.backbone)
        check_kind(self.preset, self.lm.backbone.kind, self.lm.backbone.settings)
        if self.preset.guidance == "paper":
            self.guides = NOISE_AWARE

    def texts(self, target: Target, indices: Sequence[int], seed: int) -> list[Output]:
        return self.texts_of_many([target], [indices], seed)[0]

    def texts_of_many(self, targets: Sequence[Target], indices: Sequence[Sequence[int]], seed: int) -> list[list[Output]]:
        requests = [
            Request([] if self.unconditional else target.controls, tuple(each), seed)
            for target, each in zip(targets, indices, strict=True)
        ]
        made = self.lm.generate_many(requests, preset=self.preset)
        return [[Output(sample.text, sample.calls) for sample in samples] for samples in made]

    def provenance(self) -> dict[str, Any]:
        backbone = self.lm.backbone
        place = {"device": backbone.device.type, "dtype": str(backbone.dtype).removeprefix("torch.")}
        return {
            "model": backbone.source, "model_fingerprint": backbone.fingerprint, "weights": backbone.weights_digest,
            "preset": asdict(self.preset), "controls": "none" if self.unconditional else "all",
            "guides": "noise-aware" if self.guides == NOISE_AWARE else "words",
            **({} if place == _USUAL else place),
        }  # fmt: skip


def chosen_preset(
    source: str,
    changes: Mapping[str, Any],
    suites: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    lm: Backbone | None = None,
) -> Preset:
    """A named preset or one of a file, changed: by the suite, over that by the file, over that by the caller.

    Args:
        source: a name, or a file.
        changes: the caller's.
        suites: what the suite changes, by the name of a preset.
        lm: the model, whose own default comes first of all; None for the values of Gaussian models.

    Raises:
        UsageError: neither, or faulty values.
    """
    given = named_preset(source)
    name = str(given.pop("name"))
    values = {**suites.get(name, {}), **given, **changes}
    return preset_for(name, lm, **values) if lm else preset(name, **values)


def generator(name: str, suite: Suite, model: Any, settings: dict[str, Any]) -> Generator:
    """The generator of that name.

    Args:
        name: that it is registered under.
        suite: that it writes for.
        model: what it writes with: a bundled name, a folder, a hub id or a loaded model; None for its own default.
        settings: further arguments of its constructor.

    Raises:
        UsageError: an unknown name or setting.
    """
    cls = GENERATORS.find(name, "--generator: unknown")
    return construct(cls, f"--generator {name}", suite, model, **settings)


@cache
def _loaded(model: str) -> LanguageModel:
    return load(model)
