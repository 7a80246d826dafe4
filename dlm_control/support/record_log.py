"""The log of a long run: one JSON line an item, whole after a kill at any moment, shared by several processes."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from dlm_control.support.errors import UsageError, short_repr
from dlm_control.support.records import Record, parse_record, read_record, record_text, write_record

P = TypeVar("P", bound=Record)
L = TypeVar("L", bound=Record)

REMOVE = "remove the line and run again"


class RecordLog(Generic[P, L]):
    """The folder of a run: `plan.json`, which says what is being run, and the items' lines.

    Args:
        folder: of the run.
        rank: of this process; each writes a file of its own, `samples.jsonl` or `samples.<rank>.jsonl`, and reads all.

    Attributes:
        plan_kind, line_kind: the records that `plan.json` and the lines hold.
        free: keys of the plan that do not matter to the texts.
        hint: what to do about a folder that holds another run.
    """

    plan_kind: type[P]
    line_kind: type[L]
    free: ClassVar[frozenset[str]] = frozenset()
    hint: ClassVar[str] = "give another folder"

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder, self.file = folder, folder / (f"samples.{rank}.jsonl" if rank else "samples.jsonl")

    def start(self, plan: P) -> None:
        """Begin a run, or continue one that has the same plan, whose incomplete last lines are cut off.

        Raises:
            UsageError: the folder holds another run, or cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (self.folder / "plan.json").is_file():
                earlier, now = _flat(self.plan()), _flat(plan)
                differing = [key for key in sorted(self.compared(earlier, now)) if earlier.get(key) != now.get(key)]
                if differing:
                    summary = "; ".join(
                        f"{key}: {short_repr(earlier.get(key))}, now {short_repr(now.get(key))}" for key in differing[:3]
                    )
                    raise UsageError(f"{self.folder}: holds a run with another {', '.join(differing)} ({summary}); {self.hint}")
            elif any(file.stat().st_size for file in self.files()):
                raise UsageError(f"{self.folder}: holds texts but no plan.json, which says what they are of; {self.hint}")
            else:
                write_record(self.folder / "plan.json", plan)
            for file in self.files():
                whole, _, torn = file.read_bytes().rpartition(b"\n")
                if torn:
                    os.truncate(file, len(whole) + bool(whole))
        except OSError as error:
            raise UsageError(f"{self.folder}: cannot be written: {error.strerror}") from None

    def compared(self, earlier: dict[str, Any], now: dict[str, Any]) -> set[str]:
        """The keys by which two plans, without nesting, are told apart."""
        return {*now, *earlier} - self.free

    def files(self) -> list[Path]:
        """The files of all processes."""
        return sorted(self.folder.glob("samples*.jsonl"))

    def plan(self) -> P:
        """What the folder says is being run.

        Raises:
            UsageError: it is no folder of a run.
        """
        file = self.folder / "plan.json"
        if not file.is_file():
            raise UsageError(f"{self.folder}: no plan.json; give the folder of one suite's run, such as runs/pos")
        try:
            return read_record(self.plan_kind, file)
        except UsageError as error:
            faults = "; ".join(map(str, error.issues))
            raise UsageError(f"{file}: is broken: {faults}; without it the origin of the texts is unknown") from None

    def append(self, *records: L) -> None:
        """Add items; they are on the disk when this returns.

        Raises:
            UsageError: the disk is full or fails; the log is as before.
        """
        lines = "".join(map(record_text, records)).encode()
        before = self.file.stat().st_size if self.file.is_file() else 0
        try:
            with open(self.file, "ab", buffering=0) as log:
                written = log.write(lines)
                if written != len(lines):
                    raise OSError(28, "No space left on device")
                os.fsync(log.fileno())
        except OSError as error:
            if self.file.is_file():
                os.truncate(self.file, before)
            raise UsageError(
                f"{self.file}: cannot be written: {error.strerror}; what it holds is whole: make room and run "
                "the same command again"
            ) from None

    def check_line(self, record: L) -> None:
        """
        Raises:
            UsageError: no run writes such a line.
        """

    def records(self) -> list[L]:
        """All items.

        Raises:
            UsageError: a line is no item; it is named.
        """
        records = []
        for file in self.files():
            text = file.read_text(encoding="utf-8", errors="replace").removesuffix("\n")
            for number, line in enumerate(text.split("\n") if text else (), start=1):
                try:
                    record = parse_record(self.line_kind, line, f"{file}:{number}")
                    self.check_line(record)
                except UsageError as error:
                    faults = "; ".join(map(str, error.issues))
                    raise UsageError(f"{file}:{number}: no item of a run: {faults}, got {short_repr(line)}; {REMOVE}") from None
                records.append(record)
        return records

    def remove(self) -> None:
        """Delete the log's files, and its folder if nothing else is in it."""
        for file in [*self.files(), self.folder / "plan.json"]:
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def _flat(plan: Record) -> dict[str, Any]:
    """Its settings without nesting, as JSON holds them: `preset.steps` is a key."""
    found: dict[str, Any] = {}
    for key, value in json.loads(record_text(plan)).items():
        found |= {f"{key}.{inner}": each for inner, each in value.items()} if isinstance(value, dict) else {key: value}
    return found
