"""Texts that are JSON, by a schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dlm_control.control.controller import Check
from dlm_control.control.plan import Language
from dlm_control.control.registry import register_controller
from dlm_control.controllers.json_schemas import regex_of
from dlm_control.controllers.language import LanguageController
from dlm_control.support.errors import UsageError
from dlm_control.text.characters import CharacterAutomaton

if TYPE_CHECKING:
    from dlm_control.diffusion.backbone import Backbone

_WHAT = "json: the schema"


@register_controller("json")
class Json(LanguageController):
    """The text is JSON that is valid by a JSON schema. For models from outside that write tokens: see `Tokens`.

    The schema becomes a regular expression over characters (by outlines-core, Willard & Louf 2023), its automaton one over the
    model's tokens, and the token distributions are conditioned on its acceptance exactly. Objects have their properties in the
    order of the schema, and no others; between signs is one space or none.

    Args:
        schema: the JSON schema; with pydantic, `Model.model_json_schema()`. What is not supported is refused by name.
    """

    unit = "tokens"

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema, self._regex = schema, regex_of(schema)
        _characters(self._regex)

    def language(self, lm: Backbone) -> Language:
        language = _language(self._regex, lm.vocabulary, frozenset(lm.tokenizer.all_special_tokens))
        if language.automaton.fewest is None:
            raise UsageError("json: the model's tokens cannot spell any text of this schema")
        return language

    def check(self, text: str) -> Check:
        from jsonschema import Draft202012Validator

        try:
            found = json.loads(text)
        except ValueError as error:
            return Check(0.0, f"no JSON: {error}")
        faults = sorted(each.message for each in Draft202012Validator(self.schema).iter_errors(found))
        return Check(0.5, faults[0]) if faults else Check(1.0, "valid by the schema")


@lru_cache(maxsize=16)
def _characters(regex: str) -> CharacterAutomaton:
    return CharacterAutomaton.read(regex, _WHAT)


@lru_cache(maxsize=4)
def _language(regex: str, vocabulary: tuple[str, ...], special: frozenset[str]) -> Language:
    """The texts that obey; cached, since preflight, layouts and steps all ask for it."""
    tokens = [None if token in special else token for token in vocabulary]
    return Language(*_characters(regex).over_tokens(tokens))
