"""The card that `dlm train` writes beside a model: what it knows of it, and what it does not."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from torch import nn

from dlm_control.support.files import write_whole
from dlm_control.support.hub import file_digest

if TYPE_CHECKING:
    from dlm_control.training.trainer import TrainConfig

CARD, LOG = "README.md", "log.jsonl"
MARK = "<!-- Written by `dlm train` at each save. Remove this line and the card is yours: it is not written again. -->"


def write_card(folder: Path, config: TrainConfig, model: nn.Module, step: int, cpu_s: float) -> None:
    """Write the card of a model in training, unless its user has taken it over.

    Args:
        folder: of the model; its log has the figures.
        config: of the run.
        model: the network.
        step: reached so far.
        cpu_s: CPU seconds so far.
    """
    file = folder / CARD
    if not file.exists() or MARK in file.read_text(encoding="utf-8"):
        write_whole({file: card(folder, config, model, step, cpu_s)})


def card(folder: Path, config: TrainConfig, model: nn.Module, step: int, cpu_s: float) -> str:
    """The card of a model in training, in Markdown.

    Args:
        folder: of the model; its log has the figures.
        config: of the run.
        model: the network.
        step: reached so far.
        cpu_s: CPU seconds so far.
    """
    data = Path(config.data)
    digest = f" (SHA-256 begins with {file_digest(data)})" if data.is_file() else ""
    parameters = sum(each.numel() for each in model.parameters())
    packages = ", ".join(f"{name} {version(name)}" for name in ("dlm-control", "torch", "transformers"))
    settings = {**asdict(config), "trackers": list(config.trackers)}
    return f"""---
library_name: dlm-control
---
{MARK}
# {folder.resolve().name}

**Kind.** `{config.kind}`, {parameters:,} parameters, made by `dlm train`.

**Licence.** Not stated. It depends on the licence of the data: the owner of this model has to state it here.

**Data.** `{config.data}`{digest}. What the texts are, and who wrote them, is not stated.

**Training.** Step {step:,} of {config.steps:,}, seed {config.seed}, {cpu_s / 60:.1f} CPU minutes of each process.
{packages}, Python {platform.python_version()}.

**Figures.** {_figures(folder / LOG)}

**Limits.** Nothing else has been measured. `dlm eval` measures how well controls are obeyed and how likely the texts are.

## Settings

```yaml
{yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).rstrip()}
```
"""


def _figures(log: Path) -> str:
    """The last line of a log, in words."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    if not lines:
        return "Not evaluated yet."
    last = json.loads(lines[-1])
    figures = ", ".join(f"{name} {value:.4g}" for name, value in last.items() if name not in ("step", "cpu_s"))
    return f"At step {last['step']:,}: {figures}. Names that begin with `dev_` are of held-out data."
