"""YAML files as users write them: plain, small, and each value with its line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dlm_control.support.errors import ErrorCollector, UsageError

MAX_BYTES = 1_000_000
MAX_DEPTH = 20


class YamlFile(NamedTuple):
    """What a file says.

    Attributes:
        content: its keys and values.
        lines: the line of each place, such as `controls[1].length`.
    """

    content: dict[str, Any]
    lines: dict[str, int]


def read_yaml(path: Path) -> YamlFile:
    """A YAML file of keys and values.

    YAML's own traps are refused rather than resolved: a key given twice (the last would win), keys that are no text, anchors
    and aliases (nested ones can unfold to gigabytes), and tags that make objects.

    Raises:
        UsageError: no file, not UTF-8, too large, not YAML, not a mapping, or one of the traps; with the line.
    """
    return parse_yaml(_text(path), str(path))


def parse_yaml(text: str, source: str) -> YamlFile:
    """As `read_yaml`, of a text that is at hand.

    Args:
        text: YAML.
        source: what to call it in reports.

    Raises:
        UsageError: not YAML, not a mapping, or one of the traps; with the line.
    """
    try:
        loader = _Loader(text)
        loader.name = source
        root = loader.get_single_node()
        if root is None:
            raise UsageError(f"{source}: empty; expected keys and values")
        lines: dict[str, int] = {}
        problems = ErrorCollector(source, lines)
        _walk(root, "", lines, problems)
        problems.raise_if_any()
        content = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise UsageError(f"{place}: not plain YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        raise UsageError(
            f"{source}: not plain YAML: the character {chr(error.character)!r} at place {error.position}"
        ) from None
    except UsageError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:  # a date or a number that is none
        raise UsageError(f"{source}: not plain YAML: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{source}: expected keys and values, got {'nothing' if content is None else type(content).__name__}")
    return YamlFile(content, lines)


def _text(path: Path) -> str:
    if os.path.isdir(path):
        raise UsageError(f"{path}: a folder; expected a YAML file")
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from None
    if len(raw) > MAX_BYTES:
        raise UsageError(f"{path}: larger than {MAX_BYTES // 1_000_000} MB; expected a YAML file of a few lines")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text (byte {error.start} is {raw[error.start]:#04x})") from None


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        line = event.start_mark.line + 1
        if event.anchor is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            raise UsageError(f"{self.name}:{line}: {sign}{event.anchor}: anchors and aliases are refused; write the value out")
        if self.depth == MAX_DEPTH:
            raise UsageError(f"{self.name}:{line}: nested more than {MAX_DEPTH} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _walk(node: yaml.Node, place: str, lines: dict[str, int], problems: ErrorCollector) -> None:
    """Note the line of every place below a node, and its faulty keys."""
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            lines[f"{place}[{i}]"] = item.start_mark.line + 1
            _walk(item, f"{place}[{i}]", lines, problems)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag != "tag:yaml.org,2002:str":
            problems.add(place, f"line {line}: expected a name as key, got {key.value!r}; quote it if it is one")
            continue
        inner = f"{place}.{key.value}" if place else key.value
        if inner in lines:
            problems.add(inner, f"given twice, in line {lines[inner]} and in line {line}")
            continue
        lines[inner] = line
        _walk(value, inner, lines, problems)
