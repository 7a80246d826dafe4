"""The built-in controls, one a file. A spec finds them by name through the registry."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlm_control.controllers.choice import Choice as Choice
    from dlm_control.controllers.classifier import Classifier as Classifier
    from dlm_control.controllers.infill import Infill as Infill
    from dlm_control.controllers.json_text import Json as Json
    from dlm_control.controllers.keyword import Keyword as Keyword
    from dlm_control.controllers.length import Length as Length
    from dlm_control.controllers.pattern import Pattern as Pattern
    from dlm_control.controllers.pos import PartsOfSpeech as PartsOfSpeech
    from dlm_control.controllers.reward import Reward as Reward
    from dlm_control.controllers.semantic import Semantic as Semantic
    from dlm_control.controllers.span import Span as Span
    from dlm_control.controllers.topic import Topic as Topic
    from dlm_control.controllers.tree import SyntaxTree as SyntaxTree

_HOMES = {
    "Choice": "choice",
    "Classifier": "classifier",
    "Infill": "infill",
    "Json": "json_text",
    "Keyword": "keyword",
    "Length": "length",
    "PartsOfSpeech": "pos",
    "Pattern": "pattern",
    "Reward": "reward",
    "Semantic": "semantic",
    "Span": "span",
    "SyntaxTree": "tree",
    "Topic": "topic",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import dlm_control.controllers` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dlm_control.controllers' has no attribute {name!r}")
    return getattr(import_module(f"dlm_control.controllers.{_HOMES[name]}"), name)
