"""What can be known before the first network call: can this model obey these controls, all at once?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.feasible import check_feasible
from dlm_control.sampling.firmness import Firmness, firmness
from dlm_control.sampling.generate import under
from dlm_control.sampling.presets import check_kind
from dlm_control.sampling.trace import Trace
from dlm_control.support.errors import ErrorCollector, UsageError
from dlm_control.support.include import BeforeInclude
from dlm_control.tasks.explain import warnings
from dlm_control.tasks.guided import loaded
from dlm_control.tasks.spec import Spec, draft_spec

PROBES = 4  # texts


def preflight(spec: Spec, lm: LanguageModel, problems: ErrorCollector | None = None) -> None:
    """Check a spec against its model.

    Args:
        spec: what to generate.
        lm: with which model.
        problems: faults found in the spec so far, for one report of them all.

    Raises:
        UsageError: words the model does not know, texts longer than it takes, controls that contradict each other,
            a preset for models of another kind, a budget of network calls that does not suffice: all in one report.
    """
    problems = problems or ErrorCollector(spec.source, spec.lines)
    try:
        check_kind(spec.preset.for_model(lm.backbone), lm.backbone.kind, lm.backbone.settings)
    except UsageError as error:
        problems.extend("preset", error)
    check_feasible(lm.backbone, list(zip(spec.places, spec.controls, strict=True)), problems)
    problems.raise_if_any()


def unlikely(spec: Spec, lm: LanguageModel) -> list[str]:
    """Which controls lose against the others, though no fault says so: seen in four texts of a spec that has no faults.

    Raises:
        UsageError: a control fails.
    """
    chosen = spec.preset.for_model(lm.backbone)
    if chosen.guidance != "tilt":
        return []
    trace = Trace()
    samples = lm.generate(spec.controls, PROBES, spec.seed, chosen, on_error=spec.on_error, callback_on_step=trace)
    return warnings(spec.controls, trace, samples)


class Validated(NamedTuple):
    """What is known of a spec without faults: how firmly each control is held, and which are unlikely."""

    firmness: dict[str, Firmness]
    warnings: list[str]


def firmness_of(spec: Spec, lm: LanguageModel) -> dict[str, Firmness]:
    """How firmly each control of a spec without faults is held."""
    preset = spec.preset.for_model(lm.backbone)
    return {control.name: firmness(under(preset, control).bind(lm.backbone), preset) for control in spec.controls}


def validator(
    probe: bool = False, guides: Sequence[str] | None = None, before_include: BeforeInclude | None = None
) -> Callable[[Path, str | None], Validated]:
    """A function (file, model in place of the file's or None) that raises every fault of a spec file in one report.

    Each model is loaded once for all files.

    Args:
        probe: sample a few texts of specs without faults; the function then warns of what is unlikely.
        guides: of the models, as for `loaded`.
        before_include: as for `read_spec`.
    """
    model_of = cache(partial(loaded, guides=guides))

    def faultless(path: Path, model: str | None) -> Validated:
        spec, problems = draft_spec(path, {"model": model}, before_include)
        try:
            lm = model_of(spec.model)
        except UsageError as error:
            problems.add("model", str(error).removeprefix(f"model {spec.model!r}: "))
            problems.raise_if_any()
            raise
        preflight(spec, lm, problems)
        return Validated(firmness_of(spec, lm), unlikely(spec, lm) if probe else [])

    return faultless
