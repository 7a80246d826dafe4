"""The stages that train guides, each as long as its time allows."""

from __future__ import annotations

from typing import Any

from dlm_control.eval.domain.stages import Domain, Training

_SIZES = {"width": 96, "depth": 3, "heads": 4}


class StructureGuideStage(Training):
    """Which words a tag sequence, a span or a tree makes likelier."""

    name = "structure guide"

    def settings(self, domain: Domain) -> dict[str, Any]:
        recipe = {"lm": str(domain.folder), "model": _SIZES, "least": 5}
        return {"kind": "structure-guide", "data": str(domain.annotated), "recipe": recipe}


class SyntaxGuideStage(Training):
    """A noise-aware tagger and span classifier: for the same controls by other guides, and to choose among candidates."""

    name = "syntax guide"

    def settings(self, domain: Domain) -> dict[str, Any]:
        recipe = {"lm": str(domain.folder), "model": _SIZES, "least": 5}
        return {"kind": "syntax-guide", "data": str(domain.annotated), "recipe": recipe}


class SemanticGuideStage(Training):
    """A noise-aware classifier of the fields."""

    name = "semantic guide"

    def settings(self, domain: Domain) -> dict[str, Any]:
        recipe = {"lm": str(domain.folder), "model": _SIZES}
        return {"kind": "semantic-guide", "data": str(domain.corpus), "recipe": recipe}
