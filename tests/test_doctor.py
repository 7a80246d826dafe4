"""`dlm doctor` tells what is here, what is missing and how to get it."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint, distributions, version
from typing import Any

import pytest
from typer.testing import CliRunner

from dlm_control.cli import build
from dlm_control.support import doctor


def test_the_report_names_versions_extras_models_device_and_disk() -> None:
    run = CliRunner().invoke(build(), ["doctor", "--json"])
    assert run.exit_code == 0, run.output
    found = {(line["area"], line["name"]): line for line in json.loads(run.stdout)}
    assert found["versions", "torch"]["state"] == version("torch")
    assert {"e2e", "e2e-teacher"} <= {name for area, name in found if area == "models"}
    assert {("extras", "plot"), ("device", "cpu"), ("disk", "here")} <= found.keys()
    assert not any(line["broken"] for line in found.values())


def test_a_missing_extra_comes_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda name: None if name == "benepar" else known(name))
    report = doctor.render(doctor.diagnose())
    assert "syntax" in report and "benepar missing; pip install 'dlm-control[syntax]'" in report


def test_a_plugin_that_does_not_import_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugin:
        name, version = "dlm-control-odd", "0.3"
        entry_points = (EntryPoint("odd", "no_such_module:Odd", "dlm_control.controllers"),)

    known = distributions

    def with_plugin(*arguments: Any) -> Any:
        return [*known(*arguments), Plugin()]

    monkeypatch.setattr(doctor, "distributions", with_plugin)
    run = CliRunner().invoke(build(), ["doctor"])
    assert run.exit_code == 1
    assert "BROKEN: controller of dlm-control-odd 0.3 does not import: ModuleNotFoundError" in run.output
