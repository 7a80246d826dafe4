"""How many texts a second several targets give when they share network calls, against one target at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from dlm_control.control.controller import Controller
from dlm_control.controllers.length import Length
from dlm_control.controllers.semantic import Semantic
from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.generate import Request
from dlm_control.support.records import Record

_FIELDS = (
    ("food", "Japanese"), ("food", "Indian"), ("area", "riverside"), ("area", "city centre"), ("priceRange", "cheap"),
    ("eatType", "pub"), ("food", "French"), ("food", "Italian"), ("eatType", "coffee shop"), ("food", "Chinese"),
    ("priceRange", "high"), ("food", "English"), ("eatType", "restaurant"), ("familyFriendly", "yes"),
    ("customer rating", "5 out of 5"), ("food", "Fast food"),
)  # fmt: skip
TARGETS: dict[str, list[list[Controller]]] = {
    "free length": [[Semantic(field, value)] for field, value in _FIELDS],
    "fixed length": [[Length(8 + 2 * i)] for i in range(len(_FIELDS))],
}


@dataclass(frozen=True)
class Gain(Record):
    """What sharing network calls gives.

    Attributes:
        targets, texts: how many.
        cpu_seconds_a_text: `alone` and `together`.
        same_texts: do both ways write the same texts?
        gain: texts a second together, by those alone.
    """

    targets: int
    texts: int
    cpu_seconds_a_text: dict[str, float]
    same_texts: bool
    gain: float


def measure(lm: LanguageModel, rounds: int = 3, samples: int = 1, preset: str = "default") -> dict[str, Gain]:
    """CPU seconds a text, alone and together, of targets of free and of fixed length.

    The two ways take turns, so that what else the machine does burdens both alike, and write the same texts.

    Args:
        lm: the model.
        rounds: of turns; each way's fastest counts.
        samples: texts of each target.
        preset: how.
    """
    return {name: _paired(lm, targets, rounds, samples, preset) for name, targets in TARGETS.items()}


def _paired(lm: LanguageModel, targets: Sequence[Sequence[Controller]], rounds: int, samples: int, preset: str) -> Gain:
    requests = [Request(controls, tuple(range(i * samples, (i + 1) * samples))) for i, controls in enumerate(targets)]
    ways = {
        "alone": lambda: [lm.generate_many([request], preset)[0] for request in requests],
        "together": lambda: lm.generate_many(requests, preset),
    }
    lm.generate_many(requests[:1], preset)  # loads the guides
    best, texts = dict.fromkeys(ways, float("inf")), {}
    for _ in range(rounds):
        for name, write in ways.items():
            started = time.process_time()
            written = write()
            best[name] = min(best[name], time.process_time() - started)
            texts[name] = [sample.text for each in written for sample in each]
    number = len(targets) * samples
    seconds = {name: round(value / number, 4) for name, value in best.items()}
    gain = round(best["alone"] / best["together"], 2)
    return Gain(len(targets), number, seconds, texts["alone"] == texts["together"], gain)
