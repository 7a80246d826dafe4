"""What `dlm domain make` is asked for: a corpus, a folder, and how long it may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dlm_control.support.errors import ErrorCollector, UsageError
from dlm_control.support.validation import check_arguments
from dlm_control.support.values import Above, AtLeast, Fits
from dlm_control.support.yaml_file import read_yaml

SHARES = {  # of the minutes
    "model": 0.5, "annotation": 0.13, "structure guide": 0.13, "syntax guide": 0.06, "semantic guide": 0.04, "teacher": 0.14,
    "preset": 0.08,
}  # fmt: skip


@dataclass(frozen=True)
class DomainConfig:
    """A domain, as its YAML file says it.

    Attributes:
        corpus: one or several files of texts: .csv, .tsv, .txt (one a line), .jsonl, .json or .parquet; or folders that
            `datasets` saved.
        out: folder of the model, its guides, its teacher and all that is made on the way.
        column: of the texts, where a file has columns.
        kind: of the model.
        minutes: for trainings and annotation together, at the speed that is measured when each begins.
        held_out: share of the distinct texts that nothing is trained on.
        longest: words of a text at most.
        unfit: what happens to rows without words and rows that are too long: `stop` with an error, or `skip` them and say so.
        syntax: tag and parse the corpus, by models of English, and train guides for `pos`, `tree` and `span`.
        fields: which fields texts speak of: a domain file, or a bundled name; the corpus has a column for each, or `mr`.
        tune: choose the model's own default preset on training sentences.
        min_count: a word must be seen this often to enter the vocabulary; by default 11, less in a small corpus.
        model: the recipe's own sizes, in place of those that suit the time.
        targets: held-out sentences that each control is tried on at the end.
        seed: of everything.
    """

    corpus: Annotated[str | Sequence[str], Fits("a path, or a list of paths", lambda given: bool(given) and all(given))]
    out: str
    column: str = "text"
    kind: Literal["diffusion-lm", "masked-lm"] = "diffusion-lm"
    minutes: Annotated[float, Above(0)] = 60
    held_out: Annotated[float, Fits("a share in (0, 0.5]", lambda share: 0 < share <= 0.5)] = 0.05
    longest: Annotated[int, Fits("a whole number from 1 to 95", lambda words: 1 <= words <= 95)] = 60
    unfit: Literal["stop", "skip"] = "stop"
    syntax: bool = True
    fields: Annotated[str, Fits("a domain file", bool)] | None = None
    tune: bool = True
    min_count: Annotated[int, AtLeast(1)] | None = None
    model: dict[str, Any] = field(default_factory=dict)
    targets: Annotated[int, AtLeast(1)] = 20
    seed: Annotated[int, AtLeast(0)] = 0

    def asks(self, stage: str) -> bool:
        """Is a stage of SHARES part of the work?"""
        needs_syntax, needs_embeddings = ("annotation", "structure guide", "syntax guide"), ("syntax guide", "semantic guide")
        return not (
            (stage in needs_syntax and not self.syntax)
            or (stage in needs_embeddings and self.kind != "diffusion-lm")  # they read noisy ones
            or (stage == "semantic guide" and self.fields is None)
            or (stage == "preset" and not self.tune)
        )

    def minutes_of(self, stage: str) -> float:
        """What a stage may take; those that are asked for share all the time."""
        asked = {name: share for name, share in SHARES.items() if self.asks(name)}
        return self.minutes * asked.get(stage, 0.0) / sum(asked.values())

    @property
    def files(self) -> list[Path]:
        """The files of the corpus."""
        given = [self.corpus] if isinstance(self.corpus, str) else self.corpus
        return [Path(each).expanduser() for each in given]

    @classmethod
    def read(cls, path: Path, overrides: dict[str, Any]) -> Self:
        """A config file with some of its keys replaced; None keeps the file's value.

        Raises:
            UsageError: missing or broken file, unknown or missing keys, values of a wrong kind: all in one report.
        """
        if not path.is_file():
            raise UsageError(f"{path}: no such config file; docs/own-corpus.md shows one")
        given, lines = read_yaml(path)
        kept = {key: value for key, value in overrides.items() if value is not None}
        problems = ErrorCollector(str(path), {place: line for place, line in lines.items() if place not in kept})
        found = check_arguments(problems, "", cls, {**given, **kept})
        problems.raise_if_any()
        return cls(**found)
