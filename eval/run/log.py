"""The log of a run: one JSON line an item, whole after a kill at any moment, shared by several processes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dlm_control.support.errors import UsageError, short_repr

_PLAN = {"suite": str, "suite_digest": str, "targets": int, "samples_per_target": int}
_REMOVE = "remove the line and run again"


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
                earlier, now = _flat(self.plan()), _flat(json.loads(json.dumps(plan)))
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
        try:
            plan = json.loads(file.read_text(encoding="utf-8"))
            whole = all(isinstance(plan[key], kind) for key, kind in _PLAN.items())
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise UsageError(
                f"{file}: is broken: expected JSON with {', '.join(_PLAN)}; without it the texts' origin is unknown"
            )
        return dict(plan)

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

    def items(self, samples: int) -> dict[str, dict[str, Any]]:
        """What became of each target; one that failed and was written later is written.

        Args:
            samples: texts that each has, unless it failed.

        Raises:
            UsageError: as `records`; or a target has another number of texts, or two different ones.
        """
        found: dict[str, dict[str, Any]] = {}
        for record in self.records():
            name, earlier = record["target"], found.get(record["target"])
            if "error" not in record and len(record["texts"]) != samples:
                raise UsageError(
                    f"{self.folder}: target {name!r} has {len(record['texts'])} texts, expected {samples}; {_REMOVE}"
                )
            if earlier is None or "error" in earlier:
                found[name] = earlier if earlier is not None and "error" in record else record
            elif "error" not in record and record["texts"] != earlier["texts"]:
                raise UsageError(f"{self.folder}: target {name!r} has two lines of different texts; {_REMOVE}")
        return found

    def records(self) -> list[dict[str, Any]]:
        """All items.

        Raises:
            UsageError: a line is no item; it is named.
        """
        records = []
        for file in self.files():
            text = file.read_text(encoding="utf-8", errors="replace").removesuffix("\n")
            for number, line in enumerate(text.split("\n") if text else (), start=1):
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:
                    record = None
                if not _is_item(record):
                    raise UsageError(f"{file}:{number}: no item of a run: {short_repr(line)}; {_REMOVE}")
                records.append(record)
        return records


def _is_item(record: Any) -> bool:
    """Is it an item's line: a target, texts and as many numbers of calls; without texts, an error?"""
    if not (isinstance(record, dict) and isinstance(record.get("target"), str)):
        return False
    texts, calls = record.get("texts"), record.get("calls")
    if not (isinstance(texts, list) and isinstance(calls, list) and len(texts) == len(calls)):
        return False
    right = all(isinstance(text, str) for text in texts) and all(isinstance(number, (int, float)) for number in calls)
    return right and (bool(texts) or isinstance(record.get("error"), str))


def _flat(plan: dict[str, Any]) -> dict[str, Any]:
    """Its settings side by side: `preset.steps` for a mapping's."""
    found: dict[str, Any] = {}
    for key, value in plan.items():
        found |= {f"{key}.{inner}": each for inner, each in value.items()} if isinstance(value, dict) else {key: value}
    return found


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file whole or not at all."""
    from dlm_control.tasks.run import write_whole

    write_whole({path: json.dumps(content, indent=1, ensure_ascii=False) + "\n"})
