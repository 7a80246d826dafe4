"""The wheel: what it holds, and that it works where the source tree is not."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "dlm_control": "dlm_control",
    "controllers": "dlm_control/controllers",
    "tasks": "dlm_control/tasks",
    "eval": "dlm_control/eval",
}


def pip(command: str, *arguments: str) -> None:
    """Run pip without a network."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, "-q", "--no-index", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, for setuptools would take over what an earlier build left in build/."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(out), str(source))
    [built] = out.glob("*.whl")
    return built


def test_the_wheel_holds_one_package_and_all_its_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {"dlm_control", f"{wheel.name.split('-py3')[0]}.dist-info"}
    expected = {
        f"{inside}/{path.relative_to(ROOT / folder)}"
        for folder, inside in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"dlm_control/py.typed", "dlm_control/__init__.py", "dlm_control/tasks/__init__.py"} <= expected
    assert expected <= names, sorted(expected - names)
    assert wheel.stat().st_size < 100e6  # PyPI takes no larger file


def test_an_installed_wheel_works_away_from_the_source(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip("install", "--no-deps", "--no-compile", "--target", str(site), str(wheel))
    # -S keeps the editable install's .pth away; the dependencies come by path alone.
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    program = f"""
import sys
sys.path[:0] = [{str(site)!r}]
sys.path += {dependencies!r}
import dlm_control, dlm_control.controllers, dlm_control.eval, dlm_control.tasks
from dlm_control.support.hub import bundled
from dlm_control.control.registry import CONTROLLERS
for package in (dlm_control, dlm_control.controllers, dlm_control.eval, dlm_control.tasks):
    assert package.__file__.startswith({str(site)!r}), package.__file__
assert not any(path.startswith({str(ROOT)!r}) and "site-packages" not in path for path in sys.path), sys.path
assert "torch" not in sys.modules
print(*sorted(bundled()))
print(*sorted(CONTROLLERS))
dlm_control.load, dlm_control.Controller, dlm_control.Preset
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=elsewhere, capture_output=True, text=True, env={"PATH": ""}
    )
    assert done.returncode == 0, done.stderr
    models, found = done.stdout.splitlines()
    folders = {path.parent.name for folder in FOLDERS for path in (ROOT / folder).glob("models/*/config.json")}
    assert set(models.split()) == folders
    assert {"infill", "keyword", "length", "semantic"} <= set(found.split())
