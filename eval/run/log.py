"""The log of a suite's run: one line a target."""

from __future__ import annotations

from typing import Any

from dlm_control.eval.records import Plan, TargetRecord
from dlm_control.support.errors import UsageError
from dlm_control.support.record_log import REMOVE, RecordLog


class RunLog(RecordLog[Plan, TargetRecord]):
    """The targets of a suite that are done; see `RecordLog`."""

    plan_kind, line_kind = Plan, TargetRecord
    free = frozenset({"commit"})

    def compared(self, earlier: dict[str, Any], now: dict[str, Any]) -> set[str]:
        """All but the commit; runs of older versions do not name their targets."""
        return super().compared(earlier, now) - ({"targets_digest"} - earlier.keys())

    def check_line(self, record: TargetRecord) -> None:
        if len(record.texts) != len(record.calls) or (not record.texts and record.error is None):
            raise UsageError("expected texts and as many numbers of calls, or an error")

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
                raise UsageError(f"{self.folder}: target {name!r} has {len(record.texts)} texts, expected {samples}; {REMOVE}")
            if earlier is None or earlier.error is not None:
                found[name] = earlier if earlier is not None and record.error is not None else record
            elif record.error is None and record.texts != earlier.texts:
                raise UsageError(f"{self.folder}: target {name!r} has two lines of different texts; {REMOVE}")
        return found
