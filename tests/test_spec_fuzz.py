"""Specs that no one would write: whatever they hold, they are read whole or refused with a UsageError."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlm_control.control.controller import Controller
from dlm_control.control.registry import CONTROLLERS
from dlm_control.sampling.presets import named_preset, preset
from dlm_control.support.errors import UsageError
from dlm_control.support.hub import model_folder
from dlm_control.support.include import include
from dlm_control.tasks.controls import USE
from dlm_control.tasks.spec import KEYS, Spec, read_spec
from dlm_control.tasks.suite import read_suite

NAMES = st.sampled_from([*KEYS, *USE, *CONTROLLERS, "words", "spans", "tags", "guide", "template", "steps", "select"])
ODD = st.sampled_from(
    ["e2e", "fast", "x" * 5_000, "a\0b.py", "~nobody", "\ud800", "END", "1e5", -1, 2**63, float("nan"), np.int64(3),
     np.bool_(True), np.array([1, 2]), np.array([["a"]], dtype=object), b"x", object(), Controller]
)  # fmt: skip
LEAVES = (
    ODD
    | st.just(5_000).map(lambda digits: 10**digits)
    | NAMES
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.integers() | st.none() | st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)
ENTRIES = st.dictionaries(st.sampled_from([*CONTROLLERS]), VALUES, min_size=1, max_size=1)
MAPPINGS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4) | st.fixed_dictionaries(
    {"controls": st.lists(ENTRIES | VALUES, max_size=3)}, optional={key: VALUES for key in KEYS if key != "controls"}
) | st.dictionaries(NAMES | st.integers() | st.none(), VALUES, max_size=3)  # fmt: skip
SCRAPS = st.sampled_from(
    [*KEYS, ": ", "- ", "\n", "\n  ", "[", "]", "{", "}", ", ", "!!int ", "!!float ", "!!timestamp ", "!!bool ", "!!binary ",
     "!!set ", "!!omap ", "!!python/name:os.system ", "&a ", "*a", "<<: ", "? ", "= ", "|", ">", "\t", "'", '"', "\0", "\ufeff",
     "2020-99-99", "1:99:1", "0b", ".inf", "length", "12", "%YAML 9.9\n", "---\n", "..."]
)  # fmt: skip
FILES = st.binary(max_size=40) | st.lists(SCRAPS, max_size=12).map(lambda parts: "".join(parts).encode())


def refused_or_whole(mapping: Any) -> None:
    with contextlib.suppress(UsageError):
        assert len(Spec.from_mapping(mapping).digest) == 64


def file_refused_or_whole(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with contextlib.suppress(UsageError):
        assert len(read_spec(path).digest) == 64


few = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
many = settings(few, max_examples=5_000)


@few
@given(MAPPINGS | VALUES)
def test_no_mapping_ends_in_anything_but_a_usage_error(mapping: Any) -> None:
    refused_or_whole(mapping)


@few
@given(FILES)
def test_no_file_ends_in_anything_but_a_usage_error(tmp_path: Path, content: bytes) -> None:
    file_refused_or_whole(tmp_path / "spec.yaml", content)


@pytest.mark.slow
@many
@given(MAPPINGS | VALUES)
def test_none_of_many_mappings_ends_in_anything_but_a_usage_error(mapping: Any) -> None:
    refused_or_whole(mapping)


@pytest.mark.slow
@many
@given(FILES)
def test_none_of_many_files_ends_in_anything_but_a_usage_error(tmp_path: Path, content: bytes) -> None:
    file_refused_or_whole(tmp_path / "spec.yaml", content)


@pytest.mark.parametrize("name", ["x" * 5_000, "a\0b", "~nobody/x/y", "/", "\ud800"])
@pytest.mark.parametrize(
    "read", [model_folder, read_suite, read_spec, include, lambda name: preset(named_preset(name)["name"])]
)
def test_names_that_are_no_file_s(read: Any, name: str) -> None:
    with pytest.raises(UsageError):
        read(name)
