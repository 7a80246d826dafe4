"""Text that obeys several constraints at once: a frozen Diffusion-LM steered by composable controllers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlm_control.control import Control as Control
    from dlm_control.controller import Check as Check
    from dlm_control.controller import Controller as Controller
    from dlm_control.controller import Gap as Gap
    from dlm_control.controller import Plan as Plan
    from dlm_control.controller import State as State
    from dlm_control.errors import UsageError as UsageError
    from dlm_control.generate import Sample as Sample
    from dlm_control.language_model import LanguageModel as LanguageModel
    from dlm_control.language_model import load as load
    from dlm_control.presets import Preset as Preset
    from dlm_control.registry import register_controller as register_controller

_HOMES = {
    "Check": "controller", "Controller": "controller", "Gap": "controller", "Plan": "controller", "State": "controller",
    "UsageError": "errors", "Sample": "generate", "Control": "control", "LanguageModel": "language_model",
    "load": "language_model", "Preset": "presets", "register_controller": "registry",
}  # fmt: skip
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import dlm_control` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dlm_control' has no attribute {name!r}")
    return getattr(import_module(f"dlm_control.{_HOMES[name]}"), name)
