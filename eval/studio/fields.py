"""What a function takes, as the fields of a form, and what a person writes into a field as a value of a spec."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import yaml

from dlm_control.support.errors import UsageError
from dlm_control.support.validation import parameter_types
from dlm_control.support.values import Bound, MisfitError, OneOf, described, fitted
from dlm_control.support.yaml_file import parse_yaml

Kind = Literal["flag", "choice", "number", "text", "yaml"]
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Absent:
    """The type of ABSENT."""


ABSENT: Final = Absent()
"""In place of a value: the key is left out."""


@dataclass(frozen=True)
class Field:
    """One field of a form.

    Attributes:
        name: of the parameter.
        kind: what the field looks like: `flag` is ticked, `choice` picks one of `choices`, `number` and `text` are written as
            they are, `yaml` is written as in a spec file.
        annotation: of the parameter.
        default: of the parameter, or ABSENT where a value must be given.
        choices: values to pick from.
        expects: what fits, in words.
        about: what it means; empty where the docstring does not say.
        main: it can be given without its name; the others are options.
    """

    name: str
    kind: Kind
    annotation: Any
    default: Any
    choices: tuple[Any, ...]
    expects: str
    about: str
    main: bool = True

    @property
    def required(self) -> bool:
        """A value must be given."""
        return self.default is ABSENT

    def kind_for(self, value: object) -> Kind:
        """What the field looks like when it must show this value: one that does not fit is shown as in a file."""
        if value is ABSENT or self.kind == "yaml":
            return self.kind
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53  # a page's are floats
        fits = {
            "flag": isinstance(value, bool),
            "choice": any(type(value) is type(each) and value == each for each in self.choices),
            "number": number,
            "text": isinstance(value, str) and bool(value.strip()) and "\n" not in value,
        }
        return self.kind if fits[self.kind] else "yaml"

    def shown(self, value: object) -> Any:
        """What the field shows for a value of a spec, or for ABSENT; `read` gives the value back."""
        kind = self.kind_for(value)
        if value is ABSENT:
            return {"flag": self.default is True, "choice": self.default if self.default in self.choices else None}.get(kind)
        return self._written(value) if kind == "yaml" else value

    def read(self, raw: Any, kind: Kind) -> Any:
        """The value of a spec that a field says.

        Args:
            raw: what a person entered; None or blank leaves the key out, and so does the default.
            kind: what the field looks like.

        Returns:
            The value, which may be at fault, or ABSENT.
        """
        if raw is None or (isinstance(raw, str) and not raw.strip()):
            return ABSENT
        value = self._parsed(raw) if kind == "yaml" else raw
        if isinstance(value, float) and value.is_integer() and kind == "number":
            value = int(value)
        plain = not self.required and type(value) is type(self.default) and value == self.default
        return ABSENT if plain else value

    def _parsed(self, text: str) -> Any:
        """As a file would hold it; what is no YAML, or has another type then, is a text where a text fits."""
        try:
            value = parse_yaml(f"value: {text}", self.name).content["value"]
        except UsageError:
            return text
        if isinstance(value, str) and not text.lstrip().startswith(("'", '"')):
            return text.strip()  # a # is no comment here
        for each in (value, text.strip()):
            try:
                fitted(self.annotation, each)
            except MisfitError:
                continue
            return each
        return value

    def _written(self, value: object) -> str:
        if isinstance(value, str) and self._parsed(value) == value and value.strip():
            return value
        return flow(value)


def fields_of(function: Callable[..., Any], positional: int = 0) -> tuple[Field, ...]:
    """The fields of a function's, or a class's constructor's, parameters; those that take any keys have none.

    Args:
        function: its signature and its docstring are read.
        positional: how many of its first parameters are not for a person to give.
    """
    kinds, about = parameter_types(function), _about(function)
    parameters = list(inspect.signature(function).parameters.values())[positional:]
    fields = []
    for p in parameters:
        if p.kind not in _VARIADIC:
            default = ABSENT if p.default is p.empty else p.default
            main = p.kind is not p.KEYWORD_ONLY or default is ABSENT
            fields.append(replace(field_of(p.name, kinds.get(p.name, Any), default, about.get(p.name, "")), main=main))
    return tuple(fields)


def field_of(name: str, annotation: Any, default: Any = ABSENT, about: str = "") -> Field:
    """The field of one parameter; see `Field`.

    Args:
        name, annotation, default: of the parameter.
        about: what it means.
    """
    base, choices = annotation, tuple[Any, ...]()
    if get_origin(base) in (Union, UnionType):
        parts = [part for part in get_args(base) if part is not NoneType]
        base = parts[0] if len(parts) == 1 else base
    expects = described(base)
    if get_origin(base) is Annotated:
        base, *rules = get_args(base)
        choices = next((tuple(rule.options()) for rule in rules if isinstance(rule, OneOf)), ())
        expects = next((rule.words for rule in rules if isinstance(rule, Bound)), expects) if base is str else expects
    if get_origin(base) is Literal:
        choices = get_args(base)
    simple: dict[Any, Kind] = {bool: "flag", int: "number", float: "number", str: "text"}
    kind: Kind = "choice" if choices else simple.get(base, "yaml")
    if kind == "flag" and default is None:  # three answers, of which one is none
        kind, choices = "choice", (True, False)
    return Field(name, kind, annotation, default, choices, expects, about)


def flow(value: object) -> str:
    """A value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**9)
    return text.removesuffix("...\n").rstrip("\n")


def _about(function: Callable[..., Any]) -> dict[str, str]:
    """By parameter, the first sentence that the docstring's part `Args` (of a dataclass: `Attributes`) says of it."""
    found: dict[str, str] = {}
    section = re.search(r"^(?:Args|Attributes):\n((?:[ \t]+.*\n?|\n)+)", inspect.getdoc(function) or "", re.M)
    for names, text in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8,}.*)*)", section[1] if section else "", re.M):
        whole = " ".join(text.split())
        for name in names.split(", "):
            found[name] = re.split(r"(?<=[.;])\s", whole)[0].rstrip(".;")
    return found
