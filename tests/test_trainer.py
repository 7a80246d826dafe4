"""Training: it learns, it survives a kill, and two processes do what one does."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from dlm_control import UsageError, load
from dlm_control.diffusion.seq_len import padded, seq_len_of
from dlm_control.support.hub import bundled
from dlm_control.text.tokenizer import WordTokenizer
from dlm_control.training.card import card
from dlm_control.training.data import CanvasBatches, encode, read_split
from dlm_control.training.diffusion_lm import DiffusionLMRecipe
from dlm_control.training.optim import MuonAdamW, hidden_matrices, orthogonalised
from dlm_control.training.trainer import TrainConfig, Trainer, rate

SIZES = {"dim": 8, "width": 16, "depth": 1, "heads": 2, "max_seq_len": 16}


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
    given = {"kind": "diffusion-lm", "out": str(out), "data": str(corpus), "recipe": recipe}
    return {**given, "steps": 40, "warmup": 5, "lr": 1e-2, "eval_every": 20, "save_every": 10, **changes}


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


def script(file: Path, *runs: dict[str, Any]) -> Path:
    """A program that trains, for a process of its own."""
    file.write_text(
        "import torch\nfrom accelerate.state import AcceleratorState\n"
        "from dlm_control.training.trainer import TrainConfig, Trainer\ntorch.set_num_threads(1)\n"
        f"for run in {runs!r}:\n"
        "    trainer = Trainer(TrainConfig(**run))\n    trainer.run()\n    process = trainer.accelerator\n"
        "    (trainer.out / f'{process.process_index}-of-{process.num_processes}').touch()\n"
        "    AcceleratorState._reset_state(True)\n"
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
    assert sum(lm.backbone.length_counts) == 64
    assert len(lm.generate(preset="fast", steps=4)[0].words) > 0


def test_a_training_starts_with_the_weights_and_words_of_a_model(corpus: Path, tmp_path: Path) -> None:
    train(corpus, tmp_path / "first", recipe={"model": SIZES, "min_count": 1})
    further = {"start_from": str(tmp_path / "first"), "model": {}}
    recipe = Trainer(TrainConfig(**settings(corpus, tmp_path / "second", recipe=further))).recipe
    assert isinstance(recipe, DiffusionLMRecipe)
    first = load(tmp_path / "first")
    assert recipe.tokenizer.get_vocab() == first.backbone.tokenizer.get_vocab()
    assert same(dict(recipe.model.state_dict()), dict(first.backbone.model.state_dict()))
    assert all(parameter.requires_grad for parameter in recipe.model.parameters())
    with pytest.raises(UsageError, match="start_from"):
        DiffusionLMRecipe(start_from="e2e", model=SIZES)


def test_a_run_in_two_sittings_equals_one(corpus: Path, tmp_path: Path) -> None:
    train(corpus, tmp_path / "one")
    train(corpus, tmp_path / "two", until=17)  # not at a save: the steps since the last are done again
    (tmp_path / "two" / "state.new").write_bytes(b"half a save")
    train(corpus, tmp_path / "two")
    assert same(final(tmp_path / "one"), final(tmp_path / "two"))


def test_a_killed_run_resumes_to_the_same_bits(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    changes = {"steps": 120, "save_every": 4, "eval_every": 120}
    run = script(tmp_path / "run.py", settings(corpus, out, **changes))
    process = subprocess.Popen([sys.executable, run], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (out / "state").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()  # type: ignore[union-attr]
    assert 0 < torch.load(out / "state", weights_only=True)["step"] < 120
    train(corpus, out, **changes)
    train(corpus, tmp_path / "whole", **changes)
    assert same(final(out), final(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["categorical", "paper"])
def test_two_processes_reach_the_weights_of_one(corpus: Path, tmp_path: Path, objective: str) -> None:
    """Both objectives: one leaves a parameter out of its loss, the other uses two of them outside of forward()."""
    paper = {"objective": "paper", "model": SIZES | {"head": "x0", "unit_norm": False}}
    recipe = paper if objective == "paper" else {}
    two, alone = tmp_path / "two", tmp_path / "alone"
    # Without --multi_gpu accelerate 1.15 starts a single process on a machine that has no GPU, whatever --num_processes says.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
               "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = script(tmp_path / "run.py", settings(corpus, two, steps=25, save_every=25, recipe=recipe))
    done = subprocess.run([*command, run], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in two.glob("*-of-*")} == {"0-of-2", "1-of-2"}
    train(corpus, alone, steps=25, save_every=25, recipe=recipe)
    one, both = final(alone), final(two)
    assert one.keys() == both.keys()
    for key, tensor in one.items():
        other = both[key]
        if key.endswith("in_proj_bias"):  # the keys' has no effect: its gradient is rounding error, which Adam enlarges
            tensor, other = (torch.cat([v[:16], v[32:]]) for v in (tensor, other))
        assert torch.allclose(other, tensor, atol=1e-5, rtol=1e-5), (key, (other - tensor).abs().max())


def test_another_config_does_not_take_over_a_run(corpus: Path, tmp_path: Path) -> None:
    train(corpus, tmp_path, until=2, save_every=2)
    with pytest.raises(
        UsageError, match=r"holds a run whose (seed, lr|lr, seed) differ from this config's; give another --out"
    ):
        train(corpus, tmp_path, lr=1e-3, seed=4, save_every=2)
    train(corpus, tmp_path, until=3, save_every=7)  # how often it saves may change


def test_how_few_steps_a_run_may_still_have_is_said(corpus: Path, tmp_path: Path) -> None:
    train(corpus, tmp_path, until=6, steps=20, save_every=6, cooldown=0.25)
    with pytest.raises(UsageError, match="differ from this config's; after 6 steps at a constant rate, steps can be 8 or more"):
        train(corpus, tmp_path, steps=7, cooldown=0.25)
    train(corpus, tmp_path, until=7, steps=8, save_every=7, cooldown=0.25)
    with pytest.raises(UsageError, match="whose steps differ from this config's; give another --out"):  # the rate falls
        train(corpus, tmp_path, steps=9, cooldown=0.25)


def test_embeddings_freeze_when_told(corpus: Path, tmp_path: Path) -> None:
    def table(trainer: Trainer) -> Tensor:
        return trainer.recipe.model.get_parameter("word_embedding.weight").detach().clone()

    trainer = Trainer(TrainConfig(**settings(corpus, tmp_path / "freeze", recipe={"freeze_embeddings_after": 6})))
    start = table(trainer)
    trainer.run(until=6)
    at_six, output = table(trainer), trainer.recipe.model.get_parameter("output.weight").detach().clone()
    trainer.run(until=12)
    assert not torch.equal(start, at_six)
    assert torch.equal(table(trainer), at_six)
    assert torch.equal(trainer.average.get_parameter("word_embedding.weight"), at_six)  # the average is of one table
    assert not torch.equal(trainer.recipe.model.get_parameter("output.weight"), output)

    random = Trainer(TrainConfig(**settings(corpus, tmp_path / "random", recipe={"embeddings": "random"})))
    start = table(random)
    random.run(until=4)
    assert torch.equal(table(random), start)


def test_the_average_is_an_exponential_one_that_warms_up(corpus: Path, tmp_path: Path) -> None:
    trainer = Trainer(TrainConfig(**settings(corpus, tmp_path, ema=0.5)))
    name = "output.weight"
    expected = trainer.recipe.model.get_parameter(name).detach().clone()
    for step in range(1, 13):
        trainer.run(until=step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * trainer.recipe.model.get_parameter(name).detach()
    torch.testing.assert_close(trainer.average.get_parameter(name), expected)


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [rate(step, 10, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.01 + 0.99 / 2)
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert rate(100, 10, 100) == pytest.approx(0.01)


# --- configs and data ---------------------------------------------------------------------------------------------------------


def test_a_config_reports_all_its_faults_at_once(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("kind: diffusion-lm\nsteps: 0\nlr: 2e-3\nclipp: 1\nmuon: maybe\nrecipe: 3\n")
    with pytest.raises(UsageError) as caught:
        TrainConfig.read(file, {})
    for part in ("run.yaml", "clipp", "did you mean 'clip'?", "out", "missing", "steps", "a whole number above 0, got 0", "lr",
                 "2.0e-3, not 2e-3", "muon", "true or false, got 'maybe'", "recipe"):  # fmt: skip
        assert part in str(caught.value)


def test_overrides_replace_keys_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("kind: diffusion-lm\nout: a\nsteps: 5\nrecipe: {tokens: 100, min_count: 2}\n")
    config = TrainConfig.read(file, {"out": "b", "steps": None, "recipe": {"tokens": 7}})
    assert (config.out, config.steps, config.recipe) == ("b", 5, {"tokens": 7, "min_count": 2})
    with pytest.raises(UsageError, match=r"no such config file"):
        TrainConfig.read(tmp_path / "none.yaml", {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "difusion-lm"}, r"unknown recipe 'difusion-lm', did you mean 'diffusion-lm'"),
        ({"recipe": {"objective": "categoric"}}, r"recipe\.objective: unknown 'categoric', did you mean 'categorical'"),
        (
            {"recipe": {"objective": "paper"}},
            r"recipe\.model\.head: 'words' cannot be trained by this objective; it takes x0, eps, mu",
        ),
        ({"recipe": {"embeddings": "frozen"}}, r"'frozen' is neither 'learned' nor 'random'"),
        ({"recipe": {"tokenz": 3}}, r"recipe: 1 problem\n  - tokenz: unknown key, did you mean 'tokens'"),
        ({"recipe": {"text_column": "reff"}}, r"no column 'reff', did you mean 'ref'\?; it has mr, ref"),
        ({"recipe": {"model": {**SIZES, "max_seq_len": 8}}}, r"texts are empty or longer than 7 words \(row"),
        ({"data": "nowhere.csv"}, r"no such file or folder"),
    ],
)
def test_what_cannot_be_trained_is_refused(corpus: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Trainer(TrainConfig(**{**settings(corpus, tmp_path, recipe=changes.pop("recipe", {})), **changes}))


def test_a_file_of_lines_is_cut_into_two_splits(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"line {i}\n" for i in range(45)))
    train_rows, held_out = (list(read_split(str(file), split, ["text"])["text"]) for split in ("train", "validation"))
    assert held_out == ["line 19", "line 39"]
    assert len(train_rows) == 43 and not set(train_rows) & set(held_out)


def test_a_folder_holds_the_official_files(tmp_path: Path) -> None:
    (tmp_path / "trainset.csv").write_text('mr,ref\nx,"a b"\n')
    assert list(read_split(str(tmp_path), "train", ["ref"])["ref"]) == ["a b"]
    with pytest.raises(UsageError, match=r"the folder lacks devset.csv; expected trainset.csv and devset.csv"):
        read_split(str(tmp_path), "validation", ["ref"])


def test_batches_share_a_length_and_cover_the_corpus() -> None:
    chance = random.Random(0)
    lengths = [chance.randint(1, 30) for _ in range(300)]
    batches = CanvasBatches(lengths, max_seq_len=32, tokens=256, seed=3)
    seen: list[int] = []
    step = 0
    while len(seen) < 300 - 8:
        rows, seq_len = batches[step]
        assert len(rows) % 8 == 0 and all(lengths[row] < seq_len <= 32 for row in rows)
        assert len(rows) * seq_len <= 256 * 1.5 or len(rows) == 8
        seen += rows.tolist()
        step += 1
    assert len(seen) == len(set(seen))  # nothing twice within an epoch
    again = CanvasBatches(lengths, max_seq_len=32, tokens=256, seed=3)
    for i in (step + 40, 2, step):  # a function of seed and step alone, in any order
        assert batches[i].seq_len == again[i].seq_len and (batches[i].rows == again[i].rows).all()
    other = CanvasBatches(lengths, max_seq_len=32, tokens=256, seed=4)
    assert any(set(batches[i].rows) != set(other[i].rows) for i in range(3))
    with pytest.raises(UsageError, match=r"3 sentences do not fill one batch of 8"):
        CanvasBatches([1, 2, 3], 32, 256, 0)[0]


@pytest.mark.parametrize(("words", "spare", "seq_len"), [(3, 0, 4), (4, 0, 8), (4, 3, 8), (4, 4, 12), (30, 8, 32), (31, 0, 32)])
def test_a_sequence_has_room_for_end_in_steps_of_four(words: int, spare: int, seq_len: int) -> None:
    assert seq_len_of(words, 32, spare) == seq_len


def test_sentences_are_encoded_and_padded() -> None:
    tokenizer = WordTokenizer.train(["a b c"], min_count=1)
    ids = encode(tokenizer, ["a b", "c x"], 3, "my.csv", "remove them")
    assert ids == [[3, 4, 2], [5, 0, 2]]
    assert padded(ids, 5, 1).tolist() == [[3, 4, 2, 1, 1], [5, 0, 2, 1, 1]]
    with pytest.raises(UsageError, match=r"my.csv: 2 of 3 texts are empty or longer than 2 words \(row 1: ''\); remove them"):
        encode(tokenizer, ["a b", "", "a b c"], 3, "my.csv", "remove them")


# --- Muon ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(16, 16), (16, 64), (64, 16), (48, 16)])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int], scale: float) -> None:
    matrix = scale * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    done = orthogonalised(matrix)
    for part, original in zip(*(m.chunk(3) if shape == (48, 16) else (m,) for m in (done, matrix)), strict=True):
        left, values, right = torch.linalg.svd(original, full_matrices=False)
        turned = left.T @ part @ right.T  # diagonal: the singular vectors stay
        large = values > 0.05 * values.max()
        assert ((turned.diagonal()[large] > 0.6) & (turned.diagonal()[large] < 1.3)).all()
        torch.testing.assert_close(turned, turned.diagonal().diag(), atol=1e-3, rtol=0)


def network() -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True)
    return nn.Sequential(nn.Linear(6, 16), layer, nn.Linear(16, 6))


def test_muon_takes_the_hidden_matrices_and_adamw_the_rest() -> None:
    model = network()
    hidden = {id(p) for p in hidden_matrices(model)}
    names = {name for name, p in model.named_parameters() if id(p) in hidden}
    assert names == {"1.self_attn.in_proj_weight", "1.self_attn.out_proj.weight", "1.linear1.weight", "1.linear2.weight"}
    groups = MuonAdamW(model, 1e-3).param_groups
    assert {id(p) for group in groups if group["muon"] for p in group["params"]} == hidden
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert not any(group["muon"] for group in MuonAdamW(model, 1e-3, muon=False).param_groups)


def test_without_muon_it_is_torchs_adamw() -> None:
    ours, theirs = network(), network()
    x = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(1))
    mine = MuonAdamW(ours, 1e-2, betas=(0.9, 0.98), muon=False)
    reference = torch.optim.AdamW(theirs.parameters(), 1e-2, betas=(0.9, 0.98), weight_decay=0.0)
    for _ in range(5):
        for model, optimizer in ((ours, mine), (theirs, reference)):
            optimizer.zero_grad()
            (model(x) - x.flip(1)).square().mean().backward()
            optimizer.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        keys = slice(16, 32) if name.endswith("in_proj_bias") else slice(0, 0)  # their gradient is rounding error
        a.data[keys] = b.data[keys]
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_muon_learns_and_a_gradient_of_none_is_left_alone() -> None:
    def loss_after(steps: int, frozen: bool = False) -> tuple[float, Tensor]:
        model = network()
        optimizer = MuonAdamW(model, 1e-2)
        x = torch.randn(8, 5, 6, generator=torch.Generator().manual_seed(1))
        for _ in range(steps):
            optimizer.zero_grad()
            (model(x) - x.flip(1)).square().mean().backward()
            if frozen:
                for p in hidden_matrices(model):
                    p.grad = None
            optimizer.step()
        return float((model(x) - x.flip(1)).square().mean().detach()), hidden_matrices(model)[0].detach()

    start, initial = loss_after(0)
    learnt, _ = loss_after(60)
    without, untouched = loss_after(60, frozen=True)
    assert torch.equal(untouched, initial)
    assert learnt < 0.5 * start and learnt < without


def test_a_training_writes_a_card_that_says_what_is_known_and_what_is_not(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    trainer = train(corpus, out)
    assert "Not evaluated yet." in card(tmp_path, trainer.config, trainer.average, step=5, cpu_s=1.0)
    written = (out / "README.md").read_text()
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    parameters = sum(each.numel() for each in trainer.average.parameters())
    for fact in (
        f"`diffusion-lm`, {parameters:,} parameters", "**Licence.** Not stated.", f"`{corpus}` (SHA-256 begins with",
        "Step 40 of 40, seed 0", f"At step 40: loss {last['loss']:.4g}", f"torch {torch.__version__}",
    ):  # fmt: skip
        assert fact in written, fact
    settings = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", written, re.S)[0])
    assert TrainConfig.checked(settings, "card") == trainer.config


def test_a_card_that_its_owner_has_taken_over_is_kept(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    train(corpus, out, until=10)
    (out / "README.md").write_text("**Licence.** MIT")
    train(corpus, out, until=20)
    assert (out / "README.md").read_text() == "**Licence.** MIT"


def test_each_bundled_model_has_a_card_with_licence_data_figures_and_limits() -> None:
    for name, folder in bundled().items():
        written = (folder / "README.md").read_text(encoding="utf-8")
        missing = [word for word in ("license: ", "**Data.**", "**Figures.**", "**Limits.**") if word not in written]
        assert not missing, (name, missing)
