"""JSON schemas as regular expressions over characters."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dlm_control.support.errors import ErrorCollector, UsageError, short_repr

# Keywords that say nothing about which texts are valid, and those whose schemas are read where a $ref names them.
_NOTES = frozenset(
    "$schema $id $comment $defs definitions title description default examples deprecated readOnly writeOnly".split()
)
# outlines-core reads one of these, and none of the keywords beside it but those that are listed.
_FORMS: dict[str, frozenset[str]] = {
    "enum": frozenset({"type"}), "const": frozenset({"type"}), "anyOf": frozenset(), "$ref": frozenset(),
}  # fmt: skip
_TYPES: dict[str, frozenset[str]] = {
    "string": frozenset({"minLength", "maxLength", "format"}), "integer": frozenset(), "number": frozenset(),
    "boolean": frozenset(), "null": frozenset(), "array": frozenset({"items", "minItems", "maxItems"}),
    "object": frozenset({"properties", "required", "additionalProperties"}),
}  # fmt: skip
_RUST = re.compile(r"\\(?P<escaped>[-#&~])|\[(?:\\.|[^\\\]])*-\]|\\.|\[(?:\\.|[^\\\]])*\]")
_FORMATS = ("date", "date-time", "uuid")


def regex_of(schema: Mapping[str, Any]) -> str:
    """The regular expression of texts that are valid by a JSON schema.

    It is outlines-core's: properties in the order of the schema and no others, and one space or none between signs. What that
    library would read wrongly, or leave out, is refused here.

    Raises:
        UsageError: with all that is not supported; or outlines-core or jsonschema is not installed.
    """
    try:
        from jsonschema import Draft202012Validator, SchemaError
        from outlines_core.json_schema import build_regex_from_schema
    except ImportError as error:
        raise UsageError(f"json: {error.name} is not installed; pip install 'dlm-control[json]'") from None
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise UsageError(f"json: no valid JSON schema: {error.message} (at {_path([*map(str, error.path)])})") from None
    problems = ErrorCollector("json: the schema")
    for place, message in _faults(schema, schema, [], ()):
        problems.add(place, message)
    problems.raise_if_any()
    try:
        regex = str(build_regex_from_schema(json.dumps(schema, ensure_ascii=False)))
    except ValueError as error:
        raise UsageError(f"json: outlines-core cannot read the schema: {str(error).splitlines()[0]}") from None
    return _RUST.sub(_plainly, regex)


def _plainly(part: re.Match[str]) -> str:
    """A part of a regular expression as greenery reads it too: no escapes that only Rust needs, no bare - that ends a class."""
    if part["escaped"] is not None:
        return part["escaped"]
    return f"{part[0][:-2]}\\-]" if part[0].endswith("-]") and not part[0].endswith("\\-]") else part[0]


def _faults(schema: Any, root: Mapping[str, Any], path: list[str], within: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """What is not supported, each with its place.

    Args:
        schema: a part of the root.
        root: the whole schema.
        path: of the part.
        within: the references that lead to it.
    """
    keywords = {*schema} - _NOTES if isinstance(schema, Mapping) else set()
    form = next((each for each in _FORMS if each in keywords), None)
    if form is None and "type" not in keywords:
        yield _path(path), f"expected an object with one of type, {', '.join(_FORMS)}, got {short_repr(schema)}"
        return
    allowed = _FORMS[form] | {form} if form else frozenset({"type"})
    if form is None:
        types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        compound = {"array", "object"} & {*types}
        if len(types) > 1 and compound:
            yield _path([*path, "type"]), f"{' or '.join(sorted(compound))} among several types; write anyOf"
            return
        allowed = allowed.union(*(_TYPES[each] for each in types))
    for keyword in sorted(keywords - allowed):
        beside = form or f"type {schema['type']!r}"
        yield _path([*path, keyword]), f"not supported beside {beside}; there may be: {', '.join(sorted(allowed))}"
    if keywords <= allowed:
        yield from _inner_faults(form or schema["type"], schema, root, path, within)


def _inner_faults(
    kind: str | list[str], schema: Mapping[str, Any], root: Mapping[str, Any], path: list[str], within: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Those of a part with keywords that go together; `kind` is its form or type, the others as `_faults`."""
    parts: list[tuple[Any, list[str]]] = []
    if kind in ("enum", "const"):
        yield from _misfits(schema["enum"] if kind == "enum" else [schema["const"]], schema, path)
    elif kind == "anyOf":
        parts = [(each, [*path, "anyOf", str(i)]) for i, each in enumerate(schema["anyOf"])]
    elif kind == "$ref":
        reference = schema["$ref"]
        found = _at(root, reference)
        if found is None:
            yield _path([*path, "$ref"]), f"expected a place in this schema, such as #/$defs/name, got {reference!r}"
        elif reference in (*within, "#"):
            yield _path([*path, "$ref"]), f"{reference!r} holds itself; write out how deep it may go"
        else:
            yield from _faults(found, root, reference.split("/")[1:], (*within, reference))
    elif kind == "array":
        if "items" in schema:
            parts = [(schema["items"], [*path, "items"])]
        else:
            yield _path(path), "an array of anything; give items"
    elif kind == "object":
        properties, further = schema.get("properties", {}), schema.get("additionalProperties", True)
        parts = [(each, [*path, "properties", name]) for name, each in properties.items()]
        if not properties:
            parts = [(further, [*path, "additionalProperties"])]
        elif not isinstance(further, bool):
            yield _path([*path, "additionalProperties"]), "not supported beside properties, but for true and false"
        for name in properties:
            if not name.isprintable() or '"' in name or "\\" in name:
                yield _path([*path, "properties"]), f"the name {name!r} has signs that JSON escapes; give another"
        for name in sorted({*schema.get("required", [])} - {*properties}):
            yield _path([*path, "required"]), f"{name!r} is not among the properties"
    elif "format" in schema and schema["format"] not in _FORMATS:
        yield _path([*path, "format"]), f"not supported: {schema['format']!r}; there are: {', '.join(_FORMATS)}"
    for part, place in parts:
        yield from _faults(part, root, place, within)


def _misfits(values: Collection[Any], schema: Mapping[str, Any], path: list[str]) -> Iterator[tuple[str, str]]:
    """Listed values that are not of the type beside them."""
    from jsonschema import Draft202012Validator

    typed = Draft202012Validator({"type": schema["type"]} if "type" in schema else {})
    for value in values:
        if not typed.is_valid(value):
            yield _path(path), f"the value {short_repr(value)} is not of type {schema['type']!r}"


def _at(root: Mapping[str, Any], reference: str) -> Any:
    """What a reference names; None: nothing in this schema."""
    found: Any = root
    if not reference.startswith("#"):
        return None
    for name in reference.split("/")[1:]:
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return found


def _path(path: list[str]) -> str:
    return "/".join(["#", *path])
