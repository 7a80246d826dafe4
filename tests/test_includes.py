"""Files of controllers that a spec includes: found, counted, run again when they change."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from test_cli import dlm
from test_spec import OWN, issues, own, write

from dlm_control.control.controller import Controller
from dlm_control.control.registry import CONTROLLERS, register_controller
from dlm_control.support.errors import UsageError
from dlm_control.tasks.spec import Spec, read_spec


def test_an_included_file_counts_in_the_digest(tmp_path: Path) -> None:
    included = own(tmp_path, "digested", "target")
    first = Spec.from_mapping({**included, "controls": [{"digested": 1}]}).digest
    with open(included["include"][0], "a") as file:
        file.write("# changed\n")
    assert Spec.from_mapping({**included, "controls": [{"digested": 1}]}).digest != first


def test_includes_are_looked_up_beside_the_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "specs").mkdir()
    own(tmp_path / "specs", "beside", "target")
    path = write(tmp_path / "specs", "include: [beside.py]\ncontrols: [beside: 3]")
    monkeypatch.chdir(tmp_path)
    assert read_spec(path).controls[0].name == "beside"


def test_files_of_one_name_in_two_folders_are_both_included(tmp_path: Path) -> None:
    for folder, name in (("a", "twin_a"), ("b", "twin_b")):
        (tmp_path / folder).mkdir()
        own(tmp_path / folder, name, "target")
        (tmp_path / folder / f"{name}.py").rename(tmp_path / folder / "twin.py")
    files = [str(tmp_path / folder / "twin.py") for folder in "ab"]
    spec = Spec.from_mapping({"include": files, "controls": [{"twin_a": 1}, {"twin_b": 1}]})
    assert [control.name for control in spec.controls] == ["twin_a", "twin_b"]


def test_a_controller_that_takes_a_key_of_every_control_is_refused(tmp_path: Path) -> None:
    report = issues(**own(tmp_path, "greedy", "target, weight=1"), controls=[{"greedy": 1}])
    assert "controls[0]: controller 'greedy' has a parameter 'weight', a key that every control has; rename it" in report


@pytest.mark.parametrize("error", ["TypeError", "ValueError"])
def test_a_constructor_s_error_is_a_fault_at_its_place(tmp_path: Path, error: str) -> None:
    name = f"raises_{error.lower()}"
    report = issues(**own(tmp_path, name, "target", f"raise {error}('no good')"), controls=[{"length": 9}, {name: 1}])
    assert f"controls[1]: {name}: no good" in report


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
        assert CONTROLLERS["cell"](1).run == run  # type: ignore[call-arg, attr-defined]
    with pytest.raises(UsageError, match="registered twice in __main__"):
        exec(cell.replace("class Own", "class Another"), {"__name__": "__main__"})


@pytest.mark.parametrize("name", [Controller, 3, "", "two words"])
def test_names_that_no_controller_can_have(name: Any) -> None:
    with pytest.raises(UsageError, match="register_controller: expected a name of letters"):
        register_controller(name)


@pytest.fixture
def marked(tmp_path: Path) -> tuple[Path, Path, str]:
    """A spec that includes a file, what the file leaves when it runs, and the file's sha256."""
    mark = tmp_path / "ran"
    included = own(tmp_path, "marked", "target")["include"][0]
    with open(included, "a") as file:
        file.write(f"open({str(mark)!r}, 'w').close()\n")
    spec = write(tmp_path, "preset: {steps: 2, candidates: 1}\ninclude: [marked.py]\ncontrols: [marked: 1]")
    return spec, mark, hashlib.sha256(Path(included).read_bytes()).hexdigest()


@pytest.mark.parametrize("command", ["validate", "generate", "explain"])
def test_a_command_names_an_included_file_and_its_hash(command: str, marked: tuple[Path, Path, str]) -> None:
    spec, mark, digest = marked
    done = dlm(command, spec)
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith(f"runs the included Python file {spec.parent / 'marked.py'} (sha256 {digest})\n")
    assert mark.exists()


def test_a_file_that_fails_is_named_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise SystemError('at once')")
    done = dlm("validate", write(tmp_path, "include: [broken.py]\ncontrols: [length: 9]"))
    assert done.exit_code == 2
    assert done.stderr.index("runs the included Python file") < done.stderr.index("at once")


@pytest.mark.parametrize("command", ["validate", "generate", "explain"])
def test_no_include_runs_no_code_of_a_spec(command: str, marked: tuple[Path, Path, str]) -> None:
    spec, mark, digest = marked
    done = dlm(command, spec, "--no-include")
    assert done.exit_code == 2 and not mark.exists()
    assert (
        f"include[0]: {spec.parent / 'marked.py'} (sha256 {digest}) is Python code, and --no-include refuses it" in done.stderr
    )


def test_no_include_holds_for_a_template_and_for_a_file_that_ran_before(marked: tuple[Path, Path, str], tmp_path: Path) -> None:
    spec, mark, _ = marked
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"n": 1}\n')
    spec.write_text("include: [marked.py]\ncontrols: [marked: '${n}']")
    arguments = ("generate", rows, "--spec", spec, "--out", tmp_path / "texts.jsonl", "--no-include")
    assert "--no-include refuses it" in dlm(*arguments).stderr and not mark.exists()
    assert "--no-include refuses it" in dlm(*arguments, "--include", tmp_path / "marked.py").stderr and mark.exists()


def test_from_python_a_function_decides(marked: tuple[Path, Path, str]) -> None:
    spec, mark, digest = marked
    seen: list[tuple[str, str, bool]] = []
    read_spec(spec, before_include=lambda file, hashed: seen.append((file.name, hashed, mark.exists())))
    assert seen == [("marked.py", digest, False)] and mark.exists()
