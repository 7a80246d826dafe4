"""From a corpus to a folder that `load` takes: every stage once, in order, each going on where it stopped."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from dlm_control.eval.domain.config import DomainConfig
from dlm_control.eval.domain.evaluation import CardStage, EvaluationStage, folder_size, read_table, table
from dlm_control.eval.domain.guides import SemanticGuideStage, StructureGuideStage, SyntaxGuideStage
from dlm_control.eval.domain.preset import PresetStage, require_optuna
from dlm_control.eval.domain.stages import (
    RECORD,
    AnnotationStage,
    CorpusStage,
    Domain,
    ModelStage,
    Progress,
    Stage,
    TeacherStage,
)
from dlm_control.support.errors import UsageError
from dlm_control.support.records import read_record

_MEGABYTES = 250  # weights of the largest sizes, and what a training keeps of them
_CHANGEABLE = ("targets",)  # what a domain that has begun may be given anew


def stages(config: DomainConfig) -> Sequence[Stage]:
    """What has to be done, in order."""
    every: list[Stage] = [
        CorpusStage(), ModelStage(), AnnotationStage(), StructureGuideStage(), SyntaxGuideStage(), SemanticGuideStage(),
        TeacherStage(), PresetStage(), EvaluationStage(), CardStage(),
    ]  # fmt: skip
    return [stage for stage in every if config.asks(stage.name)]


def make_domain(config: DomainConfig, tell: Callable[[str], None]) -> str:
    """Make a domain, or go on with one.

    Args:
        config: what is asked for.
        tell: told what comes and what came.

    Returns:
        The table of the evaluation, in Markdown.

    Raises:
        UsageError: the corpus does not fit, the folder holds another domain, the disk has too little room or is full, or tools
            are missing.
    """
    folder = Path(config.out).expanduser()
    domain = Domain(config, folder, _progress(config, folder))
    _check_room(folder)
    if config.syntax:
        from dlm_control.controllers.linguistics.taggers import require

        require("tags", "trees")
    if config.tune:
        require_optuna()
    left = [stage for stage in stages(config) if stage.name not in domain.progress.finished]
    if left:
        minutes = sum(config.minutes_of(stage.name) for stage in left)
        names = ", ".join(stage.name for stage in left)
        tell(f"{folder}: {names}; about {minutes:.0f} minutes, the evaluation not counted, and up to {_MEGABYTES} MB")
    for stage in left:
        started = time.process_time()
        try:
            what = stage.run(domain)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise UsageError(
                f"domain: {stage.name}: the disk of {folder} is full; free some room and give the same command again: "
                "it goes on from the last save"
            ) from None
        domain.progress.cpu_s[stage.name] = round(time.process_time() - started, 1)
        domain.progress.finished[stage.name] = what
        domain.save()
        tell(f"{stage.name}: {what}")
    tell(f"{folder}: {folder_size(folder) / 1e6:.0f} MB")
    return table(read_table(domain))


def _progress(config: DomainConfig, folder: Path) -> Progress:
    """What has been done in a folder for this config."""
    asked = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}
    file = folder / RECORD
    if not file.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"domain: out: {folder} holds other files; give a new or empty folder")
        return Progress(config=asked)
    found = read_record(Progress, file)
    differing = [key for key in asked if key not in _CHANGEABLE and found.config.get(key) != asked[key]]
    if differing:
        raise UsageError(
            f"domain: {folder} holds a domain of another {', '.join(differing)}; give another out, or remove it to start anew"
        )
    return found


def _check_room(folder: Path) -> None:
    """Refuse a disk that cannot hold what will be made."""
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e6
    if free < _MEGABYTES:
        raise UsageError(f"domain: {place} has {free:.0f} MB of room; {_MEGABYTES} MB may be needed")
