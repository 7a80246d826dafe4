"""The stages that make a domain, each of which goes on where it stopped."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from dlm_control.controllers.fields.lookup import FILE as FIELDS
from dlm_control.controllers.fields.lookup import domain_at
from dlm_control.eval.domain.config import DomainConfig
from dlm_control.eval.domain.corpus import HELD_OUT, TRAIN, Row, read_corpus, write_texts
from dlm_control.support.files import write_whole
from dlm_control.support.records import Record, write_record
from dlm_control.tasks.targets.corpora import refs
from dlm_control.text.words import split_words

RECORD = "domain.json"
_LEAST_STEPS, _TIMED = 50, 4  # of a training, however little time there is; and steps that an estimate is the mean of
_SIZES = (  # of a model, by the minutes of its own training from which on they pay
    (0, {"width": 64, "depth": 2, "heads": 4}),
    (10, {"width": 128, "depth": 4, "heads": 4}),
    (60, {"width": 192, "depth": 6, "heads": 6}),
)


@dataclass(frozen=True, kw_only=True)
class Progress(Record):
    """`domain.json`: what has been done, and what was decided on the way.

    Attributes:
        config: what was asked for.
        steps: of each training, as its time allows on the machine that began it.
        finished: for each finished stage a sentence that says what came of it.
        cpu_s: CPU seconds of each finished stage.
    """

    config: dict[str, Any]
    steps: dict[str, int] = field(default_factory=dict)
    finished: dict[str, str] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)


@dataclass
class Domain:
    """A domain in the making.

    Attributes:
        config: what is asked for.
        folder: of the model.
        progress: so far.
    """

    config: DomainConfig
    folder: Path
    progress: Progress

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus"

    @property
    def annotated(self) -> Path:
        return self.folder / "annotated"

    @property
    def teacher(self) -> Path:
        return self.folder / "teacher"

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation"

    def save(self) -> None:
        """Write the progress."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_record(self.folder / RECORD, self.progress)


class Stage(ABC):
    """A part of the work.

    Attributes:
        name: in the progress, and in SHARES where it takes a share of the minutes.
    """

    name: ClassVar[str]

    @abstractmethod
    def run(self, domain: Domain) -> str:
        """Do what is not done yet.

        Returns:
            A sentence that says what came of it.
        """


class CorpusStage(Stage):
    """Texts, checked and parted."""

    name = "corpus"

    def run(self, domain: Domain) -> str:
        corpus = read_corpus(domain.config)
        domain.corpus.mkdir(parents=True, exist_ok=True)
        corpus.write(domain.corpus)
        if domain.config.fields is not None:
            _keep_fields(domain, domain.config.fields)
        left_out = "".join(f", {count} rows left out that {why}" for why, count in corpus.skipped.items())
        repeated = f", {corpus.repeated} of them repeats" if corpus.repeated else ""
        return f"{len(corpus.train):,} training texts{repeated}, {len(corpus.held_out):,} held out{left_out}"


class Training(Stage):
    """A training with as many steps as its time allows."""

    def settings(self, domain: Domain) -> dict[str, Any]:
        """Of its config: kind, out, data, recipe."""
        raise NotImplementedError

    def run(self, domain: Domain) -> str:
        from dlm_control.training.estimate import seconds_per_step
        from dlm_control.training.trainer import TrainConfig, Trainer

        base = {"lr": 4e-3, "seed": domain.config.seed, "cooldown": 0.3, **self.settings(domain)}
        if self.name not in domain.progress.steps:
            trial = Trainer(TrainConfig.checked({**base, "steps": _TIMED}, self.name))
            seconds = seconds_per_step(trial, _TIMED)
            domain.progress.steps[self.name] = max(_LEAST_STEPS, int(60 * domain.config.minutes_of(self.name) / seconds))
            domain.save()
        steps = domain.progress.steps[self.name]
        often = max(1, steps // 10)
        schedule = {"steps": steps, "warmup": min(100, steps // 10), "save_every": often, "eval_every": often}
        averaged = {"ema": min(0.999, 1 - 10 / steps)}
        trainer = Trainer(TrainConfig.checked({**base, **schedule, **averaged}, self.name))
        trainer.run()
        (trainer.out / "state").unlink(missing_ok=True)  # three times the weights, and of no more use
        return f"{steps:,} steps; {_figures(trainer.recipe.evaluate(trainer.average))}"


class ModelStage(Training):
    """The diffusion model."""

    name = "model"

    def settings(self, domain: Domain) -> dict[str, Any]:
        config = domain.config
        sizes = dict(max(each for each in _SIZES if each[0] <= config.minutes_of(self.name))[1])
        if config.kind == "masked-lm":
            width = sizes["width"]
            sizes = {
                "hidden_size": width, "num_hidden_layers": sizes["depth"], "num_attention_heads": sizes["heads"],
                "intermediate_size": 4 * width,
            }  # fmt: skip
        recipe = {"model": {**sizes, **config.model}, "min_count": min_count(domain)}
        return {"kind": config.kind, "out": str(domain.folder), "data": str(domain.corpus), "recipe": recipe}


class AnnotationStage(Stage):
    """Tags and trees, of as many texts as the time allows."""

    name = "annotation"

    def run(self, domain: Domain) -> str:
        from dlm_control.controllers.linguistics.annotate import annotate_file

        per_second = _annotations_per_second(refs(domain.corpus / TRAIN)[:48])
        room = int(60 * domain.config.minutes_of(self.name) * per_second)
        counts = {}
        for name, most in ((HELD_OUT, max(50, room // 10)), (TRAIN, max(500, room))):
            texts = list(dict.fromkeys(refs(domain.corpus / name)))
            chosen = domain.corpus / "annotate" / name
            chosen.parent.mkdir(exist_ok=True)
            if not chosen.is_file():
                write_texts(chosen, [Row(text) for text in texts[:: max(1, len(texts) // most)][:most]])
            outcome = annotate_file(chosen, "ref", domain.annotated)
            counts[name] = f"{outcome.texts - len(outcome.rejected):,} of {len(texts):,}"
        return f"tags and trees of {counts[TRAIN]} distinct training texts and of {counts[HELD_OUT]} held out"


class TeacherStage(Training):
    """The autoregressive judge of fluency, and from how many nats on a word counts as hard."""

    name = "teacher"

    def settings(self, domain: Domain) -> dict[str, Any]:
        small = domain.config.minutes_of(self.name) < 15
        sizes = {"width": 96, "depth": 2, "heads": 4} if small else {}
        recipe = {"min_count": min_count(domain), **sizes}
        return {
            "kind": "autoregressive-lm", "out": str(domain.teacher), "data": str(domain.corpus), "recipe": recipe,
            "lr": 2e-3, "muon": False,
        }  # fmt: skip

    def run(self, domain: Domain) -> str:
        from dlm_control.eval.score.flaws import FILE, calibrate
        from dlm_control.eval.score.teacher import Teacher

        found = super().run(domain)
        teacher, file = Teacher(str(domain.teacher)), domain.corpus / TRAIN
        threshold = calibrate(teacher, refs(file)[:5000], file, fields=domain.config.fields is not None)
        write_record(domain.teacher / FILE, threshold)
        return f"{found}; a word is hard above {threshold.hard_nats:g} nats"


def min_count(domain: Domain) -> int:
    """How often a word must be seen: 11, or less where a corpus is small."""
    if domain.config.min_count is not None:
        return domain.config.min_count
    return max(2, min(11, len(refs(domain.corpus / TRAIN)) // 1000))


def _keep_fields(domain: Domain, given: str) -> None:
    """The domain file into the model's folder, if the model will know a wording of every value."""
    found = domain_at(given)
    counts = Counter(word for text in refs(domain.corpus / TRAIN) for word in split_words(text))
    found.check_words({word for word, count in counts.items() if count >= min_count(domain)})
    write_whole({domain.folder / FIELDS: Path(found.source).read_text(encoding="utf-8")})


def _annotations_per_second(texts: Sequence[str]) -> float:
    """Measured on a few texts, models loaded before."""
    from dlm_control.controllers.linguistics.annotate import annotation
    from dlm_control.controllers.linguistics.taggers import require

    require("tags", "trees")
    annotation(list(texts[:2]))
    started = time.process_time()
    annotation(list(texts))
    return len(texts) / max(time.process_time() - started, 1e-3)


def _figures(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in found.items())
