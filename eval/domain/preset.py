"""The stage that chooses the model's own default preset, on training sentences."""

from __future__ import annotations

import time
from importlib.util import find_spec

import yaml

from dlm_control.eval.domain.corpus import TRAIN
from dlm_control.eval.domain.stages import Domain, Stage
from dlm_control.sampling.presets import OWN, preset
from dlm_control.support.errors import UsageError
from dlm_control.support.files import write_whole

_COUNT, _LIMIT, _MOST = 12, 4, 24  # targets of a group, those of them in the search, and trials at most


class PresetStage(Stage):
    """As many trials of a search as the time allows; the best preset becomes the model's default.

    Of a small model often none keeps to the bounds of `dlm tune`; then it is the one that exceeds them least.
    """

    name = "preset"

    def run(self, domain: Domain) -> str:
        from dlm_control.eval.studies.tuning import NoPresetError, Tuning, tune_presets

        folder = domain.folder / "tuning"
        suite = folder / "tune.yaml"
        folder.mkdir(exist_ok=True)
        write_whole({suite: _suite(domain)})
        if self.name not in domain.progress.steps:
            domain.progress.steps[self.name] = _trials(domain, str(suite), domain.config.minutes_of(self.name))
            domain.save()
        asked = Tuning(
            suites=[str(suite)], data=domain.folder, model=str(domain.folder), trials=domain.progress.steps[self.name],
            limit=_LIMIT, seed=domain.config.seed,
        )  # fmt: skip
        try:
            found, within = tune_presets(asked, folder / OWN, force=(folder / OWN).exists()), "within the bounds"
        except NoPresetError as error:
            found, within = error.nearest, "above the bounds of `dlm tune`, as are all others"
        if found.changes:
            text = yaml.safe_dump({"name": "default", **found.changes}, sort_keys=False)
            write_whole({domain.folder / OWN: f"# Written by `dlm domain make`\n{text}"})
        return (
            f"{asked.trials} tried; the default is {found.changes or 'the usual one'}, success {found.success:.2f}, flaw rate "
            f"{found.flaw_rate:.2f}, {within}"
        )


def require_optuna() -> None:
    """
    Raises:
        UsageError: optuna is not installed.
    """
    if find_spec("optuna") is None:
        raise UsageError("domain: tune: optuna is not installed; pip install 'dlm-control[tune]', or set tune: false")


def _suite(domain: Domain) -> str:
    """Targets of training sentences for whatever can be judged."""
    groups = ["length, keyword", *(["pos", "tree", "span"] if domain.config.syntax else [])]
    fields = domain.config.fields is not None
    lists = ", ".join(f"[{group}]" for group in [*groups, *(["semantic"] if fields else [])])
    return (
        f"name: tune\nversion: 1\ntuning: true\nmetrics: []\nsamples: 1\n{'domain: fields.yaml' if fields else ''}\n"
        f"targets: {{reader: mixed, file: corpus/{TRAIN}, groups: [{lists}], count: {_COUNT}, seed: {domain.config.seed}}}\n"
    )


def _trials(domain: Domain, suite: str, minutes: float) -> int:
    """How many presets there is time for: a text of each group tells what one costs."""
    from dlm_control.eval.studies.tuning import tuning_targets
    from dlm_control.pipeline import load

    lm, targets = load(str(domain.folder)), tuning_targets([suite], domain.folder)
    one_of_each = list({target.group: target for target in targets}.values())
    usual = preset("default", lm.backbone.kind)
    lm.generate(one_of_each[0].controls, 1, preset=usual)  # what is made once does not count
    started = time.process_time()
    for target in one_of_each:
        lm.generate(target.controls, 1, preset=usual)
    seconds = (time.process_time() - started) * (_LIMIT + _COUNT / 4)  # one trial in four is confirmed, on all targets
    return max(2, min(_MOST, int(60 * minutes / seconds)))
