"""Named ways of sampling."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dlm_control.diffusion.samplers import CLAMPS, DDIM, ORDERS, SAMPLERS, SPACINGS
from dlm_control.support.errors import ErrorCollector, UsageError, suggestion
from dlm_control.support.validation import check_arguments
from dlm_control.support.values import Above, Between, Bound, NoiseLevels, OneOf

if TYPE_CHECKING:
    from dlm_control.diffusion.backbone import Backbone

OWN = "preset.yaml"  # in the folder of a model
SELECTIONS = ("checks", "energies", "likelihood", "mbr")
GUIDANCES = ("tilt", "paper")
SCALES = ("nats", "rms")
CONFLICTS = ("sum", "project")
LEAST_FOR_MBR = 3  # of two texts each is as like the other


Count = Annotated[int, Above(0)]
Factor = Annotated[float, Above(0)]


@dataclass(frozen=True)
class Preset:
    """How a text is sampled.

    Attributes:
        steps: denoising steps.
        sampler, spacing: see `dlm_control.diffusion.samplers`.
        temperature: of the word distributions.
        clamp: `off`, `soft` or `hard`.
        local_likelihood_weight: power of each position's own likelihood p(x_t | word); see `GaussianProcess`.
        order: in which a masked model settles its words; see `MaskedProcess`.
        remask: share of its words that a masked model settles anew at each step; see `MaskedProcess`.
        guidance: `tilt` (Bayes' rule on word distributions) or `paper` (the 2022 update).
        fluency_weight: λ of the 2022 update.
        candidates: texts drawn for each text returned.
        select: how one of them is chosen: `checks` (most obedient), `energies` (most obedient by the guides, no look at the
            checks), `likelihood` (of those that obey by the guides the likeliest under the model itself), or `mbr` (most like
            the others).
        particles: texts that run side by side, weighed by the controls, of which one is drawn by weight; 1 is none. See
            `Particles`.
        resample_below: particles are resampled where their effective sample size is below this share of them.
        weight: factor of every control's weight.
        interval: noise levels (from, to) outside of which no control steers, whatever its own interval.
        scale, conflict, lagrangian: how the tilts of several controls are made comparable and added up; see `TiltGuidance`.
        early_stop: an item is finished once its words stay the same for a step and all checks hold, at noise levels of 0.5 or
            less; it costs a look at the checks.
        batch_size: rows of a network call; by default 4 on a CPU and 64 elsewhere. A text is bit for bit the same alone, in
            company and in another order; under another batch size it differs by rounding.
        max_calls: budget of network calls for each text returned; a preset that would exceed it is refused.
    """

    steps: Count = 16
    sampler: Annotated[str, OneOf(lambda: SAMPLERS)] = "ancestral"
    spacing: Annotated[str, OneOf(lambda: SPACINGS)] = "uniform"
    temperature: Factor = 0.9
    clamp: Annotated[str, OneOf(lambda: CLAMPS)] = "soft"
    local_likelihood_weight: Factor = 0.7
    order: Annotated[str, OneOf(lambda: ORDERS)] = "confidence"
    remask: Annotated[float, Between(0, 1)] = 0.0
    guidance: Annotated[str, OneOf(lambda: GUIDANCES)] = "tilt"
    fluency_weight: Factor = 0.01
    candidates: Count = 3
    select: Annotated[str, OneOf(lambda: SELECTIONS)] = "likelihood"
    particles: Count = 1
    resample_below: Annotated[float, Between(0, 1)] = 0.5
    weight: Factor = 1.0
    interval: NoiseLevels = (0.0, 0.95)
    scale: Annotated[str, OneOf(lambda: SCALES)] = "nats"
    conflict: Annotated[str, OneOf(lambda: CONFLICTS)] = "sum"
    lagrangian: Annotated[float, Bound("of 0 (off) or more", lambda rate: rate >= 0)] = 0.0
    early_stop: bool = False
    batch_size: Count | None = None
    max_calls: Count | None = None

    def calls(self) -> int:
        """Network calls for each text returned, gradients through the network not counted."""
        return self.steps * self.candidates * self.particles


# A name says what a preset is for; each kind of model has its own values for it. For a Gaussian model `default` is what
# `dlm tune` chose on targets of training sentences, results/tuning/default.yaml, but that of the candidates that obey the
# likeliest is taken; of a masked model, results/tuning/masked.yaml. `sound` costs twice as much, and fewer of its texts are
# broken. A masked model settles words at the first call already, so controls steer it at all noise levels; in random order its
# texts are as diverse as people's, and more of them have a flaw.
PRESETS: dict[str, dict[str, Preset]] = {
    "gaussian": {
        "default": Preset(),
        "sound": Preset(candidates=6),
        "fast": Preset(steps=20, candidates=1),
        "particles": Preset(candidates=1, particles=16),
        "single": Preset(steps=50, temperature=1.2, local_likelihood_weight=0.85, candidates=1, interval=(0.0, 1.0)),
        "paper": Preset(
            steps=200, sampler="ddim-eta1", temperature=1.0, clamp="hard", local_likelihood_weight=1.0, guidance="paper",
            candidates=1, select="checks", interval=(0.0, 1.0),
        ),
    },
    "masked": {
        "default": Preset(steps=24, candidates=2, interval=(0.0, 1.0)),
        "sound": Preset(candidates=6, interval=(0.0, 1.0)),
        "fast": Preset(steps=20, candidates=1, interval=(0.0, 1.0)),
        "particles": Preset(steps=24, candidates=1, particles=16, interval=(0.0, 1.0)),
        "single": Preset(steps=50, order="random", temperature=0.7, candidates=1, interval=(0.0, 1.0)),
    },
}  # fmt: skip
NAMES = tuple(dict.fromkeys(name for presets in PRESETS.values() for name in presets))


def presets_of(kind: str) -> dict[str, Preset]:
    """The presets of a kind of model, by name; where it has no own values for a name, those of Gaussian models."""
    return {**PRESETS["gaussian"], **PRESETS.get(kind, {})}


@dataclass(frozen=True)
class PresetChoice:
    """A preset as users choose one, before it is known for which kind of model.

    Attributes:
        name: of the preset.
        changes: values that replace its own.
    """

    name: str = "default"
    changes: Mapping[str, Any] = field(default_factory=dict)

    def for_model(self, lm: Backbone) -> Preset:
        """The preset for a model.

        Raises:
            UsageError: as `preset_for`.
        """
        return preset_for(self.name, lm, **self.changes)

    def of(self, kind: str) -> Preset:
        """The preset for models of that kind.

        Raises:
            UsageError: as `preset`.
        """
        return preset(self.name, kind, **self.changes)


def named_preset(source: str) -> dict[str, Any]:
    """What a name or a preset file says: `name`, and what it changes of that preset.

    Args:
        source: a name, or a file that `dlm tune` wrote; one without `name` changes the default.

    Raises:
        UsageError: the file is not YAML, or no mapping.
    """
    from dlm_control.support.yaml_file import read_yaml

    if source in NAMES or not os.path.isfile(source):
        return {"name": source}
    return {"name": "default", **read_yaml(Path(source)).content}


def preset(name: str, kind: str = "gaussian", /, **changes: Any) -> Preset:
    """The named preset with some of its values replaced.

    Args:
        name: of the preset.
        kind: of the model it is for.
        **changes: values that replace its own.

    Raises:
        UsageError: unknown name or key, or values that cannot be; all in one report.
    """
    problems = ErrorCollector(f"preset {name!r}")
    if name not in NAMES:
        problems.add("", f"unknown{suggestion(name, NAMES)}; there are: {', '.join(NAMES)}")
    found = check_arguments(problems, "", Preset, changes)
    problems.raise_if_any()
    made = replace(presets_of(kind)[name], **found)
    if made.candidates == 1 and "select" not in found:
        made = replace(made, select="energies")  # there is no choice: a likelihood that nobody asked for would cost calls
    if made.particles > 1 and not SAMPLERS[made.sampler]().stochastic:
        stochastic = ", ".join(s for s in SAMPLERS if SAMPLERS[s]().stochastic)
        problems.add("sampler", f"{made.sampler!r} is deterministic: copies of a particle would never part; use {stochastic}")
    if made.guidance == "paper" and not isinstance(SAMPLERS[made.sampler](), DDIM):
        problems.add("sampler", f"the 2022 update needs a ddim step's moments, not {made.sampler!r}; use ddim or ddim-eta1")
    only_tilt = {"scale": "nats", "conflict": "sum", "lagrangian": 0.0}
    for key, plain in only_tilt.items():
        if made.guidance == "paper" and getattr(made, key) != plain:
            problems.add(key, f"the 2022 update has no {key}; leave it out, or use guidance: tilt")
    if made.early_stop and made.particles > 1:
        problems.add("early_stop", "particles are resampled together, none can stop before the others; give one of the two")
    if made.particles > 1 and made.guidance == "paper":
        problems.add("particles", "are weighed by p(step), which the 2022 update does not tell; use guidance: tilt")
    if made.particles > 1 and made.remask:
        problems.add("remask", "particles are weighed by p(step), which words that are masked again do not have; leave it out")
    if made.select == "mbr" and made.candidates < LEAST_FOR_MBR:
        message = f"mbr takes the text most like the others and needs {LEAST_FOR_MBR} or more of them, not {made.candidates}"
        problems.add("select", f"{message}; raise candidates, or select: checks")
    if made.max_calls is not None and made.calls() > made.max_calls:
        product = f"{made.steps} steps × {made.candidates} candidates × {made.particles} particles"
        problems.add("max_calls", f"{product} = {made.calls()} network calls a text exceed the budget of {made.max_calls}")
    problems.raise_if_any()
    return made


def preset_for(name: str, lm: Backbone, /, **changes: Any) -> Preset:
    """The named preset of a model: its own default is what `preset.yaml` in its folder says.

    Args:
        name: of the preset.
        lm: the model.
        **changes: values that replace the preset's.

    Raises:
        UsageError: as `preset`; or the model's file is faulty.
    """
    own = lm.once("preset", lambda: _own(lm.home, lm.kind)) if name == "default" else {}
    return preset(name, lm.kind, **{**own, **changes})


def _own(home: Path | None, kind: str) -> dict[str, Any]:
    """What a model's file changes of the default of its kind."""
    file = home / OWN if home else None
    if file is None or not file.is_file():
        return {}
    content = named_preset(str(file))
    name = content.pop("name")
    if name != "default":
        raise UsageError(f"{file}: changes the preset {name!r}; a model's own is its default")
    try:
        preset("default", kind, **content)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    return content


def check_kind(given: Preset, kind: str, settings: Sequence[str]) -> None:
    """Refuse what a preset asks of models of another kind.

    Args:
        given: the preset.
        kind: of the model.
        settings: the values of a preset that a process of this kind takes.

    Raises:
        UsageError: values are set, other than the default's, that this kind has no use for.
    """
    problems, usual = ErrorCollector("preset"), Preset()
    if given.guidance == "paper" and kind != "gaussian":
        problems.add("guidance", f"the 2022 update moves noisy embeddings, and a {kind} model has none; use tilt")
    for name in _OF_A_KIND:
        if name not in settings and getattr(given, name) != getattr(usual, name):
            message = f"{getattr(given, name)!r} is nothing that a {kind} model can use; it takes {', '.join(settings)}"
            problems.add(name, message)
    problems.raise_if_any()


_OF_A_KIND = ("sampler", "spacing", "clamp", "local_likelihood_weight", "order", "remask")
