"""Docstrings name their parameters: every public function of four or more has a section Args, which names each of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("dlm_control", "controllers", "tasks", "eval")
MANY = 4  # parameters, without self
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")}
CLASSES = {node.name: node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def named(docstring: str, section: str) -> set[str]:
    """The names that a section of a docstring explains, such as `a` and `b` of `Args:`, `    a, b: two numbers.`"""
    lines = iter(docstring.splitlines())
    if not any(line.strip() == f"{section}:" for line in lines):
        return set()
    found = set()
    for line in lines:
        if line and not line.startswith(" "):
            break
        heading = re.match(r" {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*): ", line)
        found |= set(heading[1].replace("*", "").split(", ")) if heading else set()
    return found


def parameters(function: ast.FunctionDef) -> list[str]:
    """Names of a function's parameters, without self."""
    given = function.args
    rest = [each for each in (given.vararg, given.kwarg) if each is not None]
    return [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs, *rest) if each.arg not in ("self", "cls")]


def overrides(owner: ast.ClassDef, method: str) -> bool:
    """Does a base class of the project have the method? It says then what the parameters are."""
    bases = [CLASSES[base.id] for base in owner.bases if isinstance(base, ast.Name) and base.id in CLASSES]
    return any(overrides(base, method) or any(getattr(each, "name", "") == method for each in base.body) for base in bases)


def decorators(node: ast.FunctionDef | ast.ClassDef) -> str:
    return " ".join(ast.unparse(each) for each in node.decorator_list)


def faults(body: list[ast.stmt], owner: ast.ClassDef | None = None) -> Iterator[tuple[int, str, list[str]]]:
    """Line and name of each public function that does not explain all of its many parameters, and which it leaves out."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from faults(node.body, node)
            if "dataclass" in decorators(node):
                fields = [
                    each.target.id
                    for each in node.body
                    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
                ]
                missing = [name for name in fields if name not in named(ast.get_docstring(node) or "", "Attributes")]
                if len(fields) >= MANY and missing:
                    yield node.lineno, node.name, missing
        if not isinstance(node, ast.FunctionDef) or (node.name.startswith("_") and node.name != "__init__"):
            continue
        if "typer." in ast.unparse(node.args) or ".command(" in decorators(node):  # a command's help stands in its annotations
            continue
        if owner is not None and node.name != "__init__" and overrides(owner, node.name):
            continue
        docstring = ast.get_docstring(node) or ""
        known = named(docstring, "Args")
        if owner is not None and node.name == "__init__":
            known |= named(ast.get_docstring(owner) or "", "Args")
        missing = [name for name in parameters(node) if name not in known]
        if len(parameters(node)) >= MANY and missing:
            yield node.lineno, f"{owner.name}.{node.name}" if owner else node.name, missing


def test_public_functions_of_many_parameters_explain_each_of_them() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {name} does not explain {', '.join(missing)}"
        for file, tree in TREES.items()
        for line, name, missing in faults(tree.body)
    ]
    assert not found, "\n".join(found)


def test_a_function_without_args_is_seen() -> None:
    source = '''
def explained(a, b, *c, **d):
    """Adds.

    Args:
        a, b: numbers.
        *c: more: of them.
        **d: none.

    Returns:
        e: the sum.
    """

class Unexplained:
    """Nothing."""

    def __init__(self, a, b, c, d):
        """Makes it.

        Args:
            a: a number.
        """
'''
    assert list(faults(ast.parse(source).body)) == [(17, "Unexplained.__init__", ["b", "c", "d"])]
