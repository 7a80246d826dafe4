"""`dlm report`: one page with all figures, texts and manifests of some runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path

from dlm_control.eval.records import Curves, Scores, TextRecord
from dlm_control.eval.report.paper_results import METRIC, TABLE_2, TABLE_4
from dlm_control.eval.report.plots import picture
from dlm_control.eval.score.scoring import SCORING
from dlm_control.support.errors import UsageError
from dlm_control.support.files import write_whole
from dlm_control.support.records import parse_record, read_record, record_text
from dlm_control.tasks.run import writable
from dlm_control.tasks.targets.corpora import lines_of

# figures that are shares
_PERCENT = ("flaw_rate", "flaw_hard", "flaw_repeat", "flaw_contradiction", "two_sample_accuracy", "two_sample_minilm")
_QUALITIES = (*_PERCENT, "distinct_3", "self_bleu", "copied_from_train", "bleu_4", "rouge_l", "cider", "bert_score_minilm")
_ORDER = list(METRIC)
_REDEFINED = {"bracket_f1"}  # metrics of the paper's tables that mean another thing since version 2 of the scoring
DATED = (
    "† scored by an earlier version and not renewed with `dlm score`: its `bracket_f1` leaves out punctuation, its self-BLEU "
    "covers the first hundred texts, and its human text is the beginning of dev"
)


@dataclass(frozen=True)
class Run:
    """Scores of one suite by one generator.

    Attributes:
        label: what the page calls the generator: the folder that the run's folder lies in.
        suite: its name.
        scores: its figures.
        texts: every text with its scores, by target; empty where there is no `texts.jsonl`.
    """

    label: str
    suite: str
    scores: Scores
    texts: dict[str, list[TextRecord]] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        """What follows its figures where an earlier version of the scoring made them."""
        return "" if self.scores.manifest.scoring == SCORING else " †"

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics of obedience."""
        return [name for name in self.scores.by_target if name not in ("lm_score", "flaw_rate")]

    def percent(self, metric: str) -> str:
        """A metric, its interval and count."""
        found = self.scores.figures.get(metric)
        return "–" if found is None else f"{found.mean * 100:.1f} [{found.low * 100:.1f}, {found.high * 100:.1f}]"

    def number(self, key: str) -> str:
        """A figure as its column shows it: shares of texts in %, the others as they are."""
        if key.removesuffix("_human") in _PERCENT:
            return self.percent(key)
        found, number = self.scores.figures.get(key), self.scores.numbers.get(key)
        if found is not None:
            return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"
        return "–" if number is None else f"{number:.3g}"


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
    runs = read_runs(folders)
    benches = [read_record(Curves, file) for folder in folders for file in sorted(folder.rglob("bench-*.json"))]
    suites = sorted({run.suite for run in runs}, key=lambda name: (_ORDER.index(name) if name in _ORDER else 99, name))
    context = {
        "runs": runs, "suites": suites, "table_2": paper_table(runs, TABLE_2), "table_4": paper_table(runs, TABLE_4),
        "pictures": [picture(bench) for bench in benches], "metrics_of": _metrics, "qualities_of": _qualities,
        "human_of": _human, "slug": _slug, "json": lambda record: record_text(record, indent=1),
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


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Every run in or below some folders.

    Raises:
        UsageError: a folder holds none, or a file of a run is broken.
    """
    runs, seen = list[Run](), set[Path]()
    for folder in folders:
        found = sorted(folder.rglob("scores.json"))
        if not found:
            raise UsageError(f"report: {folder} holds no scores.json, nor does a folder below it; `dlm eval` writes them")
        for file in found:
            if file.resolve() in seen:
                raise UsageError(f"report: {file.parent} is given twice")
            seen.add(file.resolve())
            scores = read_record(Scores, file)
            home = file.resolve().parent.parent
            labelled = Run(home.name, scores.suite, scores, _texts(file.parent / "texts.jsonl"))
            if any((run.label, run.suite) == (labelled.label, labelled.suite) for run in runs):
                labelled = replace(labelled, label=f"{home.parent.name}/{home.name}")
            if any((run.label, run.suite) == (labelled.label, labelled.suite) for run in runs):
                labelled = replace(labelled, label=str(home))
            runs.append(labelled)
    return runs


def _metrics(runs: Sequence[Run]) -> list[str]:
    """Metrics of obedience that some run has."""
    return list(dict.fromkeys(name for run in runs for name in run.metrics))


def _qualities(runs: Sequence[Run]) -> list[str]:
    """Other figures that some run has."""
    return [name for name in _QUALITIES if any(run.scores.findings.get(name) is not None for run in runs)]


def _human(runs: Sequence[Run]) -> Run:
    """The run that has most figures of human text."""
    return max(runs, key=lambda run: sum(name.endswith("_human") for name in run.scores.findings))


def _texts(file: Path) -> dict[str, list[TextRecord]]:
    found: dict[str, list[TextRecord]] = {}
    if file.is_file():
        for number, line in enumerate(lines_of(file), start=1):
            try:
                record = parse_record(TextRecord, line, f"{file}:{number}")
            except UsageError as error:
                raise UsageError(f"report: {error}; `dlm score` writes the file anew") from None
            found.setdefault(record.target, []).append(record)
    return found


def paper_table(runs: Sequence[Run], printed: Mapping[str, Mapping[str, Sequence[float]]]) -> list[tuple[str, list[str]]]:
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
    count = f"({run.scores.targets} × {run.scores.manifest.samples_per_target})"
    return f"{_success(run, suite, '')} {count}{run.mark if _REDEFINED & {*METRIC[suite]} else ''}"


def _ceiling(runs: Sequence[Run], suite: str) -> str:
    if not runs:
        return "–"
    return _success(_human(runs), suite, "_human")


def _success(run: Run, suite: str, label: str) -> str:
    """Its metrics of the paper, its lm-score, and its flaw rate where it was counted."""
    figures = run.scores.figures
    known = [figures.get(f"{metric}{label}") for metric in METRIC[suite]]  # a suite of one's own may have the paper's name
    lm, flaws = figures.get(f"lm_score{label}"), figures.get(f"flaw_rate{label}")
    parts = ["–" if value is None else f"{value.mean * 100:.1f}" for value in known]
    parts.append("–" if lm is None else f"{lm.mean:.2f}")
    return " / ".join([*parts, *([] if flaws is None else [f"{flaws.mean * 100:.0f} % flawed"])])


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text)
