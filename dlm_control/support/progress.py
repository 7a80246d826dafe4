"""Progress bars with rate and time left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_wanted: bool | None = None


class Bar:
    """Counts work done."""

    def __init__(self, tqdm_bar: Any) -> None:
        self._bar = tqdm_bar

    def advance(self, by: int = 1, **figures: float) -> None:
        """Note `by` more units done, and the figures to show beside the bar."""
        if figures:
            self._bar.set_postfix({name: f"{value:.3g}" for name, value in figures.items()}, refresh=False)
        self._bar.update(by)


def show_progress(show: bool | None) -> bool | None:
    """Switch all progress bars of this process on or off; None, as at first: on in a terminal or a notebook, off elsewhere.

    Returns:
        What it was before.
    """
    global _wanted
    before, _wanted = _wanted, show
    return before


@contextmanager
def progress(what: str, total: int, start: int = 0, show: bool = True) -> Iterator[Bar]:
    """A progress bar.

    Args:
        what: the label before the bar.
        total: units of work.
        start: units that are done already.
        show: False on all but one of several processes.
    """
    from tqdm.auto import tqdm
    from tqdm.notebook import tqdm_notebook

    seen = sys.stderr.isatty() or issubclass(tqdm, tqdm_notebook)
    wanted = show and (seen if _wanted is None else _wanted)
    with tqdm(total=total, initial=start, desc=what, disable=not wanted, leave=False) as bar:
        yield Bar(bar)


def hush() -> None:
    """Turn off the progress bars of libraries: loading weights takes milliseconds, and a log is no terminal.

    And their warnings: weights that do not fit are reported as our own error.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
