"""Imports run one way: between the folders, and between the rooms of the engine."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import dlm_control
import dlm_control.controllers

ROOT = Path(__file__).parents[1]

# What each room of the engine may import, itself aside.
ENGINE = {
    "support": "",
    "version": "",
    "text": "support",
    "diffusion": "support text",
    "control": "support text diffusion",
    "sampling": "support text diffusion control",
    "pipeline": "support text diffusion control sampling",
    "outside": "support text diffusion control sampling",
    "training": "support text diffusion",
    "testing": "support text diffusion control sampling pipeline training version",
    "commands": "support text diffusion control sampling pipeline training version testing",
    "cli": "support text diffusion control sampling pipeline training version testing commands",
    "__main__": "cli",
}
FLOORS = "support version text diffusion control sampling pipeline outside training"
FOLDERS = {
    "controllers": FLOORS,
    "tasks": f"{FLOORS} controllers",
    "eval": f"{FLOORS} controllers tasks testing",
}
MAY = {room: {room, *below.split()} for room, below in (ENGINE | FOLDERS).items()}


class Import(NamedTuple):
    """One imported module of the project."""

    file: str
    line: int
    module: str
    typing: bool

    @property
    def room(self) -> str:
        """Where the import stands: a folder, or a room of the engine."""
        first, *rest = Path(self.file).with_suffix("").parts
        return rest[0] if first == "dlm_control" else first

    @property
    def wrong(self) -> str:
        """How the import breaks the order, or nothing."""
        target = self.module.split(".")[1]
        may = MAY.get(self.room, {self.room})
        if target in may:
            return ""
        how = ", for type checking" if self.typing else ""
        return f"{self.file}:{self.line}: {self.room} imports {self.module}{how}; it may import {' '.join(sorted(may))}"


def imports(source: str, file: str) -> Iterator[Import]:
    """Every import of the project in a source, at whatever depth; a public name counts as the module it comes from."""
    package = ["dlm_control", *Path(file.removeprefix("dlm_control/")).parent.parts]

    def modules(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            return
        base = package[: len(package) + 1 - node.level] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        if module == "dlm_control":
            yield from (f"dlm_control.{dlm_control._HOMES.get(alias.name, alias.name)}" for alias in node.names)
        else:
            yield module

    def walk(node: ast.AST, typing: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in modules(node):
                if module.startswith("dlm_control."):
                    yield Import(file, node.lineno, module, typing)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.body:
                yield from walk(child, True)
            for child in node.orelse:
                yield from walk(child, typing)
        else:
            for inner in ast.iter_child_nodes(node):
                yield from walk(inner, typing)

    return walk(ast.parse(source), False)


def project() -> list[Import]:
    """Every import of the project but those of dlm_control/__init__.py, which shows names of all rooms."""
    files = (file for folder in ("dlm_control", *FOLDERS) for file in sorted((ROOT / folder).rglob("*.py")))
    names = [file.relative_to(ROOT).as_posix() for file in files]
    names.remove("dlm_control/__init__.py")
    return [found for name in names for found in imports((ROOT / name).read_text(encoding="utf-8"), name)]


PROJECT = project()


def test_every_room_has_a_place_in_the_order() -> None:
    rooms = {path.stem for path in (ROOT / "dlm_control").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__"} == set(ENGINE)


def test_imports_run_one_way() -> None:
    wrong = [found.wrong for found in PROJECT if found.wrong]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "file", "said"),
    [
        ("import dlm_control.pipeline", "dlm_control/control/plan.py", "plan.py:1: control imports dlm_control.pipeline;"),
        ("from dlm_control import load", "dlm_control/sampling/trace.py", "sampling imports dlm_control.pipeline;"),
        ("from dlm_control import read_spec", "controllers/pos.py", "controllers imports dlm_control.tasks.spec;"),
        ("from dlm_control import tasks", "controllers/guides/lookup.py", "controllers imports dlm_control.tasks;"),
        ("from ..text import words", "dlm_control/support/hub.py", "support imports dlm_control.text;"),
        ("from ..eval import run", "tasks/spec.py", "tasks imports dlm_control.eval;"),
        ("def f():\n    from dlm_control.eval import log", "tasks/run.py", "run.py:2: tasks imports dlm_control.eval;"),
        ("from dlm_control.cli import main", "eval/commands.py", "eval imports dlm_control.cli;"),
        (
            "if TYPE_CHECKING:\n    from dlm_control.sampling.sample import Sample",
            "dlm_control/training/data.py",
            "training imports dlm_control.sampling.sample, for type checking;",
        ),
        ("if not TYPE_CHECKING:\n    import dlm_control.cli", "tasks/run.py", "tasks imports dlm_control.cli;"),
    ],
)
def test_a_wrong_import_is_told(source: str, file: str, said: str) -> None:
    [found] = imports(source, file)
    assert said in found.wrong


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("from dlm_control import UsageError", "dlm_control/training/recipe.py"),
        ("from . import plan", "dlm_control/control/use.py"),
        ("from dlm_control.control.plan import Plan", "dlm_control/sampling/layout.py"),
        ("from dlm_control.tasks.spec import read_spec", "eval/commands.py"),
    ],
)
def test_a_right_import_passes(source: str, file: str) -> None:
    assert [found.wrong for found in imports(source, file)] in ([""], ["", ""])


def test_the_built_in_controls_have_public_names() -> None:
    assert (
        dlm_control.controllers.__all__
        == "Choice Classifier Infill Json Keyword Length PartsOfSpeech Pattern Reward Semantic Span SyntaxTree Topic".split()
    )
    for name in dlm_control.controllers.__all__:
        assert issubclass(getattr(dlm_control.controllers, name), dlm_control.Controller)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = dlm_control.controllers.Nothing


def test_the_packages_alone_import_nothing_heavy() -> None:
    code = (
        "import sys, dlm_control.controllers\n"
        "print(sorted({'torch', 'numpy', 'yaml', 'spacy', 'transformers'} & set(sys.modules)),"
        " [name for name in sys.modules if name.startswith('dlm_control.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] ['dlm_control.controllers']"
