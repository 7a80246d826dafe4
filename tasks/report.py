"""How results look in a terminal; plain text where there is none."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from dlm_control.sampling.sample import Sample
    from dlm_control.tasks.batch.run import BatchReport
    from dlm_control.tasks.explain import Row
    from dlm_control.tasks.listing import Line

_FAILED_ROWS = 20


def show(samples: Sequence[Sample], seconds: float, out: Path | None) -> None:
    """Print each text with a tick or cross per control, and how many obey all.

    Args:
        samples: the texts.
        seconds: that they took.
        out: where they were written, or None.
    """
    terminal = console()
    tick, cross = ("✓", "✗") if can_show(terminal, "✓✗") else ("ok", "NOT")
    for sample in samples:
        if sample.error is not None:
            print_line(terminal, Text(f"{sample.index + 1:>3}  "), Text(f"failed: {sample.error}", style="red"))
            continue
        print_line(terminal, Text(f"{sample.index + 1:>3}  "), Text(sample.text, style="bold"))
        marks = Text("     ")
        for name, check in sample.checks.items():
            said = f"{tick} {name}  " if check.passed else f"{cross if check.judged else '?'} {name}: {check.why}  "
            marks.append(said, style="green" if check.passed else "red" if check.judged else "yellow")
        if sample.checks:
            marks.rstrip()
            print_line(terminal, marks)
    satisfying = sum(sample.passed for sample in samples)
    controlled = any(sample.checks or sample.error for sample in samples)
    summary = f"{satisfying} of {len(samples)} obey all controls" if controlled else f"{len(samples)} texts, no controls"
    failed = sum(sample.error is not None for sample in samples)
    summary += f", {failed} failed" if failed else ""
    print_line(terminal, Text(f"{summary}; {seconds:.1f} s{f'; written to {out}' if out else ''}"))


def show_batch(report: BatchReport, out: Path) -> None:
    """Print how a batch went; the rows that failed, to stderr."""
    for number, error in list(report.failed.items())[:_FAILED_ROWS]:
        print(f"row {number}: {error}", file=sys.stderr)
    if len(report.failed) > _FAILED_ROWS:
        print(f"… and {len(report.failed) - _FAILED_ROWS} more rows, whose `error` in {out} says why", file=sys.stderr)
    failed = f", {len(report.failed)} rows failed" if report.failed else ""
    rate = f"{report.texts / report.seconds:.1f} texts a second" if report.seconds else "nothing left to do"
    summary = f"{report.rows} rows: {report.obey_all} of {report.texts} texts obey all controls{failed}"
    print_line(console(), Text(f"{summary}; {report.seconds:.1f} s, {rate}; written to {out}"))


def show_trace(table: Sequence[Row], warnings: Sequence[str], sentence: str) -> None:
    """Print what every control did: a line for each of some noise levels, then warnings, then the sentence."""
    terminal = console()
    width = max([len(row.control) for row in table], default=7)
    if table:
        head = f"{'control':{width}}  {'t':>5}  {'energy':>8}  {'share':>6}  {'changed':>7}  {'cosine':>6}"
        print_line(terminal, Text(head, style="bold"))
    for row in table:
        cosine = "" if math.isnan(row.cosine) else f"{row.cosine:.2f}"
        numbers = f"{row.t:>5.2f}  {row.energy:>8.2f}  {row.share:>6.0%}  {row.words_changed:>7.2f}  {cosine:>6}"
        print_line(terminal, Text(f"{row.control:{width}}  {numbers}"))
    for warning in warnings:
        print_line(terminal, Text(f"warning: {warning}", style="yellow"))
    print_line(terminal, Text(sentence))


def show_holders(texts: Sequence[Sequence[tuple[str, str | None]]]) -> None:
    """Print texts, behind each word the control that changed it most."""
    terminal = console()
    for number, words in enumerate(texts, start=1):
        line = Text(f"{number:>3}  ")
        for word, control in words:
            line.append(word, style="bold").append(f"/{control}" if control else "", style="cyan").append(" ")
        line.rstrip()
        print_line(terminal, line)


def show_warnings(warnings: Sequence[str]) -> None:
    """Print warnings, to stderr."""
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def show_listing(kinds: Mapping[str, Sequence[Line]]) -> None:
    """Print what there is, kind by kind."""
    terminal = console()
    for kind, lines in kinds.items():
        print_line(terminal, Text(kind, style="bold underline"))
        widths = [max((len(getattr(line, column)) for line in lines), default=0) for column in ("name", "origin")]
        for line in lines:
            head = Text(f"  {line.name:{widths[0]}}  ", style="bold")
            origin = f"{line.origin:{widths[1]}}  " if widths[1] else ""
            first, *below = [Text(line.takes, style="cyan")] * bool(line.takes) + [Text(line.says)] * bool(line.says)
            print_line(terminal, head, Text(origin, style="dim"), first)
            for text in below:
                print_line(terminal, Text(" " * (len(head) + len(origin))), text)
        if not lines:
            print_line(terminal, Text("  none"))


def console() -> Console:
    """Where results are printed."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def can_show(console: Console, text: str) -> bool:
    """Has its encoding these letters?"""
    try:
        text.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True


def print_line(console: Console, *parts: Text) -> None:
    """One line; a terminal wraps it, a file gets it whole."""
    console.print(Text.assemble(*parts), soft_wrap=True)
