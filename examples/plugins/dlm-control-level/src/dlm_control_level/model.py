"""Which level a text has: an ordered logistic regression on its words and its length."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from dlm_control import UsageError
from dlm_control.support.files import write_whole
from dlm_control.text.words import split_words

LEVELS = ("A1", "A2", "B1", "B2", "C1", "C2")


@dataclass(frozen=True)
class LevelModel:
    """p(level > k | text) = σ(mean weight of the words + slope · log(number of words) − threshold_k).

    Attributes:
        weights: of words in lower case; a higher one is harder. Words that are not among them have 0.
        slope: of the length.
        thresholds: five, rising.
    """

    weights: dict[str, float]
    slope: float
    thresholds: tuple[float, ...]

    def difficulty(self, text: str) -> float:
        """How hard a text is, in the unit of the thresholds."""
        words = split_words(text.lower())
        return sum(self.weights.get(word, 0.0) for word in words) / max(1, len(words)) + self.slope * math.log(
            max(1, len(words))
        )

    def probabilities(self, text: str) -> list[float]:
        """Of the six levels."""
        return probabilities(self.difficulty(text), self.thresholds)

    def save(self, file: Path) -> None:
        """Write it as JSON, into a folder that is made if it is missing.

        Raises:
            UsageError: it cannot be written.
        """
        write(file, json.dumps(asdict(self), ensure_ascii=False, indent=0))


def write(file: Path, text: str) -> None:
    """
    Raises:
        UsageError: the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{file.parent}: cannot be made a folder: {error.strerror}") from None
    write_whole({file: text})


def probabilities(difficulty: float, thresholds: Sequence[float]) -> list[float]:
    """Of the levels between the thresholds."""
    above = [1.0, *(1 / (1 + math.exp(threshold - difficulty)) for threshold in thresholds), 0.0]
    return [more - less for more, less in zip(above, above[1:], strict=False)]


@cache
def load_model(file: str) -> LevelModel:
    """The model of a file that `dlm-control-level` wrote.

    Raises:
        UsageError: it is missing or another thing.
    """
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
        return LevelModel(found["weights"], found["slope"], tuple(found["thresholds"]))
    except OSError:
        raise UsageError(f"{file}: no such file; `dlm-control-level --data TABLE --out {file}` writes it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is no model of `dlm-control-level`: {error!r}") from None
