"""`dlm-control-level`: train the model of levels on labelled sentences."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from dlm_control import UsageError
from dlm_control.text.words import split_words
from dlm_control_level.model import LEVELS, LevelModel, write

LEAST_COUNT = 3  # of a word in the training texts
STEPS, RATE, DECAY = 300, 0.1, 3e-3  # of Adam on all texts at once, and how weights are kept small

Row = tuple[str, int]  # text and level, 0 to 5


def read_table(file: Path) -> dict[str, list[Row]]:
    """The rows by split; a sentence that several raters judged is there once for each of them.

    Raises:
        UsageError: it is missing, or not such a table.
    """
    try:
        with open(file, encoding="utf-8", newline="") as table:
            rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(row["split"], []).extend((row["text"], int(level) - 1) for level in row["label"].split(","))
    except OSError as error:
        raise UsageError(f"--data {file}: cannot be read: {error.strerror}") from None
    except (KeyError, ValueError, TypeError, AttributeError):
        raise UsageError(f"--data {file}: expected columns split, label (levels 1 to 6, such as 2,3) and text") from None
    levels = {level for rows_of in found.values() for _, level in rows_of}
    if not found.get("train") or not levels <= {*range(len(LEVELS))}:
        raise UsageError(f"--data {file}: expected rows of the split train, with levels 1 to 6")
    return found


def fit(rows: Sequence[Row]) -> LevelModel:
    """The model of most likely labels, weights kept small."""
    words = [split_words(text.lower()) or ["."] for text, _ in rows]
    counts = Counter(word for each in words for word in each)
    known = {word: i + 1 for i, word in enumerate(sorted(word for word in counts if counts[word] >= LEAST_COUNT))}
    flat = torch.tensor([known.get(word, 0) for each in words for word in each])
    starts = torch.tensor([0, *(len(each) for each in words)]).cumsum(0)[:-1]
    sizes, levels = torch.tensor([len(each) for each in words]).log(), torch.tensor([level for _, level in rows])
    weights, slope = torch.zeros(len(known) + 1, 1, requires_grad=True), torch.zeros((), requires_grad=True)
    cuts = torch.tensor([-2.0, *[1.0] * (len(LEVELS) - 2)], requires_grad=True)  # the first threshold, then the gaps
    above = (levels[:, None] > torch.arange(len(LEVELS) - 1)).float()
    optimizer = torch.optim.Adam([weights, slope, cuts], lr=RATE)
    for _ in range(STEPS):
        mask = torch.ones(len(known) + 1, 1)
        mask[0] = 0  # unknown words have weight 0
        difficulty = F.embedding_bag(flat, weights * mask, starts, mode="mean")[:, 0] + slope * sizes
        thresholds = torch.cat([cuts[:1], F.softplus(cuts[1:])]).cumsum(0)
        loss = F.binary_cross_entropy_with_logits(difficulty[:, None] - thresholds, above)
        optimizer.zero_grad()
        (loss + DECAY * weights.square().sum() / len(known)).backward()
        optimizer.step()
    found = weights.detach()[:, 0].tolist()
    return LevelModel(
        {word: round(found[i], 3) for word, i in known.items()}, round(slope.item(), 4),
        tuple(round(each, 4) for each in thresholds.tolist()),
    )  # fmt: skip


def accuracy(model: LevelModel, rows: Sequence[Row]) -> tuple[float, float]:
    """Share of labels that the likeliest level meets, and that it misses by one at most."""
    gaps = []
    for text, level in rows:
        found = model.probabilities(text)
        gaps.append(abs(max(range(len(LEVELS)), key=found.__getitem__) - level))
    return sum(gap == 0 for gap in gaps) / len(gaps), sum(gap <= 1 for gap in gaps) / len(gaps)


def main() -> None:
    """Train, say how often it is right, save."""
    parser = argparse.ArgumentParser(prog="dlm-control-level", description="Train the model of reading levels.")
    parser.add_argument("--data", type=Path, required=True, help="table with the columns split, label and text")
    parser.add_argument("--out", type=Path, required=True, help="the model's file, JSON")
    parser.add_argument("--scores", type=Path, help="a file for how often it is right, JSON")
    given = parser.parse_args()
    try:
        train(given.data, given.out, given.scores)
    except UsageError as error:
        sys.exit(f"error: {error}")


def train(data: Path, out: Path, scores_file: Path | None = None) -> None:
    """Fit the model on the rows of split `train`, save it, and say of each other split how often it is right.

    Args:
        data: a table with the columns split, label and text.
        out: the model's file, JSON.
        scores_file: for how often it is right, JSON.

    Raises:
        UsageError: the table is faulty, or a file cannot be written.
    """
    rows = read_table(data)
    model = fit(rows["train"])
    model.save(out)
    print(f"{len(model.weights)} words of {len(rows['train'])} labels -> {out}")
    common = Counter(level for _, level in rows["train"]).most_common(1)[0][0]
    scores: dict[str, dict[str, float]] = {}
    for split in sorted(rows.keys() - {"train"}):
        exact, near = accuracy(model, rows[split])
        always = sum(level == common for _, level in rows[split]) / len(rows[split])
        found = {"right": exact, "right_by_the_commonest": always, "within_one_level": near}
        scores[split] = {"labels": len(rows[split]), **{name: round(share, 4) for name, share in found.items()}}
        print(
            f"{split}: {exact:.1%} of labels right ({always:.1%} by always saying {LEVELS[common]}), {near:.1%} within a level"
        )
    if scores_file is not None:
        record = {
            "command": " ".join(["dlm-control-level", *sys.argv[1:]]),
            "data_sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
            "train_labels": len(rows["train"]), "words": len(model.weights), "commonest": LEVELS[common], "splits": scores,
        }  # fmt: skip
        write(scores_file, json.dumps(record, indent=1) + "\n")
