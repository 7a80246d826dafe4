"""What lies in a folder of results: runs of `dlm eval`, curves of `dlm bench`, texts of `dlm generate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from dlm_control.eval.records import Curves, Figure, Scores, TextRecord
from dlm_control.eval.report.report import Run
from dlm_control.eval.studio.folder import Folder
from dlm_control.support.errors import UsageError
from dlm_control.support.records import parse_record

SHOW = ("all", "failed a check", "flawed", "passed")
PAGE = 25  # texts


@dataclass(frozen=True)
class ReadText:
    """A text of a result file.

    Attributes:
        target: what was asked for; empty where the file does not say.
        text: as people write it.
        failed: what the checks that it fails say.
        flaws: of its language.
        surprise: nats per word, where it was measured.
    """

    target: str
    text: str
    failed: tuple[str, ...]
    flaws: tuple[str, ...] = ()
    surprise: float | None = None


def overview(folder: Folder, search: str = "") -> list[tuple[str, ...]]:
    """The runs in a folder: name, targets, texts, success, nats per word, share of flawed texts.

    Args:
        folder: of the studio.
        search: letters that the run's name holds.
    """
    rows: list[tuple[str, ...]] = []
    for name in folder.runs():
        if search.strip().lower() not in name.lower():
            continue
        try:
            run = run_of(folder, name)
        except UsageError as error:
            rows.append((name, "–", "–", str(error).splitlines()[0], "–", "–"))
            continue
        scores = run.scores
        success = ", ".join(
            f"{metric} {100 * scores.figures[metric].mean:.1f} %" for metric in run.metrics if metric in scores.figures
        )
        lm, flawed = scores.figures.get("lm_score"), scores.figures.get("flaw_rate")
        rows.append((
            name, str(scores.targets), str(scores.texts), success or "–",
            f"{lm.mean:.2f}" if lm else "–", f"{100 * flawed.mean:.0f} %" if flawed else "–",
        ))  # fmt: skip
    return rows


def run_of(folder: Folder, name: str) -> Run:
    """A run's scores.

    Raises:
        UsageError: there is no run, or its file is broken.
    """
    file = f"{name}/scores.json"
    return Run(name, name, parse_record(Scores, folder.read(file), file))


def figures_of(scores: Scores) -> list[tuple[str, str, str, str]]:
    """Every figure of a run: its name, mean, 95 % interval, and how many values it is of."""
    rows = []
    for name, found in scores.findings.items():
        if isinstance(found, Figure):
            rows.append((name, f"{found.mean:.4f}", f"{found.low:.4f} to {found.high:.4f}", str(found.n)))
        elif isinstance(found, (int, float)):
            rows.append((name, f"{found:.4f}", "", ""))
    return rows


def origin_of(scores: Scores) -> list[tuple[str, str]]:
    """How the figures of a run came about."""
    manifest = scores.manifest
    preset = ", ".join(f"{key}={value}" for key, value in (manifest.preset or {}).items() if value is not None)
    lines = [
        ("suite", f"{scores.suite}, version {manifest.suite_version}"), ("generator", manifest.generator),
        ("model", manifest.model or "–"), ("preset", preset or "–"), ("seed", str(manifest.seed)),
        ("network calls a text", f"{scores.calls_per_text:g}"), ("command", manifest.command),
    ]  # fmt: skip
    return [*lines, *((f"failed: {target}", error) for target, error in scores.failed_targets.items())]


def curves_of(folder: Folder, name: str) -> Curves:
    """Measured curves.

    Raises:
        UsageError: there is no such file, or it is broken.
    """
    return parse_record(Curves, folder.read(name), name)


def texts_of(folder: Folder, name: str) -> list[ReadText]:
    """The texts of a run, or of a file that `dlm generate` wrote; none where a run's folder has no `texts.jsonl`.

    Raises:
        UsageError: the file is broken.
    """
    if name.endswith(".jsonl"):
        return [_generated(line, f"{name}:{number}") for number, line in _lines(folder, name)]
    file = f"{name}/texts.jsonl"
    if not folder.path(file).is_file():
        return []
    records = [parse_record(TextRecord, line, f"{file}:{number}") for number, line in _lines(folder, file)]
    return [ReadText(each.target, each.text, tuple(each.failed), tuple(each.flaws), each.lm_score) for each in records]


def chosen(texts: Sequence[ReadText], show: str, search: str) -> list[ReadText]:
    """Texts of a kind that hold some letters, in themselves, their target or their faults.

    Args:
        texts: to choose from.
        show: one of SHOW.
        search: letters, capital or not.
    """
    kinds = {
        "failed a check": lambda each: bool(each.failed), "flawed": lambda each: bool(each.flaws),
        "passed": lambda each: not each.failed,
    }  # fmt: skip
    wanted, letters = kinds.get(show, lambda each: True), search.strip().lower()
    return [
        each
        for each in texts
        if wanted(each) and letters in "\n".join((each.text, each.target, *each.failed, *each.flaws)).lower()
    ]


def _lines(folder: Folder, name: str) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(folder.read(name).split("\n"), start=1) if line.strip()]


def _generated(line: str, where: str) -> ReadText:
    try:
        given = json.loads(line)
        failed = [f"{name}: {check['why']}" for name, check in given["checks"].items() if not check["passed"]]
        failed += [given["error"]] if given["error"] else []
        return ReadText(f"text {given['index'] + 1}", given["text"], tuple(failed), (), given["nats_per_word"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{where}: no text of `dlm generate`: {error!r}") from None
