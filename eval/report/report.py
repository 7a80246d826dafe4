"""`dlm report`: one page that holds everything there is to know of some runs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from dlm_control.eval.report.paper_results import METRIC, TABLE_2, TABLE_4
from dlm_control.eval.report.plots import curves
from dlm_control.eval.score.scoring import SCORING
from dlm_control.support.errors import UsageError, short_repr
from dlm_control.tasks.run import writable, write_whole
from dlm_control.tasks.targets.corpora import lines_of

# figures that are shares
_PERCENT = ("flaw_rate", "flaw_hard", "flaw_repeat", "flaw_contradiction", "two_sample_accuracy", "two_sample_minilm")
_QUALITIES = (*_PERCENT, "distinct_3", "self_bleu", "copied_from_train", "bleu_4", "rouge_l", "cider", "bert_score_minilm")
_ORDER = list(METRIC)
_BENCH = ("title", "caption", "command", "series", "x", "y")
_REDEFINED = {"bracket_f1"}  # metrics of the paper's tables that mean another thing since version 2 of the scoring
DATED = (
    "† scored by an earlier version, and not again with `dlm score`: `bracket_f1` there leaves punctuation out, self-BLEU is "
    "of the first hundred texts, and human text that it is compared with is the start of dev"
)


@dataclass(frozen=True)
class Run:
    """Scores of one suite by one generator.

    Attributes:
        label: what the page calls the generator: the folder that the run's folder lies in.
        suite: its name.
        scores: what `scores.json` holds.
        texts: what `texts.jsonl` holds, by target; empty where it is not there.
    """

    label: str
    suite: str
    scores: dict[str, Any]
    texts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        """What follows its figures where an earlier version of the scoring made them."""
        return "" if self.scores["manifest"].get("scoring", 1) == SCORING else " †"

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics of obedience."""
        return [name for name in self.scores["by_target"] if name not in ("lm_score", "flaw_rate")]

    def percent(self, metric: str) -> str:
        """A metric, its interval and count."""
        found = self.scores.get(metric)
        if found is None:
            return "–"
        low, high = found["low"] * 100, found["high"] * 100
        return f"{found['mean'] * 100:.1f} [{low:.1f}, {high:.1f}]"

    def number(self, key: str) -> str:
        """A figure as its column shows it: shares of texts in %, the others as they are."""
        if key.removesuffix("_human") in _PERCENT:
            return self.percent(key)
        found = self.scores.get(key)
        if isinstance(found, dict):
            return f"{found['mean']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"
        return "–" if found is None else f"{found:.3g}"


def write_report(folders: Sequence[Path], out: Path, force: bool) -> list[Path]:
    """Write a page and the same as Markdown.

    Args:
        folders: of runs, or folders of such folders; JSON files of `dlm bench` below them become curves.
        out: the page.
        force: replace it.

    Returns:
        Both files.

    Raises:
        UsageError: a folder holds no run, or the page cannot be written.
    """
    from jinja2 import Environment

    if out.suffix == ".md":
        raise UsageError(f"--out {out}: names the page, such as report.html; the Markdown lies beside it as report.md")
    page, markdown = writable(out, force), writable(out.with_suffix(".md"), force)
    runs, left_out = read_runs(folders)
    benches = [_read(file, _BENCH) for folder in folders for file in sorted(folder.rglob("bench-*.json"))]
    suites = sorted({run.suite for run in runs}, key=lambda name: (_ORDER.index(name) if name in _ORDER else 99, name))
    context = {
        "runs": runs, "suites": suites, "table_2": paper_table(runs, TABLE_2), "table_4": paper_table(runs, TABLE_4),
        "curves": [curves(bench) for bench in benches], "metrics_of": _metrics, "qualities_of": _qualities,
        "human_of": _human, "slug": _slug, "json": _pretty, "left_out": left_out,
        "dated": DATED if any(run.mark for run in runs) else "",
    }  # fmt: skip
    folder = Path(str(files("dlm_control.eval"))) / "templates"
    texts = {}
    for target, name, escape in ((page, "report.html.j2", True), (markdown, "report.md.j2", False)):
        environment = Environment(autoescape=escape, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string((folder / name).read_text(encoding="utf-8"))
        texts[target] = template.render(context)
    write_whole(texts)
    return list(texts)


def read_runs(folders: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Every run in or below some folders, and those left out because an older version scored them.

    Raises:
        UsageError: a folder holds none.
    """
    runs, left_out, seen = list[Run](), list[str](), set[Path]()
    for folder in folders:
        found = sorted(folder.rglob("scores.json"))
        if not found:
            raise UsageError(f"report: {folder} holds no scores.json, nor does a folder below it; `dlm eval` writes them")
        for file in found:
            if file.resolve() in seen:
                raise UsageError(f"report: {file.parent} is given twice")
            seen.add(file.resolve())
            scores = _read(file, ("suite", "manifest"))
            if not {"by_target", "scorer_overlap"} <= scores.keys():
                left_out.append(str(file.parent))
                continue
            home = file.resolve().parent.parent
            labelled = Run(home.name, scores["suite"], scores, _texts(file.parent / "texts.jsonl"))
            if any((run.label, run.suite) == (labelled.label, labelled.suite) for run in runs):
                labelled = replace(labelled, label=f"{home.parent.name}/{home.name}")
            if any((run.label, run.suite) == (labelled.label, labelled.suite) for run in runs):
                labelled = replace(labelled, label=str(home))
            runs.append(labelled)
    if not runs:
        raise UsageError(f"report: {', '.join(left_out)}: scored by an older version; `dlm score` scores runs again")
    return runs, left_out


def _metrics(runs: Sequence[Run]) -> list[str]:
    """Metrics of obedience that some run has."""
    return list(dict.fromkeys(name for run in runs for name in run.metrics))


def _qualities(runs: Sequence[Run]) -> list[str]:
    """Other figures that some run has."""
    return [name for name in _QUALITIES if any(run.scores.get(name) is not None for run in runs)]


def _human(runs: Sequence[Run]) -> Run:
    """The run that has most figures of human text."""
    return max(runs, key=lambda run: sum(name.endswith("_human") for name in run.scores))


def _texts(file: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    if file.is_file():
        for number, line in enumerate(lines_of(file), start=1):
            try:
                record = json.loads(line)
                found.setdefault(record["target"], []).append(record)
            except (ValueError, KeyError, TypeError):
                raise UsageError(f"report: {file}:{number}: no text of a run; `dlm score` writes the file anew") from None
    return found


def _read(file: Path, keys: Sequence[str]) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"report: {file} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"report: {file}: expected a JSON object, got {short_repr(content)}")
    lacking = [key for key in keys if key not in content]
    if lacking:
        raise UsageError(f"report: {file}: has no {', '.join(lacking)}; is it a file that dlm wrote?")
    return content


def paper_table(runs: Sequence[Run], printed: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Rows of a title and a cell for each suite: ours, human text, then those that the paper prints.

    Args:
        runs: ours.
        printed: `TABLE_2` or `TABLE_4`.
    """
    rows = []
    for label in dict.fromkeys(run.label for run in runs):
        ours = {run.suite: run for run in runs if run.label == label}
        if ours.keys() & printed.keys():
            rows.append((label, [_cell(ours.get(suite), suite) for suite in printed]))
    rows.append(("human text", [_ceiling([run for run in runs if run.suite == suite], suite) for suite in printed]))
    for method in dict.fromkeys(name for methods in printed.values() for name in methods):
        cells = [" / ".join(f"{value:g}" for value in methods.get(method, ())) or "–" for methods in printed.values()]
        rows.append((f"printed 2022: {method}", cells))
    return rows


def _cell(run: Run | None, suite: str) -> str:
    if run is None:
        return "–"
    known = [run.scores.get(metric) for metric in METRIC[suite]]  # a suite of one's own may have its name
    values = ["–" if value is None else f"{value['mean'] * 100:.1f}" for value in known]
    return (
        " / ".join([*values, *_fluency(run, "")])
        + f" ({run.scores['targets']} × {_samples(run)}){run.mark if _REDEFINED & {*METRIC[suite]} else ''}"
    )


def _samples(run: Run) -> int:
    return int(run.scores["manifest"]["samples_per_target"])


def _ceiling(runs: Sequence[Run], suite: str) -> str:
    if not runs:
        return "–"
    run = _human(runs)
    values = [run.scores.get(f"{metric}_human") for metric in METRIC[suite]]
    parts = ["–" if value is None else f"{value['mean'] * 100:.1f}" for value in values]
    return " / ".join([*parts, *_fluency(run, "_human")])


def _fluency(run: Run, label: str) -> list[str]:
    """Its lm-score, and its flaw rate where it was counted."""
    lm, flaws = run.scores.get(f"lm_score{label}"), run.scores.get(f"flaw_rate{label}")
    return ["–" if lm is None else f"{lm['mean']:.2f}", *([] if flaws is None else [f"{flaws['mean'] * 100:.0f} % flawed"])]


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text)


def _pretty(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False)
