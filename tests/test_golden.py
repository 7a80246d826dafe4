"""The same weights write the same texts: a commit that changes one says why, and runs `tools/golden`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dlm_control import LanguageModel
from dlm_control.tasks.run import run_spec
from dlm_control.tasks.spec import Spec

GOLDEN = Path(__file__).resolve().parent / "golden"
SPECS: dict[str, dict[str, Any]] = yaml.safe_load((GOLDEN / "specs.yaml").read_text(encoding="utf-8"))
KEPT: dict[str, Any] = json.loads((GOLDEN / "texts.json").read_text(encoding="utf-8"))


def test_the_texts_are_of_the_bundled_weights(e2e: LanguageModel) -> None:
    assert KEPT["weights"] == e2e.backbone.weights_digest
    assert KEPT["texts"].keys() == SPECS.keys()


@pytest.mark.parametrize("name", SPECS)
def test_the_texts_of_a_spec_are_the_kept_ones(name: str, e2e: LanguageModel) -> None:
    spec = Spec.from_mapping({"num_samples": 2, **SPECS[name]}, name)
    assert [sample.text for sample in run_spec(spec, e2e)] == KEPT["texts"][name]
