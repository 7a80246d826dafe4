"""Evaluation: metrics, target readers, judges and generators of one's own, and results as data."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlm_control.eval.report.data import read_run as read_run
    from dlm_control.eval.report.data import read_samples as read_samples
    from dlm_control.eval.report.data import to_dataset as to_dataset
    from dlm_control.eval.run.generator import Generator as Generator
    from dlm_control.eval.run.generator import register_generator as register_generator
    from dlm_control.eval.run.harness import run_suite as run_suite
    from dlm_control.eval.score.judges import register_judge as register_judge
    from dlm_control.eval.score.statistics import figure as figure
    from dlm_control.tasks.metric import register_metric as register_metric
    from dlm_control.tasks.suite import read_suite as read_suite
    from dlm_control.tasks.targets.reader import register_reader as register_reader
    from dlm_control.tasks.targets.target import Target as Target

_HOMES = {
    "Generator": "eval.run.generator",
    "Target": "tasks.targets.target",
    "figure": "eval.score.statistics",
    "read_run": "eval.report.data",
    "read_samples": "eval.report.data",
    "read_suite": "tasks.suite",
    "register_generator": "eval.run.generator",
    "register_judge": "eval.score.judges",
    "register_metric": "tasks.metric",
    "register_reader": "tasks.targets.reader",
    "run_suite": "eval.run.harness",
    "to_dataset": "eval.report.data",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import dlm_control.eval` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dlm_control.eval' has no attribute {name!r}")
    return getattr(import_module(f"dlm_control.{_HOMES[name]}"), name)
