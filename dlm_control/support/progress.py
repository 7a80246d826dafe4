"""A progress bar with rate and time left; silent when the output is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Bar:
    """Counts work done."""

    def __init__(self, tqdm_bar: Any) -> None:
        self._bar = tqdm_bar

    def advance(self, by: int = 1, **figures: float) -> None:
        """Note `by` more units done, and the figures to show beside the bar."""
        if figures:
            self._bar.set_postfix({name: f"{value:.3g}" for name, value in figures.items()}, refresh=False)
        self._bar.update(by)


@contextmanager
def progress(what: str, total: int, start: int = 0, show: bool = True) -> Iterator[Bar]:
    """A progress bar.

    Args:
        what: the label before the bar.
        total: units of work.
        start: units that are done already.
        show: False on all but one of several processes.
    """
    from tqdm import tqdm

    with tqdm(total=total, initial=start, desc=what, disable=not (show and sys.stderr.isatty()), leave=False) as bar:
        yield Bar(bar)


def hush() -> None:
    """Turn off the progress bars of libraries: loading weights takes milliseconds, and a log is no terminal.

    And their warnings: weights that do not fit are reported as our own error.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
