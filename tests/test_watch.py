"""Texts that form on the screen, and progress bars."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import tqdm.auto
from rich.console import Console
from test_cli import dlm, spec
from tqdm.notebook import tqdm_notebook

from dlm_control import Control, Controller, LanguageModel, UsageError, show_progress
from dlm_control.controllers import Infill, Keyword
from dlm_control.support.progress import progress
from dlm_control.tasks import watch
from dlm_control.tasks.watch import Watch


def test_where_there_is_no_terminal_every_new_draft_is_a_line(tmp_path: Path, tiny_folder: Path) -> None:
    raised = dlm("generate", spec(tmp_path), "--model", tiny_folder, "--num-samples", 1, "--watch")
    lines = raised.stdout.splitlines()
    assert raised.exit_code == 0 and lines[0].split()[:2] == ["1.1", "1/3"]
    drafts, texts = [line for line in lines if "/3  " in line], [line[5:] for line in lines if line.startswith("  1  ")]
    assert any("[keyword " in line for line in drafts)
    assert any(texts[0] in line for line in drafts) and "obey all controls" in lines[-1]
    plain = dlm("generate", spec(tmp_path), "--model", tiny_folder, "--num-samples", 1).stdout.splitlines()
    assert plain[:2] == lines[len(drafts) : len(drafts) + 2]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What a terminal of 12 lines is sent."""
    sent = StringIO()
    terminal = Console(file=sent, force_terminal=True, color_system="standard", width=60, height=12, highlight=False)
    monkeypatch.setattr(watch, "console", lambda: terminal)
    return sent


def test_words_have_the_colour_of_the_control_that_holds_them(tiny_lm: LanguageModel, screen: StringIO) -> None:
    controls: list[Controller | Control] = [Infill("The [3-30] ."), Keyword("pub")]
    with Watch(["infill", "keyword"], 4, 2) as view:
        samples = tiny_lm.generate(controls, 4, steps=3, candidates=2, batch_size=3, callback_on_step=view)
    assert len(view.drafts) == 8 and all(sample.error is None for sample in samples)
    frames = screen.getvalue()
    assert "\x1b[1;36mThe\x1b[0m" in frames or "\x1b[1;2;36mThe\x1b[0m" in frames  # bold cyan, the first colour
    assert "step  3 of 3   noise 0.3" in frames and "text 4 of 4" in frames
    assert "keyword \x1b[0m" in frames and "█" in frames and "…" in frames  # the longest texts do not fit into the width
    assert frames.count("\x1b[1A") > 30  # it is drawn over itself, and taken away at the end
    for frame in frames.split("step ")[:-1]:
        assert frame.count("\r\n") + frame.count("\n") <= 12


def bars(monkeypatch: pytest.MonkeyPatch, base: type[Any]) -> list[bool]:
    """Replaces the bar; returns a list of whether each bar was shown."""
    shown: list[bool] = []

    class Fake(base):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            shown.append(not settings["disable"])
            super().__init__(total=1, disable=True)

    monkeypatch.setattr(tqdm.auto, "tqdm", Fake)
    return shown


@pytest.mark.parametrize("wanted", [None, True, False])
@pytest.mark.parametrize("place", ["terminal", "notebook", "log"])
def test_progress_bars_can_be_switched(wanted: bool | None, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = bars(monkeypatch, tqdm_notebook if place == "notebook" else tqdm.tqdm)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: place == "terminal", raising=False)
    try:
        show_progress(wanted)
        with progress("a test", total=1) as bar:
            bar.advance(1, loss=0.5)
        with progress("one of several processes", total=1, show=False):
            pass
    finally:
        show_progress(None)
    assert shown == [wanted if wanted is not None else place != "log", False]


def test_the_command_switches_progress_bars(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, file = bars(monkeypatch, tqdm.tqdm), spec(tmp_path)
    monkeypatch.setenv("DLM_PROGRESS", "1")
    try:
        assert dlm("generate", file, "--model", tiny_folder).exit_code == 0
        assert dlm("--no-progress", "generate", file, "--model", tiny_folder).exit_code == 0
    finally:
        show_progress(None)
    assert shown == [True, False]


def test_a_control_that_fails_leaves_the_terminal_as_it_was(tiny_lm: LanguageModel, screen: StringIO) -> None:
    with pytest.raises(UsageError, match="zebra"), Watch(["keyword"], 1, 1) as view:
        tiny_lm.generate([Keyword("zebra")], callback_on_step=view)
    assert "\x1b[?25h" in screen.getvalue()  # the cursor is back
