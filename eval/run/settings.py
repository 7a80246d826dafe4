"""Settings given on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from dlm_control.support.errors import ErrorCollector


def read_settings(given: Sequence[str]) -> dict[str, Any]:
    """Keys and values of texts such as `steps=20`, the values as YAML reads them.

    Raises:
        UsageError: some are no such texts; all in one report.
    """
    problems, found = ErrorCollector("--set"), {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or not key.isidentifier():
            problems.add(repr(text), "expected key=value, such as steps=20")
            continue
        try:
            if key in found:
                problems.add(key, "is given twice")
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            problems.add(key, f"{value!r} is no YAML value")
    problems.raise_if_any()
    return found
