"""The log of a run: one JSON line an item, whole after a kill at any moment, shared by several processes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dlm_control.eval.records import Plan, TargetRecord
from dlm_control.support.errors import UsageError, short_repr
from dlm_control.support.records import parse_record, read_record, record_text, write_record

_REMOVE = "remove the line and run again"


class RunLog:
    """The folder of a run: `plan.json`, which says what is being run, and the items' lines.

    Args:
        folder: of the run.
        rank: of this process; each writes a file of its own, `samples.jsonl` or `samples.<rank>.jsonl`, and reads all.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder, self.file = folder, folder / (f"samples.{rank}.jsonl" if rank else "samples.jsonl")

    def start(self, plan: Plan) -> None:
        """Begin a run, or continue one that has the same plan, whose incomplete last lines are cut off.

        Raises:
            UsageError: the folder holds another run, or cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (self.folder / "plan.json").is_file():
                earlier, now = _flat(self.plan()), _flat(plan)
                # Runs of older versions do not name their targets.
                keys = sorted((now.keys() | earlier.keys()) - {"commit"} - ({"targets_digest"} - earlier.keys()))
                differing = [key for key in keys if earlier.get(key) != now.get(key)]
                if differing:
                    summary = "; ".join(
                        f"{key}: {short_repr(earlier.get(key))}, now {short_repr(now.get(key))}" for key in differing[:3]
                    )
                    raise UsageError(
                        f"{self.folder}: holds a run with another {', '.join(differing)} ({summary}); give another folder"
                    )
            elif any(file.stat().st_size for file in self.files()):
                raise UsageError(
                    f"{self.folder}: holds texts but no plan.json, which says what they are of; give another folder"
                )
            else:
                write_record(self.folder / "plan.json", plan)
            for file in self.files():
                whole, _, torn = file.read_bytes().rpartition(b"\n")
                if torn:
                    os.truncate(file, len(whole) + bool(whole))
        except OSError as error:
            raise UsageError(f"{self.folder}: cannot be written: {error.strerror}") from None

    def files(self) -> list[Path]:
        """The files of all processes."""
        return sorted(self.folder.glob("samples*.jsonl"))

    def plan(self) -> Plan:
        """What the folder says is being run.

        Raises:
            UsageError: it is no folder of a run.
        """
        file = self.folder / "plan.json"
        if not file.is_file():
            raise UsageError(f"{self.folder}: no plan.json; give the folder of one suite's run, such as runs/pos")
        try:
            return read_record(Plan, file)
        except UsageError as error:
            faults = "; ".join(map(str, error.issues))
            raise UsageError(f"{file}: is broken: {faults}; without it the origin of the texts is unknown") from None

    def append(self, record: TargetRecord) -> None:
        """Add an item; it is on the disk when this returns.

        Raises:
            UsageError: the disk is full or fails; the log is as before.
        """
        line = record_text(record).encode()
        before = self.file.stat().st_size if self.file.is_file() else 0
        try:
            with open(self.file, "ab", buffering=0) as log:
                written = log.write(line)
                if written != len(line):
                    raise OSError(28, "No space left on device")
                os.fsync(log.fileno())
        except OSError as error:
            if self.file.is_file():
                os.truncate(self.file, before)
            raise UsageError(
                f"{self.file}: cannot be written: {error.strerror}; what it holds is whole: make room and run "
                "the same command again"
            ) from None

    def items(self, samples: int) -> dict[str, TargetRecord]:
        """The record of each target; of one that failed first and succeeded later, the later one.

        Args:
            samples: texts that each has, unless it failed.

        Raises:
            UsageError: as `records`; or a target has another number of texts, or two different ones.
        """
        found: dict[str, TargetRecord] = {}
        for record in self.records():
            name, earlier = record.target, found.get(record.target)
            if record.error is None and len(record.texts) != samples:
                raise UsageError(f"{self.folder}: target {name!r} has {len(record.texts)} texts, expected {samples}; {_REMOVE}")
            if earlier is None or earlier.error is not None:
                found[name] = earlier if earlier is not None and record.error is not None else record
            elif record.error is None and record.texts != earlier.texts:
                raise UsageError(f"{self.folder}: target {name!r} has two lines of different texts; {_REMOVE}")
        return found

    def records(self) -> list[TargetRecord]:
        """All items.

        Raises:
            UsageError: a line is no item; it is named.
        """
        records = []
        for file in self.files():
            text = file.read_text(encoding="utf-8", errors="replace").removesuffix("\n")
            for number, line in enumerate(text.split("\n") if text else (), start=1):
                try:
                    record = parse_record(TargetRecord, line, f"{file}:{number}")
                    if len(record.texts) != len(record.calls) or (not record.texts and record.error is None):
                        raise UsageError("expected texts and as many numbers of calls, or an error")
                except UsageError as error:
                    faults = "; ".join(map(str, error.issues))
                    raise UsageError(
                        f"{file}:{number}: no item of a run: {faults}, got {short_repr(line)}; {_REMOVE}"
                    ) from None
                records.append(record)
        return records


def _flat(plan: Plan) -> dict[str, Any]:
    """Its settings without nesting, as JSON holds them: `preset.steps` is a key."""
    found: dict[str, Any] = {}
    for key, value in json.loads(record_text(plan)).items():
        found |= {f"{key}.{inner}": each for inner, each in value.items()} if isinstance(value, dict) else {key: value}
    return found
