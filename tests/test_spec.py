"""Specs: what a faulty one is told, where, and what is possible instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dlm_control.control.use import Control
from dlm_control.sampling.presets import preset
from dlm_control.support.errors import UsageError
from dlm_control.tasks.spec import Spec, read_spec

LENGTH = {"controls": [{"length": 12}]}

OWN = '''
from dlm_control.control.controller import Check, Controller
from dlm_control.control.registry import register_controller

@register_controller("{name}")
class Own(Controller):
    """Made for a test."""

    def __init__(self, {parameters}):
        {body}

    def check(self, text):
        return Check(1.0, "always")
'''


def own(folder: Path, name: str, parameters: str, body: str = "pass") -> dict[str, Any]:
    """A file with one controller, as the `include` of a spec."""
    (folder / f"{name}.py").write_text(OWN.format(name=name, parameters=parameters, body=body))
    return {"include": [str(folder / f"{name}.py")]}


def issues(**given: Any) -> str:
    """The report on a spec that has faults."""
    with pytest.raises(UsageError) as caught:
        Spec.from_mapping(given)
    return str(caught.value)


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "coffee.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_file_says_everything(tmp_path: Path) -> None:
    spec = read_spec(
        write(
            tmp_path,
            """
model: some/folder
preset: {name: fast, temperature: 0.8}
num_samples: 8
seed: 3
controls:
  - semantic: {field: food, value: Japanese}
  - length: 18
  - keyword: {words: riverside, weight: 2.0, interval: [0.1, 1.0], name: river}
""",
        )
    )
    assert (spec.model, spec.num_samples, spec.seed) == ("some/folder", 8, 3)
    assert (spec.preset.of("gaussian").steps, spec.preset.of("gaussian").temperature) == (20, 0.8)
    assert [(c.name, c.weight, c.interval) for c in spec.controls] == [
        ("semantic", 1.0, (0.0, 1.0)), ("length", 1.0, (0.0, 1.0)), ("river", 2.0, (0.1, 1.0)),
    ]  # fmt: skip
    assert spec.controls[1].controller.check("one two three").why == "3 words, expected 18"


def test_defaults() -> None:
    spec = Spec.from_mapping(LENGTH)
    assert (spec.model, spec.num_samples, spec.seed, spec.preset.of("gaussian").steps) == ("e2e", 1, 0, 16)


def test_equal_specs_have_equal_digests_however_they_are_written(tmp_path: Path) -> None:
    short = read_spec(write(tmp_path, "controls: [length: 12]"))
    long = read_spec(write(tmp_path, "seed: 0\npreset: default\ncontrols:\n- length:\n    weight: 1\n    words: 12\n"))
    assert short.digest == long.digest == Spec.from_mapping(LENGTH).digest
    assert short.digest != Spec.from_mapping({**LENGTH, "seed": 1}).digest
    assert short.digest != Spec.from_mapping({"controls": [{"length": 13}]}).digest


def test_overrides_replace_and_are_checked_too(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 1\nnum_samples: 2\ncontrols: [length: 12]")
    assert read_spec(path, {"seed": 7, "num_samples": None}).seed == 7
    with pytest.raises(UsageError, match=r"  - num_samples: expected a whole number from 1 to 100000, got 0$"):
        read_spec(path, {"num_samples": 0})


def test_controls_of_one_kind_are_numbered() -> None:
    spec = Spec.from_mapping({"controls": [{"keyword": "pub"}, {"keyword": "cheap"}]})
    assert [control.name for control in spec.controls] == ["keyword#1", "keyword#2"]


def test_a_preset_may_be_a_file_beside_the_spec(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: fast\nsteps: 7\n")
    path = write(tmp_path, "preset: mine.yaml\ncontrols: [length: 12]")
    assert read_spec(path).preset.of("gaussian") == preset("fast", steps=7)
    (tmp_path / "mine.yaml").write_text("name: fast\nstepps: 7\n")
    with pytest.raises(UsageError, match=r"preset\.stepps: unknown key, did you mean 'steps'"):
        read_spec(path)


def test_all_faults_come_in_one_report_with_file_line_and_place(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """modle: e2e
num_samples: 0
controls:
  - lenght: 18
  - keyword:
      words: pub
      weight: -1
""",
    )
    with pytest.raises(UsageError) as caught:
        read_spec(path)
    assert str(caught.value).splitlines() == [
        f"{path}: 4 problems",
        f"  - {path}:1: modle: unknown key, did you mean 'model'?; there are: "
        "model, preset, num_samples, seed, include, controls, unconditional, on_error",
        f"  - {path}:2: num_samples: expected a whole number from 1 to 100000, got 0",
        f"  - {path}:4: controls[0]: unknown controller 'lenght', did you mean 'length'?; "
        + str(caught.value).split("'length'?; ")[1].splitlines()[0],
        f"  - {path}:7: controls[1].weight: expected a number of 0 (check only) or more, got -1",
    ]


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), True, "heavy", None, 10**400])
def test_weights_that_are_none(weight: object) -> None:
    report = issues(controls=[{"length": {"words": 12, "weight": weight}}])
    assert "controls[0].weight: expected a number of 0 (check only) or more, got " in report


def test_a_weight_that_yaml_reads_as_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"weight: .* got '2e-1' .*2\.0e-1"):
        read_spec(write(tmp_path, "controls: [length: {words: 12, weight: 2e-1}]"))


def test_control_itself_refuses_a_bad_weight() -> None:
    controller = Spec.from_mapping(LENGTH).controls[0].controller
    with pytest.raises(UsageError, match=r"control c: 2 problems(?s:.*)weight(?s:.*)interval"):
        Control("c", controller, -1.0, (0.5, 0.1))


@pytest.mark.parametrize("interval", [[0.5, 0.2], [0, 2], [0.1], "0-1", [0, True], [0.3, float("nan")]])
def test_intervals_that_are_none(interval: object) -> None:
    report = issues(controls=[{"length": {"words": 12, "interval": interval}}])
    assert "controls[0].interval: expected two noise levels, 0 <= from < to <= 1, such as [0.1, 1.0], got " in report


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "8", None, 100_001])
def test_numbers_of_samples_that_are_none(number: object) -> None:
    assert f"num_samples: expected a whole number from 1 to 100000, got {number!r}" in issues(num_samples=number, **LENGTH)


@pytest.mark.parametrize("seed", [-1, 0.5, "x", False])
def test_seeds_that_are_none(seed: object) -> None:
    assert f"seed: expected a whole number from 0 to {2**63 - 1}, got {seed!r}" in issues(seed=seed, **LENGTH)


@pytest.mark.parametrize(
    ("entry", "raised"),
    [
        ({"lenght": 18}, "controls[0]: unknown controller 'lenght', did you mean 'length'?; there are: "),
        (
            {"length": {"wrds": 3}},
            "controls[0].wrds: unknown key, did you mean 'words'?; 'length' takes words=None, at_least=None",
        ),
        ({"length": {"words": 3, "wieght": 3}}, "controls[0].wieght: unknown key, did you mean 'weight'?"),
        ({"length": "long"}, "controls[0].words: expected a whole number above 0, got 'long'"),
        ({"length": 10**5000}, "controls[0].words: expected a whole number above 0, got a int that cannot be shown"),
        ({"length": None}, "controls[0]: length: give either `words` or `at_least` and/or `at_most`"),
        ({"semantic": {"field": "food"}}, "controls[0].value: missing"),
        (
            {"semantic": {"field": "fod", "value": "Thai", "domain": "e2e"}},
            "controls[0].field: unknown 'fod', did you mean 'food'?",
        ),
        (
            {"semantic": {"field": "food", "value": "Japanes", "domain": "e2e"}},
            "has no value 'Japanes', did you mean 'Japanese'?; it has Chinese",
        ),
        ({"infill": "no gap here"}, "controls[0].template: no gap in 'no gap here'; write one as [*], [4] or [3-6]"),
        ({"infill": "a [x] b"}, "controls[0].template: [x] in 'a [x] b' is no gap; expected [*], [4], [3-6], [3-] or [-6]"),
        ({"keyword": ""}, "controls[0].words: expected at least one word, got ''"),
        (
            {"keyword": {"words": "pub", "name": "a b"}},
            "controls[0].name: expected a name of letters, digits, _ and -, got 'a b'",
        ),
        ({"keyword": "pub", "weight": 2}, "weight stands inside the controller's braces: `keyword: {…, weight: …}`"),
        ({"keyword": "pub", "length": 2}, "got the keys keyword, length; give each controller an entry of its own"),
        ("length", "expected one controller and its target, such as `length: 18`, got 'length'"),
        ({3: 4}, "expected one controller and its target, such as `length: 18`, got {3: 4}"),
    ],
)
def test_faulty_controls(entry: object, raised: str) -> None:
    assert raised in issues(controls=[entry])


@pytest.mark.parametrize(
    ("keys", "raised"),
    [
        (
            {},
            "controls: missing; give at least one, such as `- length: 18` (`dlm ls` lists them), or say `unconditional: true`",
        ),
        ({"controls": []}, "controls: empty; give at least one"),
        ({"controls": None}, "controls: empty; give at least one"),
        (
            {"controls": {"length": 18}},
            "controls: expected a list with an entry `- controller: target` for each, got {'length': 18}",
        ),
        ({"controls": [], "unconditional": "yes"}, "unconditional: expected true or false, got 'yes'"),
        ({**LENGTH, "unconditional": True}, "unconditional: true, but there are 1 controls; remove one or the other"),
        ({**LENGTH, "model": ""}, "model: expected a bundled name, a folder or a hub id, got ''"),
        (
            {**LENGTH, "preset": "fsat"},
            "preset: unknown, did you mean 'fast'?; there are: default, sound, fast, particles, single, paper",
        ),
        (
            {**LENGTH, "preset": 7},
            "expected one of default, sound, fast, particles, single, paper, a preset file, or a mapping such as {name: fast, "
            "steps: 30}, "
            "got 7",
        ),
        ({**LENGTH, "preset": {"stepps": 3}}, "preset.stepps: unknown key, did you mean 'steps'?"),
        ({**LENGTH, "preset": {"steps": 0}}, "preset.steps: expected a whole number above 0, got 0"),
        (
            {**LENGTH, "preset": {"sampler": ["ddim"]}},
            "preset.sampler: unknown ['ddim'], did you mean 'ddim'?; there are: ancestral",
        ),
        (
            {**LENGTH, "preset": {"name": "paper", "sampler": "ancestral"}},
            "preset.sampler: the 2022 update needs a ddim step's",
        ),
        (
            {**LENGTH, "preset": {"steps": 50, "candidates": 4, "max_calls": 100}},
            "= 200 network calls a text exceed the budget of 100",
        ),
        ({**LENGTH, "include": "own.py"}, "include: expected a list of Python files, got 'own.py'"),
        ({**LENGTH, "include": ["gone.py"]}, "include[0]: include gone.py: no such Python file"),
    ],
)
def test_faulty_keys(keys: dict[str, Any], raised: str) -> None:
    assert raised in issues(**keys)


def test_names_are_one_control_s_alone() -> None:
    report = issues(
        controls=[{"length": 9}, {"keyword": {"words": "a", "name": "length"}}, {"keyword": {"words": "b", "name": "length"}}]
    )
    assert "controls[1].name: 'length' is the name of controls[0] already" in report
    assert "controls[2].name: 'length' is the name of controls[1] already" in report


@pytest.mark.parametrize(
    ("content", "raised"),
    [
        ("", "coffee.yaml: empty; expected keys and values"),
        ("# nothing\n", "coffee.yaml: empty; expected keys and values"),
        ("- length: 18\n", "coffee.yaml: expected keys and values, got list"),
        ("just words", "coffee.yaml: expected keys and values, got str"),
        ("controls: [\n", "coffee.yaml:2:1: not plain YAML: "),
        ("a: b: c", "coffee.yaml:1:5: not plain YAML: mapping values are not allowed here"),
        ("a: 1\n---\nb: 2", "not plain YAML"),
        ("a: !!python/object/apply:os.system ['true']", "not plain YAML: could not determine a constructor for the tag"),
        ("a: 2020-13-45", "coffee.yaml: not plain YAML: month must be in 1..12"),
        ("seed: 1\nseed: 2", "coffee.yaml:1: seed: given twice, in line 1 and in line 2"),
        ("controls:\n- length: {words: 3, words: 4}", "given twice, in line 2 and in line 2"),
        ("? [a]\n: b", "expected a name as key"),
        ("1: x", "line 1: expected a name as key, got '1'; quote it if it is one"),
        ("a: &x [1]\nb: *x", "coffee.yaml:1: &x: anchors and aliases are refused; write the value out"),
        ("b: *x", "coffee.yaml:1: *x: anchors and aliases are refused"),
        ("a: " + "[" * 5000, "coffee.yaml:1: nested more than 20 deep"),
        ("# " + "x" * 1_000_000, "coffee.yaml: larger than 1 MB"),
        (b"seed: \xff\xfe", "coffee.yaml: not UTF-8 text (byte 6 is 0xff)"),
        (b"seed: \x00", "coffee.yaml: not plain YAML: the character '\\x00' at place 6"),
    ],
)
def test_files_that_are_no_spec(tmp_path: Path, content: str | bytes, raised: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_spec(write(tmp_path, content))
    assert raised in str(caught.value)


def test_a_yaml_bomb_is_refused_at_once(tmp_path: Path) -> None:
    layers = ["a0: &a0 [lol, lol]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    with pytest.raises(UsageError, match="anchors and aliases are refused"):
        read_spec(write(tmp_path, "\n".join(layers)))


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.yaml: no such file"):
        read_spec(tmp_path / "gone.yaml")
    with pytest.raises(UsageError, match="a folder; expected a YAML file"):
        read_spec(tmp_path)
