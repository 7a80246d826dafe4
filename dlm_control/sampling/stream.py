"""A run that its caller drives, step by step."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

from dlm_control.sampling.trace import Step
from dlm_control.support.errors import UsageError

T = TypeVar("T")


class Stream(Iterator[Step], Generic[T]):
    """The steps of a run, each computed when it is asked for, and afterwards its texts.

    Args:
        run: yields steps and returns texts; sent True, it stops.
    """

    def __init__(self, run: Generator[Step, bool | None, T]) -> None:
        self._run, self._started, self._stop = run, False, False
        self._samples: T | None = None

    def __next__(self) -> Step:
        try:
            step = self._run.send(self._stop if self._started else None)
        except StopIteration as end:
            self._samples = self._samples if end.value is None else end.value
            raise StopIteration from None
        self._started = True
        return step

    def stop(self) -> None:
        """End the run after the step that came last: a text that is not finished has an `error` in place of words."""
        self._stop = True

    @property
    def samples(self) -> T:
        """The texts, after all steps that are left are done.

        Raises:
            UsageError: a control fails.
        """
        for _ in self:
            pass
        if self._samples is None:
            raise UsageError("stream: the run has failed, and has no texts")
        return self._samples
