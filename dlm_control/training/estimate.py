"""How long a training takes on this machine."""

from __future__ import annotations

import copy
import time

import torch

from dlm_control.training.objectives import Draws
from dlm_control.training.optim import MuonAdamW
from dlm_control.training.trainer import Trainer


def seconds_per_step(trainer: Trainer, steps: int) -> float:
    """Wall time of a step, measured on copies, so that the run itself is as if nothing had happened."""
    config, accelerator = trainer.config, trainer.accelerator
    rank, world = accelerator.process_index, accelerator.num_processes
    with torch.random.fork_rng():
        model = copy.deepcopy(trainer.recipe.model)
        optimizer = MuonAdamW(model, config.lr, muon=config.muon)
        started = 0.0
        for step in range(trainer.step - 1, trainer.step + steps):  # the first is slower than the rest, and not counted
            if step == trainer.step:
                started = time.perf_counter()
            batch = trainer.recipe.batch(max(step, 0), rank, world)
            draws = Draws(config.seed, max(step, 0), rank, world, accelerator.device)
            loss, _ = trainer.recipe.loss(model, batch, draws)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return (time.perf_counter() - started) / steps


def duration(seconds: float) -> str:
    """`45 s`, `12 min` or `1 h 45 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
