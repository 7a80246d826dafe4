"""Training: it learns, it survives a kill, and two processes do what one does."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlm_control import UsageError, load
from dlm_control.data import CanvasBatches, canvas_of, encode, padded, read_split
from dlm_control.optim import MuonAdamW, hidden_matrices, orthogonalised
from dlm_control.tokenizer import WordTokenizer
from dlm_control.trainer import TrainConfig, Trainer, rate

SIZES = {"dim": 8, "width": 16, "depth": 1, "heads": 2, "max_canvas": 16}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """67 invented sentences of 7 to 14 words: 64 to train on and 3 held out."""
    chance = random.Random(0)
    rows = []
    for _ in range(67):
        name, kind = chance.choice(["Old Fox", "Blue Anchor", "Red Lantern"]), chance.choice(["pub", "cafe", "restaurant"])
        food, place = chance.choice(["Thai", "Greek", "Danish"]), chance.choice(["the river", "the station", "the park"])
        food = f" that serves {food} food" if chance.random() < 0.5 else ""
        rows.append(f'"The {name} is a {kind}{food} near {place} ."')
    file = tmp_path_factory.mktemp("corpus") / "corpus.csv"
    file.write_text("mr,ref\n" + "".join(f"x,{row}\n" for row in rows))
    return file


def settings(corpus: Path, out: Path, **changes: Any) -> dict[str, Any]:
    recipe = {"model": SIZES, "min_count": 1, "tokens": 192, **changes.pop("recipe", {})}
    return {"kind": "diffusion-lm", "out": str(out), "data": str(corpus), "steps": 40, "warmup": 5, "lr": 1e-2, "eval_every": 20,
            "save_every": 10, "recipe": recipe, **changes}  # fmt: skip


def train(corpus: Path, out: Path, until: int | None = None, **changes: Any) -> Trainer:
    trainer = Trainer(TrainConfig(**settings(corpus, out, **changes)))
    trainer.run(until)
    return trainer


def final(out: Path) -> dict[str, Tensor]:
    """Last weights and their average."""
    state = torch.load(out / "state", weights_only=True)
    return {f"{part}.{name}": tensor for part in ("model", "average") for name, tensor in state[part].items()}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def script(corpus: Path, out: Path, folder: Path, **changes: Any) -> Path:
    """A program that trains, for a process of its own."""
    file = folder / "run.py"
    file.write_text(
        "import torch\nfrom dlm_control.trainer import TrainConfig, Trainer\ntorch.set_num_threads(1)\n"
        f"trainer = Trainer(TrainConfig(**{settings(corpus, out, **changes)!r}))\ntrainer.run()\n"
        "process = trainer.accelerator\n"
        "(trainer.out / f'{process.process_index}-of-{process.num_processes}').write_text(str(process.distributed_type))\n"
    )
    return file


@pytest.mark.parametrize("objective", ["categorical", "paper"])
def test_the_loss_falls_and_the_model_loads(corpus: Path, tmp_path: Path, objective: str) -> None:
    model = SIZES | ({} if objective == "categorical" else {"head": "x0", "unit_norm": False})
    train(corpus, tmp_path, steps=120, eval_every=60, recipe={"objective": objective, "model": model})
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [60, 120]
    name = "cross_entropy" if objective == "categorical" else "mse"
    at_first = Trainer(TrainConfig(**settings(corpus, tmp_path / "new", recipe={"objective": objective, "model": model})))
    before = at_first.recipe.evaluate(at_first.average)[name]
    assert log[-1][f"dev_{name}"] < 0.7 * before
    assert log[-1]["cpu_s"] > 0 and {"loss", name} <= log[-1].keys()
    lm = load(tmp_path)
    assert sum(lm.model.config.length_counts) == 64
    assert len(lm.generate(preset="fast", steps=4)[0].words) > 0


def test_a_run_in_two_sittings_equals_one(corpus: Path, tmp_path: Path) -> None:
    train(corpus, tmp_path / "one")
    train(corpus, tmp_path / "two", until=17)  # not at a save: the steps since the last are done again
    (tmp_path / "two" / "state.new").write_bytes(b"half a save")
    train(corpus, tmp_path / "two")
    assert same(final(tmp_path / "one"), final(tmp_path / "two"))


def test_a_killed_run_resumes_to_the_same_bits(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    changes = {"steps": 160, "save_every": 8, "eval_every": 160}
    process = subprocess.Popen([sys.executable, script(corpus, out, tmp_path, **changes)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (out / "state").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()  # type: ignore[union-attr]
    killed_at = torch.load(out / "state", weights_only=True)["step"]
    assert 0 < killed_at < 160
    train(corpus, out, **changes)
    train(corpus, tmp_path / "whole", **changes)
    assert same(final(out), final(tmp_path / "whole"))


def test_two_processes_reach_the_weights_of_one(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "two"
    run = script(corpus, out, tmp_path, steps=25, save_every=25)
    # Without --multi_gpu accelerate 1.15 starts a single process on a machine that has no GPU, whatever --num_processes says.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
               "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", run]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in out.glob("*-of-*")} == {"0-of-2", "1-of-2"}
    train(corpus, tmp_path / "one", steps=25, save_every=25)
    one, two = final(tmp_path / "one"), final(out)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    assert not same(one, {name: torch.zeros_like(tensor) for name, tensor in two.items()})
