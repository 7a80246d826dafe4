"""Specs: what a faulty one is told, where, and what is possible instead."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlm_control.control.controller import Controller
from dlm_control.control.registry import controller, controllers, include, register_controller
from dlm_control.control.use import Control
from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.presets import named_preset, preset
from dlm_control.support.errors import UsageError
from dlm_control.support.hub import model_folder
from dlm_control.tasks.controls import USE
from dlm_control.tasks.preflight import preflight
from dlm_control.tasks.run import run_spec, writable
from dlm_control.tasks.spec import KEYS, Spec, read_spec
from dlm_control.tasks.suite import read_suite

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


def test_an_included_file_counts_in_the_digest(tmp_path: Path) -> None:
    included = own(tmp_path, "digested", "target")
    first = Spec.from_mapping({**included, "controls": [{"digested": 1}]}).digest
    with open(included["include"][0], "a") as file:
        file.write("# changed\n")
    assert Spec.from_mapping({**included, "controls": [{"digested": 1}]}).digest != first


def test_overrides_replace_and_are_checked_too(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 1\nnum_samples: 2\ncontrols: [length: 12]")
    assert read_spec(path, {"seed": 7, "num_samples": None}).seed == 7
    with pytest.raises(UsageError, match=r"  - num_samples: expected a whole number from 1 to 100000, got 0$"):
        read_spec(path, {"num_samples": 0})


def test_controls_of_one_kind_are_numbered() -> None:
    spec = Spec.from_mapping({"controls": [{"keyword": "pub"}, {"keyword": "cheap"}]})
    assert [control.name for control in spec.controls] == ["keyword#1", "keyword#2"]


def test_includes_are_looked_up_beside_the_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "specs").mkdir()
    own(tmp_path / "specs", "beside", "target")
    path = write(tmp_path / "specs", "include: [beside.py]\ncontrols: [beside: 3]")
    monkeypatch.chdir(tmp_path)
    assert read_spec(path).controls[0].name == "beside"


def test_a_preset_may_be_a_file_beside_the_spec(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: fast\nsteps: 7\n")
    path = write(tmp_path, "preset: mine.yaml\ncontrols: [length: 12]")
    assert read_spec(path).preset.of("gaussian") == preset("fast", steps=7)
    (tmp_path / "mine.yaml").write_text("name: fast\nstepps: 7\n")
    with pytest.raises(UsageError, match=r"preset\.stepps: unknown key, did you mean 'steps'"):
        read_spec(path)


def test_files_of_one_name_in_two_folders_are_both_included(tmp_path: Path) -> None:
    for folder, name in (("a", "twin_a"), ("b", "twin_b")):
        (tmp_path / folder).mkdir()
        own(tmp_path / folder, name, "target")
        (tmp_path / folder / f"{name}.py").rename(tmp_path / folder / "twin.py")
    files = [str(tmp_path / folder / "twin.py") for folder in "ab"]
    spec = Spec.from_mapping({"include": files, "controls": [{"twin_a": 1}, {"twin_b": 1}]})
    assert [control.name for control in spec.controls] == ["twin_a", "twin_b"]


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
        ({"length": None}, "controls[0]: length: give either `words` or `at_least` and/or `at_most`"),
        ({"semantic": {"field": "food"}}, "controls[0].value: missing"),
        ({"semantic": {"field": "fod", "value": "Thai"}}, "controls[0].field: unknown 'fod', did you mean 'food'?"),
        (
            {"semantic": {"field": "food", "value": "Japanes"}},
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
        ({**LENGTH, "preset": "fsat"}, "preset: unknown, did you mean 'fast'?; there are: default, sound, fast, single, paper"),
        (
            {**LENGTH, "preset": 7},
            "expected one of default, sound, fast, single, paper, a preset file, or a mapping such as {name: fast, steps: 30}, "
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


def test_a_controller_that_takes_a_key_of_every_control_is_refused(tmp_path: Path) -> None:
    report = issues(**own(tmp_path, "greedy", "target, weight=1"), controls=[{"greedy": 1}])
    assert "controls[0]: controller 'greedy' has a parameter 'weight', a key that every control has; rename it" in report


@pytest.mark.parametrize("error", ["TypeError", "ValueError"])
def test_a_constructor_s_error_is_a_fault_at_its_place(tmp_path: Path, error: str) -> None:
    name = f"raises_{error.lower()}"
    report = issues(**own(tmp_path, name, "target", f"raise {error}('no good')"), controls=[{"length": 9}, {name: 1}])
    assert f"controls[1]: {name}: no good" in report


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


def told_by_preflight(lm: LanguageModel, *controls: object, **given: Any) -> str:
    with pytest.raises(UsageError) as caught:
        preflight(Spec.from_mapping({"controls": list(controls), **given}), lm)
    return str(caught.value)


def test_preflight_passes_what_can_be(tiny_lm: LanguageModel) -> None:
    preflight(Spec.from_mapping({"controls": [{"length": 9}, {"keyword": "riverside"}, {"infill": "The [*] ."}]}), tiny_lm)


def test_preflight_names_words_the_model_lacks(tiny_lm: LanguageModel) -> None:
    report = told_by_preflight(
        tiny_lm, {"length": 9}, {"keyword": {"words": "riversid", "name": "river"}}, {"infill": "Old Ankor [3]"}
    )
    assert "controls[1] (river): the word 'riversid' is not among the" in report
    assert "near it: riverside" in report
    assert "controls[2] (infill): the word 'Ankor' is not among the" in report


@pytest.mark.parametrize(
    ("controls", "raised"),
    [
        ([{"length": 32}], "length needs 32 words; a text has 1 to 31 words"),
        ([{"infill": "a [40]"}], "infill needs its template, 41 words; a text has 1 to 31 words"),
        ([{"length": 12}, {"length": 14}], "length#1 needs 12 words; length#2 needs 14 words"),
        (
            [{"length": 4}, {"infill": "The pub is [2-] ."}],
            "length needs 4 words; infill needs its template, 6 to any number of words",
        ),
        (
            [{"length": 3}, {"keyword": {"words": "pub", "position": 7}}],
            "length needs 3 words; keyword needs a word at position 7",
        ),
        ([{"length": 1}, {"keyword": "Golden Fox"}], "length needs 1 words; keyword needs room for 2 more words"),
        ([{"keyword": "pub"}, {"keyword": {"words": "pub", "present": False}}], "keyword#2 needs 1 words absent"),
    ],
)
def test_preflight_finds_contradictions(tiny_lm: LanguageModel, controls: list[object], raised: str) -> None:
    report = told_by_preflight(tiny_lm, *controls)
    assert "controls: no text can obey them: " in report
    assert raised in report


def test_weight_zero_checks_and_fixes_nothing(tiny_lm: LanguageModel) -> None:
    spec = Spec.from_mapping({"controls": [{"length": 9}, {"length": {"words": 14, "weight": 0}}], "preset": {"steps": 2}})
    (sample,) = run_spec(spec, tiny_lm)
    assert {name: check.passed for name, check in sample.checks.items()} == {"length#1": True, "length#2": False}


def test_run_writes_texts_and_a_manifest(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    spec = Spec.from_mapping({"controls": [{"length": 9}, {"keyword": "riverside"}], "num_samples": 3, "preset": {"steps": 3}})
    samples = run_spec(spec, tiny_lm, tmp_path / "out.jsonl")
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [r["text"] for r in records] == [s.text for s in samples]
    assert [(r["index"], r["seed"], r["calls"], len(r["words"])) for r in records] == [(i, 0, 9, 9) for i in range(3)]
    assert records[0]["checks"]["length"] == {"score": 1.0, "why": "9 words, expected 9", "passed": True}
    assert set(records[0]["energies"]) == {"keyword"}
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert (manifest["samples"], manifest["seed"], manifest["spec_digest"]) == (3, 0, spec.digest)
    assert manifest["model"]["fingerprint"] == tiny_lm.fingerprint
    assert set(manifest["versions"]) == {"dlm-control", "torch", "transformers", "python"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.jsonl.manifest.json"]


def test_an_output_that_exists_is_kept_unless_forced(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("precious")
    spec = Spec.from_mapping({**LENGTH, "preset": {"steps": 2}})
    with pytest.raises(UsageError, match=r"out\.jsonl: exists; --force replaces it"):
        run_spec(spec, tiny_lm, out)
    assert out.read_text() == "precious"
    run_spec(spec, tiny_lm, out, force=True)
    assert json.loads(out.read_text())["index"] == 0


@pytest.mark.parametrize(
    ("out", "raised"),
    [
        ("gone/out.jsonl", "no folder"),
        (".", "is a folder; give the name of a file"),
        ("x" * 250, "cannot be written: File name too long"),
    ],
)
def test_outputs_that_cannot_be(tmp_path: Path, out: str, raised: str) -> None:
    with pytest.raises(UsageError, match=raised):
        writable(tmp_path / out, force=True)
    assert list(tmp_path.iterdir()) == []


def test_a_device_is_never_replaced() -> None:
    with pytest.raises(UsageError, match="/dev/full is no plain file"):
        writable("/dev/full", force=True)
    assert Path("/dev/full").is_char_device()


def test_a_full_disk_leaves_nothing_half_written(
    tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    out = tmp_path / "out.jsonl"
    out.write_text("precious")
    with pytest.raises(UsageError, match="cannot be written: No space left on device; nothing was kept"):
        run_spec(Spec.from_mapping({**LENGTH, "preset": {"steps": 2}}), tiny_lm, out, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert out.read_text() == "precious"


def test_on_error_lets_the_other_texts_live(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    energy = "assert not (state.length == 7).any(), 'seven'\n        return -state.log_probs[:, 0].logsumexp(-1)"
    own(tmp_path, "moody", "**options", f"self.reads = 'log_probs'\n\n    def energy(self, state):\n        {energy}")
    file = write(
        tmp_path,
        "include: [moody.py]\nnum_samples: 12\non_error: skip\npreset: {steps: 2, candidates: 1}\n"
        "controls: [{moody: }, {length: {at_least: 6, at_most: 8}}]\n",
    )
    samples = run_spec(read_spec(file), tiny_lm, tmp_path / "out.jsonl")
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(records) == len(samples) == 12
    assert 0 < sum(record["error"] is not None for record in records) < 12
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert manifest["failed"] == sum("seven" in str(record["error"]) for record in records)
    assert "on_error: expected raise or skip, got 'ignore'" in issues(**LENGTH, on_error="ignore")


NAMES = st.sampled_from([*KEYS, *USE, *controllers(), "words", "spans", "tags", "guide", "template", "steps", "select"])
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
ENTRIES = st.dictionaries(st.sampled_from([*controllers()]), VALUES, min_size=1, max_size=1)
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


def test_a_mapping_of_mixed_keys_has_a_digest(tmp_path: Path) -> None:
    spec = Spec.from_mapping(
        {**own(tmp_path, "mixed", "target"), "controls": [{"mixed": {"target": {1: "a", "b": {None: 2}}}}]}
    )
    assert len(spec.digest) == 64


def test_an_included_file_that_is_edited_runs_again(tmp_path: Path) -> None:
    included = own(tmp_path, "edited", "target", "self.version = 1")
    made = [Spec.from_mapping({**included, "controls": [{"edited": 1}]}) for _ in range(2)]
    own(tmp_path, "edited", "target", "self.version = 2")
    made.append(Spec.from_mapping({**included, "controls": [{"edited": 1}]}))
    assert [spec.controls[0].controller.version for spec in made] == [1, 1, 2]  # type: ignore[attr-defined]
    assert type(made[0].controls[0].controller) is type(made[1].controls[0].controller)
    own(tmp_path, "edited", "target", "= 3")
    assert "include[0]: include" in issues(**included, controls=[{"edited": 1}])
    own(tmp_path, "other", "target")
    (tmp_path / "other.py").rename(tmp_path / "edited.py")
    assert "unknown controller 'edited'" in issues(**included, controls=[{"edited": 1}])


def test_a_cell_that_registers_a_controller_can_run_twice() -> None:
    cell = OWN.format(name="cell", parameters="target", body="self.run = {run}")
    for run in (1, 2):
        exec(cell.replace("{run}", str(run)), {"__name__": "__main__"})
        assert controller("cell")(1).run == run  # type: ignore[call-arg, attr-defined]
    with pytest.raises(UsageError, match="registered twice in __main__"):
        exec(cell.replace("class Own", "class Another"), {"__name__": "__main__"})


@pytest.mark.parametrize("name", [Controller, 3, "", "two words"])
def test_names_that_no_controller_can_have(name: Any) -> None:
    with pytest.raises(UsageError, match="register_controller: expected a name of letters"):
        register_controller(name)
