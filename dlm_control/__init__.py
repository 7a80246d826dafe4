"""Text that obeys several constraints at once: a frozen Diffusion-LM steered by composable controllers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlm_control.control.controller import Check as Check
    from dlm_control.control.controller import Controller as Controller
    from dlm_control.control.controller import State as State
    from dlm_control.control.plan import Gap as Gap
    from dlm_control.control.plan import Plan as Plan
    from dlm_control.control.registry import register_controller as register_controller
    from dlm_control.control.use import Control as Control
    from dlm_control.outside.steering import Steering as Steering
    from dlm_control.outside.wrap import ControlLogitsProcessor as ControlLogitsProcessor
    from dlm_control.outside.wrap import steer as steer
    from dlm_control.pipeline import LanguageModel as LanguageModel
    from dlm_control.pipeline import load as load
    from dlm_control.sampling.generate import Request as Request
    from dlm_control.sampling.presets import Preset as Preset
    from dlm_control.sampling.sample import Sample as Sample
    from dlm_control.sampling.stream import Stream as Stream
    from dlm_control.sampling.trace import Draft as Draft
    from dlm_control.sampling.trace import Effect as Effect
    from dlm_control.sampling.trace import Step as Step
    from dlm_control.sampling.trace import Trace as Trace
    from dlm_control.support.errors import UsageError as UsageError
    from dlm_control.support.progress import show_progress as show_progress
    from dlm_control.tasks.spec import Spec as Spec
    from dlm_control.tasks.spec import read_spec as read_spec
    from dlm_control.testing import check_controller as check_controller

_HOMES = {
    "Check": "control.controller",
    "Control": "control.use",
    "ControlLogitsProcessor": "outside.wrap",
    "Controller": "control.controller",
    "Draft": "sampling.trace",
    "Effect": "sampling.trace",
    "Gap": "control.plan",
    "LanguageModel": "pipeline",
    "Plan": "control.plan",
    "Request": "sampling.generate",
    "Preset": "sampling.presets",
    "Sample": "sampling.sample",
    "Spec": "tasks.spec",
    "State": "control.controller",
    "Steering": "outside.steering",
    "Step": "sampling.trace",
    "Stream": "sampling.stream",
    "Trace": "sampling.trace",
    "UsageError": "support.errors",
    "check_controller": "testing",
    "load": "pipeline",
    "read_spec": "tasks.spec",
    "register_controller": "control.registry",
    "show_progress": "support.progress",
    "steer": "outside.wrap",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import dlm_control` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dlm_control' has no attribute {name!r}")
    return getattr(import_module(f"dlm_control.{_HOMES[name]}"), name)
