"""Checkpoints of the 2022 release: the network is theirs, the texts are ours, and what does not fit is refused."""

from __future__ import annotations

import json
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_cli import dlm
from test_docs import ROOT, command
from torch import Tensor

from dlm_control import UsageError, load
from dlm_control.controllers.infill import Infill
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.diffusion.paper_backbone import PaperBackbone
from dlm_control.diffusion.paper_checkpoint import read_paper_checkpoint
from dlm_control.pipeline import LanguageModel
from dlm_control.training.trainer import TrainConfig, Trainer

Weights = dict[str, Tensor]
SIGNS = ["START", "END", "UNK", "PAD"]
WORDS = [*SIGNS, *"The Vaults is a cheap pub near Café Adriatic with 5 stars . \n e.g. in the city centre".split(" ")]
ARGS = {"model_arch": "transformer", "training_mode": "e2e", "predict_xstart": True, "padding_mode": "pad", "image_size": 4,
        "diffusion_steps": 400, "noise_schedule": "sqrt", "rescale_timesteps": True, "logits_mode": 1}  # fmt: skip


def weights(width: int = 128, depth: int = 2, dim: int = 16, features: int = 32, positions: int = 24) -> Weights:
    """Random weights under the release's keys, in its shapes but for the sizes."""
    chance = torch.Generator().manual_seed(0)
    state: Weights = OrderedDict(position_ids=torch.arange(positions)[None])

    def linear(key: str, outputs: int, inputs: int) -> None:
        state[f"{key}.weight"] = torch.nn.Parameter(torch.randn(outputs, inputs, generator=chance) / math.sqrt(inputs))
        state[f"{key}.bias"] = torch.randn(outputs, generator=chance) / 10

    def norm(key: str) -> None:
        state[f"{key}.weight"] = 1 + torch.randn(width, generator=chance) / 10
        state[f"{key}.bias"] = torch.randn(width, generator=chance) / 10

    state["word_embedding.weight"] = torch.randn(len(WORDS), dim, generator=chance)
    linear("lm_head", len(WORDS), dim)
    state["lm_head.weight"] = state["word_embedding.weight"]
    linear("time_embed.0", 4 * features, features)
    linear("time_embed.2", width, 4 * features)
    linear("input_up_proj.0", width, dim)
    linear("input_up_proj.2", width, width)
    for i in range(depth):
        layer = f"input_transformers.layer.{i}"
        for name in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{name}", width, width)
        linear(f"{layer}.attention.output.dense", width, width)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", 4 * width, width)
        linear(f"{layer}.output.dense", width, 4 * width)
        norm(f"{layer}.output.LayerNorm")
    state["position_embeddings.weight"] = torch.randn(positions, width, generator=chance)
    norm("LayerNorm")
    linear("output_down_proj.0", width, width)
    linear("output_down_proj.2", dim, width)
    return state


def original(state: Weights, x: Tensor, time: Tensor) -> Tensor:
    """The release's forward pass, written out: x (batch, canvas, dim), time (batch,) in its own units."""

    def linear(key: str, h: Tensor) -> Tensor:
        return h @ state[f"{key}.weight"].T + state[f"{key}.bias"]

    def norm(key: str, h: Tensor) -> Tensor:
        centred = h - h.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        return centred / (variance + 1e-12).sqrt() * state[f"{key}.weight"] + state[f"{key}.bias"]

    features = state["time_embed.0.weight"].shape[1]
    angles = time[:, None] * torch.tensor([10000 ** (-2 * i / features) for i in range(features // 2)])
    clock = linear("time_embed.2", F.silu(linear("time_embed.0", torch.cat([angles.cos(), angles.sin()], -1))))
    h = linear("input_up_proj.2", linear("input_up_proj.0", x).tanh())
    h = norm("LayerNorm", state["position_embeddings.weight"][: x.shape[1]] + h + clock[:, None])
    for i in range(len({key.split(".")[2] for key in state if "layer." in key})):
        layer = f"input_transformers.layer.{i}"
        q, k, v = (linear(f"{layer}.attention.self.{name}", h) for name in ("query", "key", "value"))
        heads = []
        for q_i, k_i, v_i in zip(q.split(64, -1), k.split(64, -1), v.split(64, -1), strict=True):
            heads.append((q_i @ k_i.transpose(1, 2) / math.sqrt(64)).softmax(-1) @ v_i)
        h = norm(f"{layer}.attention.output.LayerNorm", h + linear(f"{layer}.attention.output.dense", torch.cat(heads, -1)))
        inner = F.gelu(linear(f"{layer}.intermediate.dense", h))
        h = norm(f"{layer}.output.LayerNorm", h + linear(f"{layer}.output.dense", inner))
    return linear("output_down_proj.2", linear("output_down_proj.0", h).tanh())


def released(folder: Path, change: Callable[[Weights], object] = lambda state: None, **args: Any) -> Path:
    """A run's files as the release leaves them; the weights' path."""
    folder.mkdir(parents=True, exist_ok=True)
    state = weights()
    change(state)
    torch.save(state, folder / "ema_0.9999_200000.pt")
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (folder / "training_args.json").write_text(json.dumps(ARGS | args))
    return folder / "ema_0.9999_200000.pt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("release")
    done = dlm("convert", str(released(home / "run")), "--out", str(home / "converted"))
    assert done.exit_code == 0, done.output
    assert "1 of 23 words are no words by our rule, and no text will hold them: 'e.g.'" in done.stderr
    return home / "converted"


@pytest.fixture(scope="module")
def lm(folder: Path) -> LanguageModel:
    return load(folder)


def test_the_converted_network_is_the_original(lm: LanguageModel) -> None:
    assert isinstance(lm.backbone, PaperBackbone)
    x = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1))
    for step in (0, 1, 37, 399):
        ours = lm.backbone.model(x, torch.full((3,), (step + 1) / 400)).x0
        theirs = original(weights(), x, torch.full((3,), step * 1000 / 400)).detach()
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    scores = F.linear(x, weights()["lm_head.weight"], weights()["lm_head.bias"]).detach()
    torch.testing.assert_close(lm.backbone.model.rounding_logits(x), scores)


@pytest.mark.slow
def test_the_full_network_is_the_original(tmp_path: Path) -> None:
    state = weights(768, 12, 16, 128, 512)
    assert len(state) == 211
    torch.save(state, tmp_path / "model200000.pt")
    (tmp_path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    found = read_paper_checkpoint(tmp_path / "model200000.pt")
    assert found.notes[0].startswith("no training_args.json beside it") and found.model.config.diffusion_steps == 2000
    x = torch.randn(2, 64, 16, generator=torch.Generator().manual_seed(1))
    ours = found.model(x, torch.tensor([501 / 2000, 1.0])).x0
    torch.testing.assert_close(ours, original(state, x, torch.tensor([250.0, 999.5])), atol=1e-4, rtol=1e-4)


def test_its_noise_is_that_of_the_release(lm: LanguageModel) -> None:
    """β_i of T steps from ratios of ᾱ, as the release builds them."""
    steps, alpha_bar = 400, [1.0]
    for i in range(steps):
        ratio = (1 - math.sqrt((i + 1) / steps + 1e-4)) / (1 - math.sqrt(i / steps + 1e-4))
        alpha_bar.append(alpha_bar[-1] * max(ratio, 1 - 0.999))
    for i in (0, 10, 200, 390):
        alpha, _ = lm.backbone.model.schedule.alpha_sigma(torch.tensor([(i + 1) / steps]))  # type: ignore[union-attr,operator]
        assert float(alpha**2) == pytest.approx(alpha_bar[i + 1], rel=1e-3)


def test_texts_stand_between_start_and_end(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the network reads: START, the words, the line break, END and PADs, each under noise of the same level."""
    seen: list[Tensor] = []

    def kept(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    forward = type(lm.backbone.model).forward
    monkeypatch.setattr(type(lm.backbone.model), "forward", lambda self, x, t: forward(self, kept(x), t))
    lm.generate([Length(3)], 1, preset="paper", steps=200, batch_size=1)
    last, table = seen[-1][0], lm.backbone.embeddings
    nearest = [WORDS[i] for i in torch.cdist(last, table).argmin(-1).tolist()]
    assert nearest[0] == "START" and nearest[4:6] == ["\n", "END"] and nearest[6:] == ["PAD"] * 10
    assert len(seen) == 200 and all(x.shape[1:] == (16, 16) for x in seen)


@pytest.mark.parametrize("preset", ["paper", "default"])
def test_controls_steer_it(preset: str, lm: LanguageModel) -> None:
    controls = [Length(6), Keyword("pub"), Infill("The Vaults [*]")]
    changes: dict[str, Any] = {"preset": preset, "steps": 24, "batch_size": 3}
    samples = lm.generate(controls, 3, **changes)
    for sample in samples:
        assert sample.words[:2] == ("The", "Vaults") and len(sample.words) == 6
        assert not {*sample.words} & {*SIGNS, "\n", "e.g."}
    assert sum(sample.passed for sample in samples) >= 2
    assert [sample.text for sample in lm.generate(controls, indices=[2], preset=preset, steps=24, batch_size=3)] == [
        samples[2].text
    ]


def test_a_text_alone_is_the_text_in_company_and_has_a_likelihood(lm: LanguageModel) -> None:
    together = lm.generate([], 5, steps=6, select="likelihood")
    assert lm.generate([], indices=[3], steps=6, select="likelihood")[0] == together[3]
    assert all(sample.nats_per_word is not None and sample.nats_per_word > 0 for sample in together)
    with pytest.raises(UsageError, match="1 to 13 words"):  # 16 positions less START, line break and END
        lm.generate([Length(14)])


def test_either_table_of_an_average(tmp_path: Path) -> None:
    def part(state: Weights) -> None:
        state["lm_head.weight"] = state["lm_head.weight"] + 0.5

    file = released(tmp_path, part)
    raw, averaged = (read_paper_checkpoint(file, table) for table in ("lm_head", "word_embedding"))
    torch.testing.assert_close(raw.model.embeddings, averaged.model.embeddings + 0.5)
    assert any(note == "the two tables of embeddings differ by up to 0.5; that of lm_head is taken" for note in raw.notes)
    with pytest.raises(UsageError, match="unknown 'ema'; there are: lm_head, word_embedding"):
        read_paper_checkpoint(file, "ema")


def test_lengths_are_those_of_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("The Vaults is cheap .\n" * 30)
    file = released(tmp_path / "run")
    done = dlm("convert", str(file), "--out", str(tmp_path / "out"), "--data", str(tmp_path / "texts.txt"))
    assert done.exit_code == 0 and load(tmp_path / "out").backbone.length_counts[4:7] == [0, 29, 0]
    again = dlm("convert", str(file), "--out", str(tmp_path / "out"))
    assert again.exit_code == 2 and "is there already and not empty; give another folder" in again.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("LayerNorm.bias"), "LayerNorm.bias: missing; expected (128,)"),
        (lambda state: state.update(extra=torch.zeros(1)), "extra: is no weight of the release's transformer"),
        (
            lambda state: state.update({"word_embedding.weight": torch.zeros(9, 16)}),
            "word_embedding.weight: has the shape (9, 16), expected (23, 16); vocab.json has 23 words",
        ),
        (lambda state: state.pop("input_transformers.layer.1.output.dense.weight"), "expected (128, 512)"),
        (lambda state: state.update({"encoder_emb.weight": torch.zeros(1)}), "it is a conditional network"),
        (lambda state: state.update({"module.x": torch.zeros(1)}), "its keys begin with `module.`"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: Callable[[Weights], object], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        read_paper_checkpoint(released(tmp_path, change))
    assert said in str(raised.value)


def test_faulty_files_are_named(tmp_path: Path) -> None:
    file = released(tmp_path, model_arch="conv-unet", padding_mode="block", diffusion_steps=0)
    with pytest.raises(UsageError) as raised:
        read_paper_checkpoint(file)
    for said in ("model_arch: 'conv-unet' is another", "padding_mode: 'block'", "diffusion_steps: expected a whole number"):
        assert said in str(raised.value)
    (tmp_path / "training_args.json").unlink()
    for content, said in (("{", "cannot be read as JSON"), ('{"a": 1}', "numbered from 0"), ('{"a": 0}', "has no START, END")):
        (tmp_path / "vocab.json").write_text(content)
        with pytest.raises(UsageError, match=said):
            read_paper_checkpoint(file)
    file.write_bytes(b"no weights")
    done = dlm("convert", str(file), "--out", str(tmp_path / "out"))
    assert done.exit_code == 2 and "cannot be read as weights" in done.stderr
    torch.save([1], file)
    with pytest.raises(UsageError, match="expected a dictionary of tensors"):
        read_paper_checkpoint(file)


@pytest.mark.slow
def test_the_page_on_models_from_outside_converts_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "outside-models.md").read_text(encoding="utf-8")
    released(tmp_path / "diff_e2e")
    (tmp_path / "spec.yaml").write_text("preset: {steps: 20}\ncontrols: [{keyword: pub}]\n")
    [block] = re.findall(r"^```sh\n(dlm convert.*?)^```", page, re.M | re.S)
    converted, generated = (command(line, tmp_path) for line in block.splitlines())
    assert re.search(r"paper: PaperBackbone\('paper', 23 words, [\d,]+ parameters\)", converted)
    assert "1 of 1 obey all controls" in generated


def test_training_does_not_go_on_from_one(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("mr,ref\n" + "x,The Vaults is cheap .\n" * 40)
    given = {"kind": "diffusion-lm", "out": str(tmp_path / "out"), "data": str(tmp_path / "texts.csv"), "steps": 1}
    with pytest.raises(UsageError, match="holds a PaperLM, expected a DiffusionLM"):
        Trainer(TrainConfig(**given, recipe={"start_from": str(folder)}))  # type: ignore[arg-type]
