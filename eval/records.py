"""What the files of a run hold, as `dlm eval` and `dlm bench` write them and reports read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dlm_control.support.records import REST, Record


@dataclass(frozen=True)
class Figure(Record):
    """A mean with its 95 % bootstrap interval.

    Attributes:
        mean: over targets, or over texts where a figure has no targets.
        low, high: ends of the interval.
        n: how many values the mean is of.
    """

    mean: float
    low: float
    high: float
    n: int


Findings = dict[str, Figure | float | str | None]
"""By name: figures, plain numbers, None for what could not be counted, and sentences that say what is missing for it."""


@dataclass(frozen=True, kw_only=True)
class Plan(Record):
    """`plan.json`: what the texts of a run depend on.

    Attributes:
        suite, suite_version, suite_digest: what is asked for.
        targets: how many.
        targets_digest: hash of what they ask for; runs of older versions do not have it.
        samples_per_target: texts for each target.
        seed: of the run.
        generator: its name.
        commit: of the source tree; None where the package is installed.
        versions: of packages, by name.
        model: of the generator.
        weights: digest of its weights; of several networks a digest for each name.
        preset: all values of the diffusion model's preset.
        controls: "all", or "none" where the controls were left out for comparison.
        guides: which guides steered: "words" or "noise-aware".
        included: hashes of the Python files that the suite includes.
        provenance: what else the generator says of itself.
    """

    suite: str
    suite_version: int
    suite_digest: str
    targets: int
    targets_digest: str | None = None
    samples_per_target: int
    seed: int
    generator: str
    commit: str | None
    versions: dict[str, str]
    model: str | None = None
    weights: str | dict[str, str] | None = None
    preset: dict[str, Any] | None = None
    controls: str | None = None
    guides: str | None = None
    included: list[str] | None = None
    provenance: dict[str, Any] = field(default_factory=dict, metadata=REST)


@dataclass(frozen=True, kw_only=True)
class Manifest(Plan):
    """What a run depends on, and how it was scored.

    Attributes:
        command: that made the run.
        wall_s, cpu_s: seconds that its texts took.
        scoring: version of the scoring.
        scorers: the models that judged, by what they judge.
        judges: names of further judges that were asked.
        corpus: the texts were compared with human text.
    """

    command: str
    wall_s: float
    cpu_s: float
    scoring: int = 1
    scorers: dict[str, str] = field(default_factory=dict)
    judges: list[str] = field(default_factory=list)
    corpus: bool = False


@dataclass(frozen=True)
class TargetRecord(Record):
    """A line of `samples.jsonl`: what became of one target.

    Attributes:
        target: its name.
        texts: one for each sample; none where it failed.
        calls: network calls of each text.
        error: why it failed.
        again: the failure may have passed: the next run tries the target again.
        traceback: of such a failure.
        wall_s, cpu_s: seconds that it took; of targets written together each has an equal share.
    """

    target: str
    texts: list[str]
    calls: list[float]
    error: str | None = None
    again: bool = False
    traceback: str | None = None
    wall_s: float = 0.0
    cpu_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TextRecord(Record):
    """A line of `texts.jsonl`: a text and its scores.

    Attributes:
        target: the name of what was asked for.
        text: as people write it.
        controls: what was asked for; files of older versions do not say it.
        metrics: the score by each metric, 0 to 1.
        lm_score: nats per word under the teacher; None where it is too long for it, or where there is none.
        flaws: which of `hard`, `repeat` and `contradiction` it has.
        failed: what the checks of controls that it does not satisfy say.
    """

    target: str
    text: str
    controls: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict, metadata=REST)
    lm_score: float | None
    flaws: list[str] = field(default_factory=list)
    failed: list[str]


@dataclass(frozen=True)
class Group(Record):
    """Scores of the targets of one group.

    Attributes:
        texts: how many.
        means: over targets: `min_score`, `all_satisfied`, `lm_score`, `flaw_rate`, and each control's check score by its name.
    """

    texts: int
    means: dict[str, float] = field(default_factory=dict, metadata=REST)


@dataclass(frozen=True, kw_only=True)
class Scores(Record):
    """`scores.json`: the figures of one suite by one generator.

    Attributes:
        suite: its name.
        manifest: how the figures came about; it does not count when scores are compared.
        targets, texts: how many.
        calls_per_text: network calls, mean over texts.
        failed_targets: by name why a target has no texts; it counts as 0.
        findings: by name all figures; those of human text end in `_human`.
        too_long_for_teacher: texts without an lm-score.
        groups: by name, where targets have groups.
        scorer_overlap: for each metric its judge, and what the judge shares with what steered the texts.
        by_target: by metric, then by target, the mean over the target's texts.
    """

    suite: str
    manifest: Manifest = field(compare=False)
    targets: int
    texts: int
    calls_per_text: float
    failed_targets: dict[str, str]
    findings: Findings = field(default_factory=dict, metadata=REST)
    too_long_for_teacher: int | None = None
    groups: dict[str, Group] | None = None
    scorer_overlap: dict[str, str]
    by_target: dict[str, dict[str, float]]

    @property
    def figures(self) -> dict[str, Figure]:
        """The findings that have an interval."""
        return {name: found for name, found in self.findings.items() if isinstance(found, Figure)}

    @property
    def numbers(self) -> dict[str, float]:
        """The findings that are plain numbers."""
        return {name: found for name, found in self.findings.items() if isinstance(found, (int, float))}


@dataclass(frozen=True)
class Point(Record):
    """A point of a curve.

    Attributes:
        x, y: its place, in the units of the axes.
        label: written beside it.
        texts: how many it is measured on.
        interval: 95 % interval of y.
    """

    x: float
    y: float
    label: str | None = None
    texts: int | None = None
    interval: list[float] | None = None


@dataclass(frozen=True, kw_only=True)
class Curves(Record):
    """`bench-<name>.json`: a picture of measured curves.

    Attributes:
        title, caption: of the picture.
        command: that made it.
        figures: what else was measured, such as a ratio, and the digest of the weights.
        x, y: titles of the axes.
        joined: lines join the points of a series.
        log: the y axis is logarithmic.
        threads: that torch computed with.
        versions: of packages, by name.
        series: points by the name of a curve.
    """

    title: str
    caption: str
    command: str
    figures: dict[str, Any] = field(default_factory=dict, metadata=REST)
    x: str
    y: str
    joined: bool = True
    log: bool = False
    threads: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    series: dict[str, list[Point]]
