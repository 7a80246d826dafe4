"""Type annotations as JSON schema (draft 2020-12), for editors that complete and check YAML while it is written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from dlm_control.support.validation import parameter_types
from dlm_control.support.values import LISTS, MAPPINGS, Bound, Fits, OneOf

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
_PLAIN: dict[Any, Schema] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Path: {"type": "string"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    None: {"type": "null"},
}
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def schema_of(kind: Any) -> Schema:
    """The JSON schema of an annotation; one that the schema language cannot express allows everything.

    Rules of `dlm_control.support.values` become its keywords where there is one, and a description in any case.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _ruled(kind)
    if origin in (Union, UnionType):
        return {"anyOf": [schema_of(part) for part in parts]}
    if origin is Literal:
        return {"enum": list(parts)}
    if (origin or kind) in LISTS:
        return _listed(origin, parts)
    if (origin or kind) in MAPPINGS:
        return {"type": "object", "additionalProperties": schema_of(parts[1]) if parts else {}}
    return dict(_PLAIN.get(kind, {}))


def object_schema(function: Callable[..., Any], positional: int = 0, more: dict[str, Schema] | None = None) -> Schema:
    """The JSON schema of the keys and values that a function, or a class's constructor, takes.

    Args:
        function: its annotations and defaults are read.
        positional: how many of its first parameters are not for the user to give.
        more: further keys, which may be left out.

    Returns:
        A schema of an object; keys that are not named are refused unless the function takes any.
    """
    parameters = list(inspect.signature(function).parameters.items())[positional:]
    kinds = parameter_types(function)
    named = {name: p for name, p in parameters if p.kind not in _VARIADIC}
    properties = {}
    for name, parameter in named.items():
        properties[name] = schema_of(kinds.get(name, Any))
        if isinstance(parameter.default, (bool, int, float, str)):
            properties[name] |= {"default": parameter.default}
    return {
        "type": "object",
        "properties": properties | (more or {}),
        "required": [name for name, parameter in named.items() if parameter.default is parameter.empty],
        "additionalProperties": any(p.kind is p.VAR_KEYWORD for _, p in parameters),
    }


def _ruled(kind: Any) -> Schema:
    base, *rules = get_args(kind)
    schema = schema_of(base)
    for rule in rules:
        if isinstance(rule, OneOf):
            schema |= {"enum": sorted(rule.options())}
        elif isinstance(rule, Bound):
            schema |= dict(rule.schema)
            schema["description"] = f"expected {rule.words}" if isinstance(rule, Fits) else rule.words
    return schema


def _listed(origin: Any, parts: Collection[Any]) -> Schema:
    each = [part for part in parts if part is not Ellipsis]
    if origin is tuple and Ellipsis not in parts:
        return {
            "type": "array",
            "prefixItems": [schema_of(part) for part in each],
            "minItems": len(each),
            "maxItems": len(each),
        }
    return {"type": "array", "items": schema_of(each[0]) if each else {}}
