"""JSON schemas: they accept what `dlm` accepts, and refuse the mistakes that they can express."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from dlm_control import UsageError
from dlm_control.cli import build
from dlm_control.support.json_schema import schema_of
from dlm_control.support.values import Above, Between, Fits, OneOf
from dlm_control.tasks.schema import schema
from dlm_control.tasks.spec import Spec

ROOT = Path(__file__).resolve().parents[1]
SPECS = sorted(ROOT.glob("examples/*.yaml"))
SUITES = sorted(ROOT.glob("tasks/suites/*.yaml"))
DOMAINS = sorted(ROOT.glob("controllers/fields/*.yaml"))
CONFIGS = [file for file in sorted(ROOT.glob("configs/**/*.yaml")) if "kind" in yaml.safe_load(file.read_text())]


@pytest.fixture(scope="module")
def validators() -> dict[str, Draft202012Validator]:
    made = {kind: schema(kind) for kind in ("spec", "suite", "training", "fields")}
    for each in made.values():
        Draft202012Validator.check_schema(each)
    return {kind: Draft202012Validator(each) for kind, each in made.items()}


@pytest.mark.parametrize("file", [*SPECS, *SUITES, *CONFIGS, *DOMAINS], ids=lambda file: file.stem)
def test_our_own_files_are_accepted(file: Path, validators: dict[str, Draft202012Validator]) -> None:
    kinds = {"spec": SPECS, "suite": SUITES, "training": CONFIGS, "fields": DOMAINS}
    kind = next(name for name, files in kinds.items() if file in files)
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    if kind == "spec" and "include" in content:
        content["controls"] = []  # of a file that the schema has not run
    assert [error.message for error in validators[kind].iter_errors(content)] == []


def test_golden_specs_are_accepted(validators: dict[str, Draft202012Validator]) -> None:
    for name, content in yaml.safe_load((ROOT / "tests/golden/specs.yaml").read_text(encoding="utf-8")).items():
        assert validators["spec"].is_valid(content), name


@pytest.mark.parametrize(
    "given",
    [
        {"contrls": []},
        {"controls": [{"lenght": 5}]},
        {"controls": [{"length": "long"}]},
        {"controls": [{"length": 5, "keyword": "pub"}]},
        {"controls": [{"keyword": {"words": "pub", "wieght": 2}}]},
        {"controls": [{"keyword": {"words": "pub", "weight": "much"}}]},
        {"controls": [{"keyword": "pub"}], "preset": {"steps": 0}},
        {"controls": [{"keyword": "pub"}], "preset": {"sampler": "euler"}},
        {"controls": [{"keyword": "pub"}], "num_samples": 0},
        {"controls": [{"keyword": "pub"}], "on_error": "ignore"},
        {"controls": [{"keyword": "pub"}], "unconditional": "no"},
    ],
    ids=lambda given: json.dumps(given),
)
def test_what_the_schema_refuses_is_refused_by_the_spec_too(
    given: dict[str, Any], validators: dict[str, Draft202012Validator]
) -> None:
    assert not validators["spec"].is_valid(given)
    with pytest.raises(UsageError):
        Spec.from_mapping(given)


@pytest.mark.parametrize(
    ("kind", "value", "valid"),
    [
        (Annotated[int, Above(2)], 3, True),
        (Annotated[int, Above(2)], 2, False),
        (Annotated[float, Between(0, 1)], 1, True),
        (Annotated[float, Between(0, 1)], 1.5, False),
        (Annotated[str, OneOf(lambda: {"a": 1})], "a", True),
        (Annotated[str, OneOf(lambda: {"a": 1})], "b", False),
        (Annotated[list[int], Fits("some numbers")], [1, "a"], False),
        (tuple[float, float], [0, 1], True),
        (tuple[float, float], [0], False),
        (dict[str, int], {"a": 1}, True),
        (dict[str, int], {"a": "b"}, False),
        (Literal["x"] | None, None, True),
        (Literal["x"] | None, "y", False),
        (object, {"any": [1]}, True),
    ],
)
def test_annotations_as_schemas(kind: Any, value: object, valid: bool) -> None:
    assert Draft202012Validator(schema_of(kind)).is_valid(value) is valid


def test_the_command_prints_it_and_knows_what_a_file_includes(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from dlm_control import Check, Controller, register_controller\n\n\n"
        '@register_controller("shouts")\nclass Shouts(Controller):\n    """Loud."""\n\n'
        "    def __init__(self, times: int = 1) -> None:\n        self.times = times\n\n"
        '    def check(self, text: str) -> Check:\n        return Check(1.0, "")\n'
    )
    run = CliRunner().invoke(build(), ["schema", "spec", "--include", str(own)])
    assert run.exit_code == 0
    made = Draft202012Validator(json.loads(run.stdout))
    assert made.is_valid({"controls": [{"shouts": 2}]}) and not made.is_valid({"controls": [{"shouts": {"tims": 2}}]})
    wrong = CliRunner().invoke(build(), ["schema", "specs"])
    assert wrong.exit_code == 2 and "unknown 'specs', did you mean 'spec'?" in wrong.output
