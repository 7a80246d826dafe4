"""Specs against a model: what preflight refuses, and what a run writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_spec import LENGTH, issues, own, write

from dlm_control.pipeline import LanguageModel
from dlm_control.support.errors import UsageError
from dlm_control.tasks.preflight import preflight
from dlm_control.tasks.run import run_spec, writable
from dlm_control.tasks.spec import Spec, read_spec


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
    assert [(r["index"], r["seed"], r["calls"], len(r["words"])) for r in records] == [(i, 0, 24, 9) for i in range(3)]
    assert records[0]["checks"]["length"] == {"score": 1.0, "why": "9 words, expected 9", "passed": True, "firmness": "exact"}
    assert set(records[0]["energies"]) == {"keyword"}
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert (manifest["samples"], manifest["seed"], manifest["spec_digest"]) == (3, 0, spec.digest)
    assert manifest["model"]["fingerprint"] == tiny_lm.backbone.fingerprint
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
