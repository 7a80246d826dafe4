"""One report of what is wrong with a template, a table and its rows."""

from __future__ import annotations

from collections.abc import Sequence

from dlm_control.support.errors import Issue, UsageError

MOST = 50  # faults that a report spells out
_NUMBERS = 5  # rows that one of them names


class RowFaults:
    """Collects faults; rows that have the same one share a line of the report.

    Args:
        subject: what is faulty: the table's file.
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.general: list[Issue] = []
        self._rows: dict[Issue, list[int]] = {}

    def add(self, place: str, message: str) -> None:
        """Note a fault of the template or of the whole table, once."""
        if Issue(place, message) not in self.general:
            self.general.append(Issue(place, message))

    def add_row(self, number: int, variables: Sequence[str], place: str, message: str) -> None:
        """Note a fault of a row.

        Args:
            number: of the row.
            variables: whose values may be to blame.
            place: in the template, such as `controls[1].words`, or nothing.
            message: what is wrong.
        """
        names = ", ".join(f"${{{name}}}" for name in variables)
        where = f"{names} ({place})" if names and place else names or place
        self._rows.setdefault(Issue(where, message), []).append(number)

    def of_rows(self) -> dict[int, str]:
        """What is wrong with each faulty row."""
        found: dict[int, list[str]] = {}
        for issue, numbers in self._rows.items():
            for number in numbers:
                found.setdefault(number, []).append(str(issue))
        return {number: "; ".join(issues) for number, issues in sorted(found.items())}

    def issues(self) -> list[Issue]:
        """The faults of rows, each with the rows that have it."""
        by_row = sorted(self._rows.items(), key=lambda item: item[1][0])
        return [Issue(_numbered(numbers), str(issue)) for issue, numbers in by_row]

    def raise_if_any(self, rows: bool) -> None:
        """
        Args:
            rows: do faults of rows count?

        Raises:
            UsageError: there are faults; its text lists them, those of the template and the table first.
        """
        found = [*self.general, *(self.issues() if rows else ())]
        if found:
            listed = [f"  - {issue}" for issue in found[:MOST]]
            if len(found) > MOST:
                listed.append(f"  … and {len(found) - MOST} more like these; correct them first")
            skip = "; --bad-rows skip goes on without faulty rows" if rows and not self.general else ""
            head = f"{self.subject}: {len(found)} problem{'s' if len(found) > 1 else ''}{skip}"
            raise UsageError("\n".join([head, *listed]), found)


def _numbered(rows: Sequence[int]) -> str:
    if len(rows) == 1:
        return f"row {rows[0]}"
    more = f" and {len(rows) - _NUMBERS} more" if len(rows) > _NUMBERS else ""
    return f"rows {', '.join(map(str, rows[:_NUMBERS]))}{more}"
