"""What happened while a spec's texts were made: a table, a picture and a sentence, from the trace of every control."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlm_control.control.use import Control
from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.presets import Preset
from dlm_control.sampling.sample import Sample
from dlm_control.sampling.trace import Effect, Trace
from dlm_control.support.errors import UsageError

UNLIKELY = 6 * math.log(10)  # nats: p < 1e-6
PICTURES = (".png", ".svg", ".pdf")
CONTENT = 0.1  # nats
APART = -0.1  # cosine
_ROWS = 8  # of the table, for each control


@dataclass(frozen=True)
class Row:
    """One control at one noise level, mean over items.

    Attributes:
        t: noise level in [0, 1].
        control: its name.
        energy: −log p(control | state), nats, before the push.
        share: of the control's push in the lengths of all pushes, in [0, 1].
        words_changed: positions whose likeliest word its push alone changes.
        cosine: mean over the pushes of the other controls, in [−1, 1]; NaN where no other control pushes.
    """

    t: float
    control: str
    energy: float
    share: float
    words_changed: float
    cosine: float


PANELS: dict[str, Callable[[Row], float]] = {
    "energy, nats": lambda row: row.energy,
    "share of the update": lambda row: row.share,
    "words changed by it alone": lambda row: row.words_changed,
    "cosine with the others": lambda row: row.cosine,
}
"""What the picture draws over noise levels, by its label."""


def rows(trace: Trace) -> list[Row]:
    """The trace, averaged over items; controls in their order, noise falling."""
    grouped: dict[tuple[str, float], list[Effect]] = {}
    for t, _, control, effect in trace.effects():
        grouped.setdefault((control, t), []).append(effect)
    names = list(dict.fromkeys(control for control, _ in grouped))
    made = [
        Row(
            t,
            control,
            _mean([effect.energy for effect in effects]),
            _mean([effect.share for effect in effects]),
            _mean([len(effect.changed) for effect in effects]),
            _mean([cosine for effect in effects for cosine in effect.cosines.values()]),
        )
        for (control, t), effects in grouped.items()
    ]
    return sorted(made, key=lambda row: (names.index(row.control), -row.t))


def thinned(table: Sequence[Row]) -> list[Row]:
    """At most eight rows a control, evenly over its steps, first and last among them."""
    kept = []
    for control in dict.fromkeys(row.control for row in table):
        of_control = [row for row in table if row.control == control]
        last = len(of_control) - 1
        kept += [of_control[i] for i in sorted({round(k * last / (_ROWS - 1)) for k in range(_ROWS)})]
    return kept


def warnings(controls: Sequence[Control], trace: Trace, samples: Sequence[Sample]) -> list[str]:
    """Which controls lose: their guides see p < 1e-6 at every noise level of some text, the finished one included.

    An energy that is not calibrated says that of the finished text alone.
    """
    found = []
    for control in controls:
        lowest = {sample.index: sample.energies[control.name] for sample in samples if control.name in sample.energies}
        for _, index, name, effect in trace.effects():
            if name == control.name and control.controller.calibrated and index in lowest:
                lowest[index] = min(lowest[index], effect.energy)
        losing = [energy for energy in lowest.values() if energy > UNLIKELY]
        if losing:
            best = math.exp(-min(losing))
            found.append(
                f"{control.name} loses in {len(losing)} of {len(lowest)} texts: its guide saw it at p = {best:.0e} at best, so "
                "the other controls leave it hardly any text; weaken one of them, or raise its weight"
            )
    return found


def sentence(controls: Sequence[Control], trace: Trace, samples: Sequence[Sample]) -> str:
    """What happened, in one sentence."""
    table = rows(trace)
    outcome = f"{sum(sample.passed for sample in samples)} of {len(samples)} texts obey all controls"
    parts = []
    for control in controls:
        steps = [row for row in table if row.control == control.name]
        if not steps:
            continue
        busiest = max(steps, key=lambda row: row.words_changed)
        changed = f"changed most words at t = {busiest.t:.2f}" if busiest.words_changed >= 0.05 else "changed no word by itself"
        settled = next((row.t for row in steps if row.energy < CONTENT), None)
        if control.controller.calibrated:
            after = f"was content from t = {settled:.2f} on" if settled is not None else "was never content"
            parts.append(f"{control.name} {changed} and {after}")
        else:
            final = _mean([sample.energies[control.name] for sample in samples if control.name in sample.energies])
            parts.append(f"{control.name} {changed} and ended at {final:.2f} nats")
    if not parts:
        return f"No control steered: what was asked is fixed before sampling, or has no energy; {outcome}."
    pulling = [row for row in table if not math.isnan(row.cosine)]
    if pulling:
        worst = min(pulling, key=lambda row: row.cosine)
        apart = f"{worst.control} and the others pulled apart most at t = {worst.t:.2f}, cosine {worst.cosine:.2f}"
        parts.append(apart if worst.cosine < APART else "none pulled against the others")
    return f"{'; '.join(parts)}; {outcome}."


def holders(trace: Trace, sample: Sample) -> list[tuple[str, str | None]]:
    """Each word of a text, and the control that changed it most: see `Draft.held`. None: the model chose it by itself."""
    last = [*trace.drafts_of(sample.index, sample.words).values()][-1]
    return [(word, last.held.get(position)) for position, word in enumerate(last.words)]


def explanations(controls: Sequence[Control], lm: LanguageModel) -> dict[str, str]:
    """What the controls that steer make of their targets for this model, by name, where they tell."""
    told = {control.name: control.controller.explanation(lm.backbone) for control in controls if control.weight > 0}
    return {name: explanation for name, explanation in told.items() if explanation}


def traceable(preset: Preset) -> None:
    """
    Raises:
        UsageError: its guidance tells nothing of what the controls do.
    """
    if preset.guidance != "tilt":
        raise UsageError(f"explain: the guidance {preset.guidance!r} leaves no trace; use guidance: tilt")


def drawable(file: Path) -> None:
    """
    Raises:
        UsageError: matplotlib is missing, or the file's ending is no picture's.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("the picture needs matplotlib: pip install 'dlm-control[plot]'")
    if file.suffix not in PICTURES:
        raise UsageError(f"--picture {file}: expected a name that ends with {', '.join(PICTURES)}")


def draw(trace: Trace, file: Path, title: str) -> None:
    """The picture: energy, share, words changed and cosine over noise levels, a line a control.

    Raises:
        UsageError: as `drawable`.
    """
    drawable(file)
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    table = rows(trace)
    figure, axes = plt.subplots(2, 2, figsize=(10, 6), sharex=True, layout="constrained")
    for axis, label in zip(axes.flat, PANELS, strict=True):
        draw_panel(axis, table, label)
    axes[0, 1].legend()
    for axis in axes[1]:
        axis.set_xlabel("noise level t (sampling runs to the right)")
    figure.suptitle(title)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def draw_panel(axis: Any, table: Sequence[Row], label: str) -> None:
    """One panel of the picture: a line a control.

    Args:
        axis: of matplotlib.
        table: of the trace.
        label: of the panel, one of PANELS.
    """
    for control in dict.fromkeys(row.control for row in table):
        of_control = [row for row in table if row.control == control]
        axis.plot([row.t for row in of_control], [PANELS[label](row) for row in of_control], label=control)
    axis.set_ylabel(label)
    axis.set_xlim(1, 0)
    axis.grid(alpha=0.3)
    if label.startswith("energy"):
        axis.set_yscale("symlog", linthresh=0.1)
    if label.startswith("cosine"):
        axis.set_ylim(-1.05, 1.05)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
