"""What the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dlm_control import LanguageModel
from dlm_control.control.registry import CONTROLLERS
from dlm_control.support.include import include
from dlm_control.tasks.spec import Spec, read_spec

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_example_obeys_all_controls(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("python")[0], "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert sum(line.endswith("True") for line in lines) >= 7


def test_plugin_example_steers(e2e: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "opening.py").write_text(blocks("python")[1], encoding="utf-8")
    include(tmp_path / "opening.py")
    opening: Any = CONTROLLERS["opening"]
    samples = e2e.generate([opening("Located")], num_samples=4, steps=20)
    assert all(sample.passed and sample.words[0] == "Located" for sample in samples)


def test_yaml_example_is_a_spec() -> None:
    import yaml

    spec = Spec.from_mapping(yaml.safe_load(blocks("yaml")[0]))
    assert [control.name for control in spec.controls] == ["semantic", "length", "keyword"]
    assert read_spec(ROOT / "examples" / "coffee.yaml").num_samples == 8


DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/*.md", "examples/**/*.md", "*/models/*/README.md"]


@pytest.mark.parametrize(
    "document",
    sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern)),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target
