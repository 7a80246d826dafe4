"""The site is built strictly, the API page lists what is public, and the notebook runs."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dlm_control
from dlm_control import controllers
from dlm_control import eval as evaluation

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "examples" / "tour.ipynb"
LISTED = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.M)


def test_the_site_is_built_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert pages <= {page.stem for page in tmp_path.glob("*.html")}
    front = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{page}.html"' in front for page in pages - {"index"})
    assert "callback_on_step" in (tmp_path / "api.html").read_text(encoding="utf-8")
    backbones = (tmp_path / "backbones.html").read_text(encoding="utf-8")
    assert '<span class="filename">counts.py</span>' in backbones
    assert "https://fonts" not in front


def test_the_api_page_lists_all_exported_names_and_no_others() -> None:
    exported = {f"dlm_control.{name}" for name in dlm_control.__all__}
    exported |= {f"dlm_control.controllers.{name}" for name in controllers.__all__}
    exported |= {f"dlm_control.eval.{name}" for name in evaluation.__all__}
    assert exported <= {*LISTED}
    assert len(LISTED) == len({*LISTED})
    for name in LISTED:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__, name


def api_check() -> ModuleType:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        loader = SourceFileLoader("api_check", str(ROOT / "tools" / "api_check"))
        module = ModuleType("api_check")
        loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return module


def test_the_api_check_names_what_breaks(tmp_path: Path) -> None:
    pytest.importorskip("griffe")
    tool = api_check()
    code = {
        "old": "def load(source, device='cpu'): ...\ndef steer(a): ...\nclass Plan: ...\n",
        "new": "def load(source, dtype, device='cuda'): ...\ndef steer(a, b=None): ...\n",
    }
    packages: dict[str, Any] = {}
    for name, text in code.items():
        (tmp_path / name / "dlm_control").mkdir(parents=True)
        (tmp_path / name / "dlm_control" / "__init__.py").write_text(text)
        packages[name] = tool.api(tmp_path / name)
    found = tool.breakages(packages["old"], packages["new"], [f"dlm_control.{name}" for name in ("load", "steer", "Plan")])
    assert found.pop() == "dlm_control.Plan: was removed"
    assert {each.partition("):")[0] for each in found} == {"dlm_control.load: load(dtype", "dlm_control.load: load(device"}
    assert any("added as required" in each for each in found)


def cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_committed_with_its_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert NOTEBOOK.stat().st_size < 500_000
    assert [cell["execution_count"] for cell in cells(notebook)] == [*range(1, len(cells(notebook)) + 1)]
    outputs = [output for cell in cells(notebook) for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom() -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    printed = "".join(
        output.get("text", "") for cell in cells(notebook) for output in cell.outputs if output.get("name") == "stdout"
    )
    verdicts = re.findall(r"^(yes|no ) ", printed, re.M)
    assert len(verdicts) == 10 and verdicts.count("yes") >= 8
    assert "no text can obey" in printed
