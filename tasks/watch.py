"""`dlm generate --watch`: texts as they form, their words in the colour of the control that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Group
from rich.live import Live
from rich.text import Text

from dlm_control.sampling.trace import Draft, Step, Trace
from dlm_control.support.progress import show_progress
from dlm_control.tasks.report import can_show, console, print_line
from dlm_control.text.words import space_after

COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")
UNSURE = 0.5  # a word below this probability is dim
_CELLS = 6  # of an energy's bar


class Watch(Trace):
    """A trace that shows each step, from `with` on. Where the output is no terminal, it prints each draft that is new.

    Args:
        controls: their names, in the order of their colours.
        samples: how many texts there will be.
        candidates: of each text.
    """

    def __init__(self, controls: Sequence[str], samples: int, candidates: int) -> None:
        super().__init__()
        self._console = console()
        self._colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(controls)}
        self._samples, self._candidates = samples, candidates
        self._last: dict[tuple[int, int], Draft] = {}  # of each candidate
        self._highest: dict[str, float] = {}  # energies so far
        self._bar = ("█", "░") if can_show(self._console, "█░") else ("#", ".")
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._progress = show_progress(False)  # a bar would write into the picture
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._live:
            self._live.stop()
            show_progress(self._progress)

    def __call__(self, step: Step) -> None:
        """Keep a step, and show it."""
        super().__call__(step)
        for draft in step.drafts:
            key = (draft.index, draft.candidate)
            before, self._last[key] = self._last.get(key), draft
            for control, effect in draft.effects.items():
                self._highest[control] = max(self._highest.get(control, 1.0), effect.energy)
            if self._live is None and (before is None or before.text != draft.text):
                print_line(self._console, self._plain(step, draft))
        if self._live:
            self._live.update(self._screen(step), refresh=True)

    def _plain(self, step: Step, draft: Draft) -> Text:
        said = "  ".join(f"{name} {effect.energy:.2f}" for name, effect in draft.effects.items())
        return Text(f"{self._number(draft)}  {step.number:>3}/{step.total}  {draft.text}{f'  [{said}]' if said else ''}")

    def _screen(self, step: Step) -> Group:
        """The texts of the present call, then as many others as there is room for; below them the colours' meaning."""
        room, lines = self._console.height - 2, list[Text]()
        present = {(draft.index, draft.candidate) for draft in step.drafts[: room // 2]}
        others = [key for key in self._last if key not in present][::-1][: max(0, room - 2 * len(present))]
        for key in sorted({*present, *others}):
            draft = self._last[key]
            lines.append(coloured(draft, self._colours, Text(f"{self._number(draft)}  ")))
            if key in present and draft.effects:
                lines.append(self._energies(draft))
        begun = len({index for index, _ in self._last})
        legend = Text(f"step {step.number:>2} of {step.total}   noise {step.t:.2f}   text {begun} of {self._samples}")
        shown = {name for draft in self._last.values() for name in (*draft.effects, *draft.held.values())}
        for name, colour in self._colours.items():
            if name in shown:
                legend.append("   ").append(name, style=colour)
        for line in (*lines, legend):
            line.truncate(self._console.width, overflow="ellipsis")
        return Group(*lines, legend)

    def _number(self, draft: Draft) -> str:
        return f"{draft.index + 1:>3}" + (f".{draft.candidate + 1}" if self._candidates > 1 else "")

    def _energies(self, draft: Draft) -> Text:
        """A bar for each control: how much it still wants, in nats."""
        line = Text("       ")
        for name, effect in draft.effects.items():
            full = round(_CELLS * min(1.0, max(0.0, effect.energy) / self._highest[name]))
            line.append(f"{name} ", style="dim")
            line.append(self._bar[0] * full, style=self._colours[name]).append(self._bar[1] * (_CELLS - full), style="dim")
            line.append(f" {effect.energy:.1f}   ", style="dim")
        return line


def coloured(draft: Draft, colours: Mapping[str, str], line: Text) -> Text:
    """A line with the words of a draft added to it: in the colour of the control that holds them, dim where they are unlikely.

    Args:
        draft: the draft.
        colours: by control.
        line: what stands before it.
    """
    for position, (word, space) in enumerate(zip(draft.words, space_after(draft.words), strict=True)):
        style = f"bold {colours[draft.held[position]]}" if position in draft.held else ""
        line.append(word, style=f"{style} dim" if draft.probs[position] < UNSURE else style).append(" " * space)
    return line
