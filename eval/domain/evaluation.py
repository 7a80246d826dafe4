"""The last stages: how well the model obeys and writes, on held-out sentences, and a card that says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from dlm_control.controllers.fields.lookup import domain_at
from dlm_control.eval.domain.corpus import HELD_OUT
from dlm_control.eval.domain.stages import Domain, Stage
from dlm_control.eval.records import Figure, Findings, Scores
from dlm_control.support.files import write_whole
from dlm_control.support.progress import hush
from dlm_control.support.records import Record
from dlm_control.tasks.targets.corpora import refs

TABLE, TEXTS = "scores.json", "unconditional.txt"
CONTROLS, BY_SYNTAX, BY_FIELDS = ("length", "keyword", "infill"), ("pos", "tree", "span"), ("semantic",)
_DRAWN, _HUMAN = 100, 240  # texts without a control, and of people


class EvaluationStage(Stage):
    """Every control on held-out sentences, texts without control, and human ones, under one teacher."""

    name = "evaluation"

    def run(self, domain: Domain) -> str:
        domain.evaluation.mkdir(exist_ok=True)
        rows = _plain_rows(domain) + [_controlled(domain, kind) for kind in _kinds(domain)]
        write_whole({domain.evaluation / TABLE: json.dumps(rows, indent=1, ensure_ascii=False, default=Record.to_json) + "\n"})
        obeyed = [f"{row['texts']} {100 * float(row['success']):.0f} %" for row in rows if row["success"] is not None]
        return f"obeyed: {', '.join(obeyed)}"


class CardStage(Stage):
    """README.md of the model's folder."""

    name = "card"

    def run(self, domain: Domain) -> str:
        write_whole({domain.folder / "README.md": card(domain)})
        return f"{domain.folder / 'README.md'}"


def card(domain: Domain) -> str:
    """What the model is, what it was made of, and how well it does."""
    config, rows = domain.config, read_table(domain)
    files = ", ".join(file.name for file in config.files)
    sample = (domain.evaluation / TEXTS).read_text(encoding="utf-8").splitlines()[:5]
    made = "\n".join(f"- {name}: {what} ({domain.progress.cpu_s[name] / 60:.1f} CPU minutes)" for name, what in _made(domain))
    return f"""---
library_name: dlm-control
tags: [diffusion-lm, controllable-text-generation]
---
# {domain.folder.name}

A {config.kind} of the texts in {files}, with what steers and judges it; `dlm domain make` took {config.minutes:g} minutes.
The licence of its weights is for you to say: it depends on that of the texts.

{made}

## Measured on held-out texts

{table(rows)}

*Obeyed*: share of texts that pass the control's check. *Flaw rate*: share of texts with a word that is harder to the teacher
than 95 % of human texts' hardest words, or with a word or pair of words twice in a row. *lm-score*: nats per word under the
teacher.

## Five texts without control, the first drawn

{chr(10).join(f"- {text}" for text in sample)}

```python
from dlm_control import load
from dlm_control.controllers import Length

for sample in load("{domain.folder}").generate([Length(8)], 4):
    print(sample.text)
```
"""


def _made(domain: Domain) -> list[tuple[str, str]]:
    return [(name, what) for name, what in domain.progress.finished.items() if name != "card"]


def read_table(domain: Domain) -> list[dict[str, str | float | None]]:
    """The rows that the evaluation wrote."""
    rows: list[dict[str, str | float | None]] = json.loads((domain.evaluation / TABLE).read_text(encoding="utf-8"))
    return rows


def table(rows: Sequence[dict[str, str | float | None]]) -> str:
    """The rows in Markdown."""

    def cell(value: str | float | None, percent: bool) -> str:
        if not isinstance(value, (int, float)):
            return "–" if value is None else value
        return f"{100 * value:.0f} %" if percent else f"{value:.2f}"

    lines = ["| texts | obeyed | flaw rate | lm-score |", "|---|---|---|---|"]
    for row in rows:
        cells = [cell(row["success"], True), cell(row["flaw_rate"], True), cell(row["lm_score"], False)]
        lines.append(f"| {row['texts']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _kinds(domain: Domain) -> tuple[str, ...]:
    return CONTROLS + (BY_SYNTAX if domain.config.syntax else ()) + (BY_FIELDS if domain.config.fields is not None else ())


def _plain_rows(domain: Domain) -> list[dict[str, str | float | None]]:
    """Human texts, and texts of the model without control."""
    from dlm_control.eval.score.teacher import Teacher
    from dlm_control.eval.score.text_file import score_texts
    from dlm_control.pipeline import load

    hush()
    drawn = domain.evaluation / TEXTS
    if not drawn.is_file():
        samples = load(str(domain.folder)).generate([], _DRAWN, seed=domain.config.seed, preset="single")
        write_whole({drawn: "".join(f"{sample.text}\n" for sample in samples)})
    teacher = Teacher(str(domain.teacher))
    human = refs(domain.corpus / HELD_OUT)[:_HUMAN]
    written = [line for line in drawn.read_text(encoding="utf-8").splitlines() if line]
    return [
        _row("human, held out", None, score_texts(human, teacher=teacher)),
        _row("without control", None, score_texts(written, teacher=teacher)),
    ]


def _controlled(domain: Domain, kind: str) -> dict[str, str | float | None]:
    """One control on held-out sentences."""
    from dlm_control.eval.run.generator import generator
    from dlm_control.eval.run.harness import run_suite
    from dlm_control.tasks.suite import read_suite
    from dlm_control.tasks.targets.file import make_targets

    folder = domain.evaluation / kind
    suite_file, targets = folder / f"{kind}.yaml", folder / "targets.jsonl"
    folder.mkdir(exist_ok=True)
    if not suite_file.is_file():
        fields = domain_at(domain.folder) if kind in BY_FIELDS else None
        make_targets(domain.corpus / HELD_OUT, [kind], targets, domain.config.targets, domain.config.seed, domain=fields)
        lines = [
            f"name: {kind}", "version: 1", "targets: {reader: made, file: targets.jsonl}", "metrics: []", "samples: 2",
            *(["domain: ../../fields.yaml"] if fields else []), "",
        ]  # fmt: skip
        write_whole({suite_file: "\n".join(lines)})
    suite = read_suite(str(suite_file))
    writer = generator("diffusion", suite, str(domain.folder), {})
    scores = run_suite(suite, writer, folder, folder / "run", seed=domain.config.seed)
    assert isinstance(scores, Scores)
    return _row(kind, "all_satisfied", scores.findings)


def _row(title: str, success: str | None, found: Findings) -> dict[str, str | float | None]:
    def mean(name: str) -> float | None:
        figure = found.get(name)
        return figure.mean if isinstance(figure, Figure) else None

    return {
        "texts": title, "success": None if success is None else mean(success), "flaw_rate": mean("flaw_rate"),
        "lm_score": mean("lm_score"),
    }  # fmt: skip


def folder_size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
