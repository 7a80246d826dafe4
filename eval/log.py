"""The log of a run: one JSON line an item, whole after a kill at any moment, shared by several processes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dlm_control.errors import UsageError, shown


class RunLog:
    """The folder of a run: `plan.json`, which says what is being run, and the items' lines.

    Args:
        folder: of the run.
        rank: of this process; each writes a file of its own, `samples.jsonl` or `samples.<rank>.jsonl`, and reads all.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder, self.file = folder, folder / (f"samples.{rank}.jsonl" if rank else "samples.jsonl")

    def start(self, plan: dict[str, Any]) -> None:
        """Begin a run, or take up one that has the same plan: torn last lines of it are cut off.

        Raises:
            UsageError: the folder holds another run, or cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (self.folder / "plan.json").is_file():
                earlier = self.plan()
                plan = json.loads(json.dumps(plan))
                keys = sorted((plan.keys() | earlier.keys()) - {"commit"})
                differing = [key for key in keys if earlier.get(key) != plan.get(key)]
                if differing:
                    was, now = (shown(side.get(differing[0])) for side in (earlier, plan))
                    raise UsageError(
                        f"{self.folder}: holds a run with another {', '.join(differing)} ({differing[0]}: {was}, now {now}); "
                        "give another --out"
                    )
            else:
                write_json(self.folder / "plan.json", plan)
            for file in self.files():
                whole, _, torn = file.read_bytes().rpartition(b"\n")
                if torn:
                    os.truncate(file, len(whole) + bool(whole))
        except OSError as error:
            raise UsageError(f"{self.folder}: cannot be written: {error.strerror}") from None

    def files(self) -> list[Path]:
        """The files of all processes."""
        return sorted(self.folder.glob("samples*.jsonl"))

    def plan(self) -> dict[str, Any]:
        """What the folder says is being run.

        Raises:
            UsageError: it is no folder of a run.
        """
        file = self.folder / "plan.json"
        if not file.is_file():
            raise UsageError(f"{self.folder}: no plan.json; give the folder of one suite's run, such as runs/pos")
        plan: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return plan

    def append(self, record: dict[str, Any]) -> None:
        """Add an item; it is on the disk when this returns.

        Raises:
            UsageError: the disk is full or fails; the log is as before.
        """
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
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

    def items(self) -> dict[str, dict[str, Any]]:
        """The last line of each target, one that was written rather than one that failed.

        Raises:
            UsageError: as `records`.
        """
        found: dict[str, dict[str, Any]] = {}
        for record in self.records():
            if not ("error" in record and record["target"] in found):
                found[record["target"]] = record
        return found

    def records(self) -> list[dict[str, Any]]:
        """All items.

        Raises:
            UsageError: a line is no item; it is named.
        """
        records = []
        for file in self.files():
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
                try:
                    record = json.loads(line)
                    wanted = isinstance(record, dict) and {"target", "texts", "calls"} <= record.keys()
                except json.JSONDecodeError:
                    wanted = False
                if not wanted:
                    raise UsageError(f"{file}:{number}: no item of a run: {shown(line)}; remove the line and run again")
                records.append(record)
        return records


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file whole or not at all."""
    from dlm_control.tasks.run import write_whole

    write_whole({path: json.dumps(content, indent=1, ensure_ascii=False) + "\n"})
