"""The training loop: one process or many, averaged weights, exact resume."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import nn

from dlm_control.support.errors import ErrorCollector, UsageError
from dlm_control.support.progress import progress
from dlm_control.support.validation import check_arguments
from dlm_control.support.values import Above, AtLeast, Fits
from dlm_control.support.yaml_file import read_yaml
from dlm_control.training.card import LOG, write_card
from dlm_control.training.objectives import Draws
from dlm_control.training.optim import MuonAdamW
from dlm_control.training.recipe import Recipe, recipe, recipe_class

Decay = Annotated[float, Fits("a number in [0, 1)", lambda decay: 0 <= decay < 1)]


@dataclass(frozen=True)
class TrainConfig:
    """A training run, as its YAML file says it.

    Attributes:
        kind: which recipe (`diffusion-lm`, a guide, a teacher).
        recipe: the recipe's own settings.
        data: the corpus, as for `read_split`.
        out: folder for the model; `out/state` holds what a resume needs, `out/log.jsonl` the figures, `out/README.md` the
            card. A guide of a model in a folder may leave it out and is written to `<that folder>/guides/<kind>`.
        steps, seed: of the run.
        lr, warmup, weight_decay, beta2, clip, muon: of the optimizer.
        cooldown: share of the steps over which the learning rate falls to a hundredth at the end of the run, after a constant
            stretch; `steps` may then be changed as long as the fall has not begun. None: a cosine over the whole run.
        ema: decay of the averaged weights, warmed up as min(ema, (1 + n) / (10 + n)).
        save_every, eval_every: in steps.
        trackers: names of accelerate's trackers (`tensorboard`, `wandb`, …).
    """

    kind: str
    out: str
    steps: Annotated[int, Above(0)]
    data: str = "e2e"
    recipe: dict[str, Any] = field(default_factory=dict)
    seed: Annotated[int, AtLeast(0)] = 0
    lr: Annotated[float, Above(0)] = 2e-3
    warmup: Annotated[int, AtLeast(0)] = 100
    cooldown: Annotated[float, Fits("nothing, or a share in (0, 1]", lambda share: 0 < share <= 1)] | None = None
    weight_decay: Annotated[float, AtLeast(0)] = 0.0
    beta2: Decay = 0.98
    clip: Annotated[float, Above(0)] = 1.0
    muon: bool = True
    ema: Decay = 0.999
    save_every: Annotated[int, Above(0)] = 250
    eval_every: Annotated[int, Above(0)] = 500
    trackers: Annotated[tuple[str, ...], Fits("a list of names")] = ()

    @classmethod
    def read(cls, path: Path, overrides: dict[str, Any]) -> TrainConfig:
        """A config file with some of its keys replaced; None keeps the file's value, and those of `recipe` are merged into its.

        A replaced `recipe.lm` takes the file's `out` away, which is that of a guide for another model.

        Raises:
            UsageError: missing or broken file, unknown or missing keys, values of a wrong kind: all in one report.
        """
        if not path.exists():
            raise UsageError(f"{path}: no such config file; the project's own lie in configs/")
        given, lines = read_yaml(path)
        kept = {key: value for key, value in overrides.items() if value is not None}
        if isinstance(given.get("recipe"), dict) and "recipe" in kept:
            if "lm" in kept["recipe"]:
                given.pop("out", None)
            kept["recipe"] = {**given["recipe"], **kept["recipe"]}
        return cls.checked({**given, **kept}, str(path), {place: line for place, line in lines.items() if place not in kept})

    @classmethod
    def checked(cls, given: dict[str, Any], subject: str, lines: dict[str, int] | None = None) -> TrainConfig:
        """A config of keys and values.

        Args:
            given: the keys and values.
            subject: heads the report of faults.
            lines: line of each key, where the subject is a file.

        Raises:
            UsageError: unknown or missing keys, values of a wrong kind: all in one report.
        """
        problems = ErrorCollector(subject, lines)
        home = None if "out" in given else _home(given)
        found = check_arguments(problems, "", cls, {**({"out": home} if home else {}), **given})
        problems.raise_if_any()
        return cls(**found)


def _home(given: dict[str, Any]) -> str | None:
    """Where the model goes that a config without `out` trains, or None."""
    kind, settings = given.get("kind"), given.get("recipe", {})
    if not (isinstance(kind, str) and isinstance(settings, dict)):
        return None
    try:
        return recipe_class(kind).home(settings)
    except UsageError:  # an unknown kind, which `recipe` reports
        return None


class Trainer:
    """Runs a recipe to its last step, from the state in its folder if there is one.

    A step is a function of the weights, the optimizer's state, the seed and the step's number; the state folder is replaced by
    one rename. So a killed run that is started again ends with the same weights as one that was not.
    """

    def __init__(self, config: TrainConfig, made: Recipe | None = None) -> None:
        self.config, self.out = config, Path(config.out)
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            log_with=list(config.trackers) or None,
            project_dir=config.out,
            # Losses also use parameters outside of forward(), or leave some out; the same ones in every step.
            kwargs_handlers=[DistributedDataParallelKwargs(static_graph=True)],
        )
        self.recipe = made or recipe(config.kind, config.recipe)
        self.recipe.setup(config.data, config.seed, self.accelerator.num_processes)
        self.recipe.to(self.accelerator.device)
        self.model: nn.Module = self.recipe.model
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        optimizer = MuonAdamW(
            self.model, config.lr, betas=(0.9, config.beta2), weight_decay=config.weight_decay, muon=config.muon
        )
        self.model, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        self.step, self.seconds = 0, 0.0
        if (self.out / "state").exists():
            self._resume()

    def run(self, until: int | None = None) -> None:
        """Train to step `until` (the last by default); from the first save on, `out` holds the averaged model."""
        end = min(self.config.steps, until or self.config.steps)
        main = self.accelerator.is_main_process
        if self.config.trackers:
            self.accelerator.init_trackers("dlm", config={k: str(v) for k, v in asdict(self.config).items()})
        with progress(f"train {self.config.kind}", total=end, start=self.step, show=main) as bar:
            while self.step < end:
                started = time.process_time()
                figures = self._train_step()
                self.seconds += time.process_time() - started
                bar.advance(1, **figures)
                if self.step % self.config.eval_every == 0 or self.step == end:
                    held_out = {f"dev_{k}": v for k, v in self.recipe.evaluate(self.average).items()}
                    self._log({"step": self.step, "cpu_s": round(self.seconds, 1), **figures, **held_out})
                if self.step % self.config.save_every == 0 or self.step == end:
                    self._save()
        self.accelerator.end_training()

    def _train_step(self) -> dict[str, float]:
        config, rank, world = self.config, self.accelerator.process_index, self.accelerator.num_processes
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * rate(self.step, config.warmup, config.steps, config.cooldown)
        batch = self.recipe.batch(self.step, rank, world)
        draws = Draws(config.seed, self.step, rank, world, self.accelerator.device)
        loss, parts = self.recipe.loss(self.model, batch, draws)
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.recipe.after_backward(self.step)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), config.clip)
        if not torch.isfinite(norm):
            raise UsageError(f"step {self.step}: the gradient is not finite ({float(norm)}); lower lr ({config.lr}) or clip")
        self.optimizer.step()
        self.step += 1
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.recipe.model.parameters(), strict=True):
                if now.grad is None:
                    mean.copy_(now)
                else:
                    mean.lerp_(now, 1 - decay)
        return {"loss": loss.item(), **{name: float(part.detach()) for name, part in parts.items()}}

    def _log(self, figures: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            self.out.mkdir(parents=True, exist_ok=True)
            with open(self.out / LOG, "a") as log:
                log.write(json.dumps({k: round(v, 5) for k, v in figures.items()}) + "\n")
        if self.config.trackers:
            self.accelerator.log(figures, step=self.step)

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            state = {
                "config": _lasting(self.config),
                "step": self.step,
                "seconds": self.seconds,
                "model": self.recipe.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            new, now = self.out / "state.new", self.out / "state"
            self.out.mkdir(parents=True, exist_ok=True)
            with open(new, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, now)
            self.recipe.save(self.average, self.out)
            write_card(self.out, self.config, self.average, self.step, self.seconds)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        state = torch.load(self.out / "state", weights_only=True, map_location="cpu")
        differing = [key for key, value in _lasting(self.config).items() if state["config"].get(key) != value]
        if "steps" in differing and not self._cools_before(state["step"], state["config"]["steps"]):
            differing.remove("steps")  # the steps so far are those of a run of either length
        if differing:
            raise UsageError(
                f"{self.out}: holds a run whose {', '.join(differing)} differ from this config's; {self._steps_allowed(state)}"
                "give another --out, or remove the folder to start anew"
            )
        self.step, self.seconds = state["step"], state["seconds"]
        self.recipe.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _steps_allowed(self, state: Mapping[str, Any]) -> str:
        """How few steps a run that was stopped may still have, for a message; empty where none can be changed."""
        done, steps, cooldown = state["step"], state["config"]["steps"], self.config.cooldown
        if cooldown is None or steps == self.config.steps or done > (1 - cooldown) * steps:
            return ""
        least = math.ceil(done / (1 - cooldown))
        return f"after {done} steps at a constant rate, steps can be {least} or more, so that the rate does not fall yet; "

    def _cools_before(self, step: int, steps: int) -> bool:
        """Had the learning rate begun to fall by a step, in this run or in one of `steps` steps?"""
        cooldown = self.config.cooldown
        return cooldown is None or step > (1 - cooldown) * min(steps, self.config.steps)


def rate(step: int, warmup: int, steps: int, cooldown: float | None = None) -> float:
    """Learning rate at a step as a share of its peak.

    Args:
        step: from 0.
        warmup: steps of a linear rise.
        steps: of the whole run.
        cooldown: None for a cosine from the end of the rise down to 0.01; or the share of the steps over which a constant rate
            falls linearly to 0.01 at the end (Hägele et al. 2024, "Scaling laws beyond fixed training durations").
    """
    if step < warmup:
        return (step + 1) / warmup
    if cooldown is not None:
        left = (steps - step) / max(1.0, cooldown * steps)
        return 0.01 + 0.99 * min(1.0, left)
    done = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _lasting(config: TrainConfig) -> dict[str, Any]:
    """What must not change between the sittings of a run."""
    passing = ("out", "data", "save_every", "eval_every", "trackers")
    return {key: value for key, value in asdict(config).items() if key not in passing}
