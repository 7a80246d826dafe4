"""What `dlm tune` searches: values of presets, and how many steps a budget of network calls leaves each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dlm_control.sampling.presets import LEAST_FOR_MBR, Preset, preset
from dlm_control.support.errors import ErrorCollector, UsageError
from dlm_control.support.values import Fits, MisfitError, fitted
from dlm_control.support.yaml_file import read_yaml

if TYPE_CHECKING:
    from optuna import Trial

    from dlm_control.diffusion.backbone import Backbone

Space = Mapping[str, Sequence[Any]]  # keys of a preset, and the values to try

# How often candidates are drawn and which steps that leaves are decided by --calls.
SPACES: dict[str, Space] = {
    "gaussian": {
        "candidates": [1, 2, 3, 4, 6],
        "temperature": [0.8, 0.9, 1.0, 1.1, 1.2],
        "local_likelihood_weight": [0.7, 0.85, 1.0],
        "clamp": ["off", "soft"],
        "weight": [0.75, 1.0, 1.5, 2.0],
        "interval": [[0.0, 1.0], [0.0, 0.95], [0.05, 1.0]],
    },
    "masked": {
        "candidates": [1, 2, 3, 4],
        "order": ["confidence", "random", "left_to_right"],
        "remask": [0.0, 0.03, 0.05, 0.1],
        "temperature": [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2],
        "weight": [0.75, 1.0, 1.5, 2.0],
    },
}
_Tried = Annotated[list[Any], Fits("a list of values to try", lambda values: len(values) > 0)]


def read_space(path: Path, kind: str) -> Space:
    """The keys and values of a YAML file.

    Args:
        path: of the file.
        kind: of the model.

    Raises:
        UsageError: no preset takes a key or a value; all in one report.
    """
    given, lines = read_yaml(path)
    problems = ErrorCollector(str(path), lines)
    space: dict[str, list[Any]] = {}
    for key, values in given.items():
        try:
            space[key] = fitted(_Tried, values, key)
            for value in space[key]:
                preset("default", kind, **{key: value})
        except MisfitError as misfit:
            problems.found += misfit.issues
        except UsageError as error:
            problems.extend("", error)
    problems.raise_if_any()
    return space


def suggested(trial: Trial, space: Space) -> dict[str, Any]:
    """A value of each key. Numbers have neighbours, of which the search makes use; other values have none."""
    found = {}
    for key, values in space.items():
        ordered = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        last = len(values) - 1
        found[key] = values[trial.suggest_int(key, 0, last) if ordered else trial.suggest_categorical(key, range(last + 1))]
    return found


def within(calls: int, changes: Mapping[str, Any], lm: Backbone) -> dict[str, Any] | None:
    """Changes of the default preset with as many steps as a budget leaves; None where it leaves none.

    Args:
        calls: network calls for each text returned, those that judge its likelihood included.
        changes: values of a preset. Of several candidates the likeliest is chosen unless they say otherwise.
        lm: whose calls are counted.
    """
    default = preset("default", lm.kind)
    candidates = changes.get("candidates", default.candidates)
    texts = candidates * changes.get("particles", default.particles)
    select = changes.get("select", "likelihood" if texts > 1 else "energies")
    if select == "mbr" and candidates < LEAST_FOR_MBR:
        return None
    judging = lm.likelihood_calls if select == "likelihood" else 0
    steps = min(changes.get("steps", calls), calls // texts - judging)
    return {**changes, "select": select, "steps": steps} if steps > 0 else None


def cost(chosen: Preset, lm: Backbone) -> int:
    """Network calls of a preset for each text returned, those that judge its likelihood included."""
    judging = lm.likelihood_calls if chosen.select == "likelihood" else 0
    return chosen.calls() + judging * chosen.candidates * chosen.particles
