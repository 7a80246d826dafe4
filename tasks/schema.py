"""JSON schemas of what users write: specs, suites, training configs and domain files, with everything that is installed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from dlm_control.control.registry import CONTROLLERS, parameters
from dlm_control.control.use import Control
from dlm_control.controllers.fields.file import DomainEntry, FieldEntry, ValueEntry
from dlm_control.sampling.presets import NAMES, Preset
from dlm_control.support.errors import UsageError, suggestion
from dlm_control.support.json_schema import DRAFT, Schema, object_schema, schema_of
from dlm_control.tasks.spec import KEYS, TYPES
from dlm_control.tasks.suite import Suite
from dlm_control.training.recipe import RECIPES, recipe_class
from dlm_control.training.trainer import TrainConfig


def schema(kind: str) -> Schema:
    """The JSON schema of `spec`, `suite`, `training` or `fields` files.

    It knows the controllers, presets and recipes that are installed here. A file that it accepts may still be refused, since it
    cannot express every rule; one that it refuses is refused by `dlm` too, and `dlm`'s own message says more.

    Raises:
        UsageError: another kind.
    """
    if kind not in _KINDS:
        raise UsageError(f"schema: unknown {kind!r}{suggestion(kind, _KINDS)}; there are: {', '.join(_KINDS)}")
    return {"$schema": DRAFT, "title": f"dlm-control: {kind}", **_KINDS[kind]()}


def _spec() -> Schema:
    keys = {key: schema_of(TYPES[key]) if key in TYPES else {} for key in KEYS}
    keys["preset"] = _preset()
    keys["controls"] = {"type": ["array", "null"], "items": {"anyOf": [_control(name) for name in CONTROLLERS]}}
    return {"type": "object", "properties": keys, "additionalProperties": False}


def _preset() -> Schema:
    named = {"name": {"enum": list(NAMES), "default": "default"}}
    return {"anyOf": [object_schema(Preset, more=named), {"type": "string", "description": f"{', '.join(NAMES)}, or a file"}]}


def _control(name: str) -> Schema:
    """`name: target`, where the target is a mapping of arguments, or the first argument alone."""
    entry: Schema = {"type": "object", "required": [name], "additionalProperties": False, "maxProperties": 1}
    try:
        cls = CONTROLLERS[name]
    except UsageError:
        return entry | {"properties": {name: {}}}
    use = object_schema(Control, positional=2)["properties"]
    whole = object_schema(cls, more={"name": {"type": "string"}, **use})
    first = next((key for key, p in parameters(cls).items() if p.kind is not inspect.Parameter.VAR_KEYWORD), None)
    target = {"anyOf": [whole, *([whole["properties"][first]] if first else []), {"type": "null"}]}
    about = (inspect.getdoc(cls) or "").partition("\n")[0]
    return entry | {"properties": {name: target | {"description": about}}}


def _suite() -> Schema:
    own = object_schema(
        Suite, 1, {"include": {"type": "array", "items": {"type": "string", "pattern": r"\.py$"}, "minItems": 1}}
    )
    several = {"name": own["properties"]["name"], "version": {}, "include": {"type": "array", "items": {"type": "string"}}}
    return {"anyOf": [own, {"type": "object", "properties": several, "required": ["include"], "additionalProperties": False}]}


def _training() -> Schema:
    """Of each kind its own settings in `recipe`; `out` may be missing, for the command line can give it."""
    kinds = []
    for name in RECIPES:
        config = object_schema(TrainConfig)
        config["properties"] |= {"kind": {"const": name}, "recipe": object_schema(recipe_class(name)) | {"required": []}}
        kinds.append(config | {"required": ["kind"]})
    return {"anyOf": kinds}


def _fields() -> Schema:
    """A domain file; what a field and a value say is read by itself, and so is not in the annotations."""
    file, one, value = (object_schema(kind) for kind in (DomainEntry, FieldEntry, ValueEntry))
    wordings = value["properties"]["wordings"]
    of_field = {"anyOf": [{"type": "object", "additionalProperties": {"anyOf": [wordings, value]}}, wordings]}
    one["properties"]["values"] |= of_field
    file["properties"]["fields"] |= {"additionalProperties": one}
    return file


_KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    "spec": _spec, "suite": _suite, "training": _training, "fields": _fields,
}  # fmt: skip
