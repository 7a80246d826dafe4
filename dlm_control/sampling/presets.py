"""Named ways of sampling."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from dlm_control.diffusion.samplers import DDIM, SAMPLERS, SPACINGS
from dlm_control.support.errors import Problems, shown, suggestion

SELECTIONS = ("checks", "energies", "mbr")


@dataclass(frozen=True)
class Preset:
    """How a text is sampled.

    Attributes:
        steps: denoising steps.
        sampler, spacing: see `dlm_control.diffusion.samplers`.
        temperature: of the word distributions.
        clamp: `off`, `soft` or `hard`.
        evidence: power of each position's own likelihood p(x_t | word); see `Denoiser`.
        guidance: `tilt` (Bayes' rule on word distributions) or `paper` (the 2022 update).
        strength: λ of the 2022 update.
        candidates: texts drawn for each text returned.
        select: how one of them is chosen: `checks` (most obedient), `energies` (most obedient by the guides, no look at the
            checks), then likeliest; or `mbr` (most like the others).
        particles: texts that run side by side and are resampled at `resample_at` by their checks; 1 is none.
        resample_at: noise levels.
        weight: factor of every control's weight.
        interval: noise levels (from, to) outside of which no control steers, whatever its own interval.
        scale, conflict, lagrangian: how the tilts of several controls are made comparable and added up; see `TiltGuidance`.
        early_stop: an item is finished once its words stay the same for a step and all checks hold, at noise levels of 0.5 or
            less; it costs a look at the checks.
        max_calls: budget of network calls for each text returned; a preset that would exceed it is refused.
    """

    steps: int = 16
    sampler: str = "ancestral"
    spacing: str = "uniform"
    temperature: float = 0.9
    clamp: str = "soft"
    evidence: float = 0.7
    guidance: str = "tilt"
    strength: float = 0.01
    candidates: int = 3
    select: str = "energies"
    particles: int = 1
    resample_at: tuple[float, ...] = (0.5, 0.3, 0.15)
    weight: float = 1.0
    interval: tuple[float, float] = (0.0, 0.95)
    scale: str = "nats"
    conflict: str = "sum"
    lagrangian: float = 0.0
    early_stop: bool = False
    max_calls: int | None = None

    def calls(self) -> int:
        """Network calls for each text returned, gradients through the network not counted."""
        return self.steps * self.candidates * self.particles


# `default` is what `dlm tune` chose on targets of training sentences: results/tuning/default.yaml.
PRESETS = {
    "default": Preset(),
    "fast": Preset(steps=20, candidates=1),
    "single": Preset(steps=50, temperature=1.2, evidence=0.85, candidates=1, interval=(0.0, 1.0)),
    "paper": Preset(
        steps=200, sampler="ddim-eta1", temperature=1.0, clamp="hard", evidence=1.0, guidance="paper", candidates=1,
        select="checks", interval=(0.0, 1.0),
    ),
}  # fmt: skip


def named_preset(source: str) -> dict[str, Any]:
    """What a name or a preset file says: `name`, and what it changes of that preset.

    Args:
        source: a name, or a file that `dlm tune` wrote; one without `name` changes the default.

    Raises:
        UsageError: the file is not YAML, or no mapping.
    """
    from dlm_control.support.yaml_file import read_yaml

    if source in PRESETS or not Path(source).is_file():
        return {"name": source}
    return {"name": "default", **read_yaml(Path(source)).content}


def preset(name: str, **changes: Any) -> Preset:
    """The named preset with some of its values replaced.

    Raises:
        UsageError: unknown name or key, or values that cannot be; all in one report.
    """
    from dlm_control.sampling.denoiser import CLAMPS  # torch takes seconds to import; the names of presets do not need it
    from dlm_control.sampling.guidance import CONFLICTS, GUIDANCES, SCALES

    problems = Problems(f"preset {name!r}")
    if name not in PRESETS:
        problems.add("", f"unknown{suggestion(name, PRESETS)}; there are: {', '.join(PRESETS)}")
    known = {f.name for f in fields(Preset)}
    for key in sorted(changes.keys() - known):
        problems.add(key, f"unknown key{suggestion(key, known)}; there are: {', '.join(sorted(known))}")
    choices = {"sampler": SAMPLERS, "spacing": SPACINGS, "clamp": CLAMPS, "guidance": GUIDANCES, "select": SELECTIONS,
               "scale": SCALES, "conflict": CONFLICTS}  # fmt: skip
    for key, options in choices.items():
        if key in changes and not (isinstance(changes[key], str) and changes[key] in options):
            near = suggestion(str(changes[key]), options)
            problems.add(key, f"unknown {shown(changes[key])}{near}; there are: {', '.join(options)}")
    for key in ("steps", "candidates", "particles", "max_calls"):
        if key in changes and not _whole(changes[key]) and not (key == "max_calls" and changes[key] is None):
            problems.add(key, f"expected a whole number above 0, got {changes[key]!r}")
    for key in ("temperature", "strength", "evidence", "weight"):
        if key in changes and not (_number(changes[key]) and 0 < changes[key] < float("inf")):
            problems.add(key, f"expected a number above 0, got {changes[key]!r}")
    if "lagrangian" in changes and not (_number(changes["lagrangian"]) and 0 <= changes["lagrangian"] < float("inf")):
        problems.add("lagrangian", f"expected a number of 0 (off) or more, got {changes['lagrangian']!r}")
    if "interval" in changes:
        ends = changes["interval"]
        if not (isinstance(ends, (list, tuple)) and len(ends) == 2 and all(map(_number, ends)) and 0 <= ends[0] < ends[1] <= 1):
            problems.add("interval", f"expected two noise levels, 0 <= from < to <= 1, such as [0.1, 1.0], got {shown(ends)}")
        else:
            changes["interval"] = (float(ends[0]), float(ends[1]))
    if "early_stop" in changes and not isinstance(changes["early_stop"], bool):
        problems.add("early_stop", f"expected true or false, got {changes['early_stop']!r}")
    if "resample_at" in changes:
        levels = changes["resample_at"]
        if not (isinstance(levels, (list, tuple)) and all(_number(t) and 0 < t < 1 for t in levels)):
            problems.add("resample_at", f"expected noise levels between 0 and 1, got {levels!r}")
        else:
            changes["resample_at"] = tuple(sorted(levels, reverse=True))
    problems.raise_if_any()
    made = replace(PRESETS[name], **changes)
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
    if made.max_calls is not None and made.calls() > made.max_calls:
        product = f"{made.steps} steps × {made.candidates} candidates × {made.particles} particles"
        problems.add("max_calls", f"{product} = {made.calls()} network calls a text exceed the budget of {made.max_calls}")
    problems.raise_if_any()
    return made


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
