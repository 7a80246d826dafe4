"""Where models lie, and of what dtype: no part makes a tensor elsewhere, and reduced precision writes texts that obey.

There is no GPU here. torch's meta device stands in for one, with `OneDevice`, under which tensors of two devices do not mix.
"""

from __future__ import annotations

import copy
import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_conformance import CASES
from torch import Tensor, nn
from typer.testing import CliRunner

from dlm_control import Check, Controller, LanguageModel, Plan, State, UsageError, cli, load
from dlm_control.control.use import Control
from dlm_control.controllers.guides.lookup import load_guide
from dlm_control.controllers.guides.structure_guide import StructureGuide
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.semantic import Semantic
from dlm_control.diffusion.backbone import Backbone, Draws, Latents
from dlm_control.diffusion.masked import MaskedBackbone
from dlm_control.eval.baselines.decode import Judge, Network, Stream
from dlm_control.eval.score.teacher import Teacher
from dlm_control.sampling.guidance import Group, PaperGuidance, TiltGuidance, finished_state, state_of
from dlm_control.support.processes import own_device
from dlm_control.testing import ConformanceError, MixedDevicesError, OneDevice, check_controller
from dlm_control.text.tokenizer import WordTokenizer
from dlm_control.training.objectives import Draws as TrainingDraws
from dlm_control.training.recipe import recipe

META = torch.device("meta")
ROWS, CANVAS = 2, 12


class MetaDraws(Draws):
    """Random numbers without values."""

    def normal(self, *shape: int) -> Tensor:
        return torch.empty(ROWS, *shape, device=META)

    def uniform(self, *shape: int) -> Tensor:
        return torch.empty(ROWS, *shape, device=META)


def on_meta(lm: LanguageModel) -> Backbone:
    """The model on the meta device; the given one stays where it is."""
    return copy.deepcopy(lm.backbone).to("meta")


def start(lm: Backbone) -> tuple[Any, Latents]:
    """A process, and its noise."""
    process = lm.process(4)
    allowed = torch.empty(ROWS, CANVAS, len(lm.tokenizer), dtype=torch.bool, device=META)
    length = torch.empty(ROWS, dtype=torch.long, device=META)
    return process, process.start(allowed, length, MetaDraws())


@pytest.fixture(scope="module")
def e2e_meta(e2e: LanguageModel) -> Backbone:
    return on_meta(e2e)


@pytest.fixture
def masked_meta(sentences: tuple[str, ...]) -> Backbone:
    from transformers import BertConfig, BertForMaskedLM

    tokenizer = WordTokenizer.train(sentences, min_count=1, mask=True)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=32, **sizes)
    return MaskedBackbone(BertForMaskedLM(config), tokenizer, "tiny").to("meta")


@pytest.fixture
def unjudged_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers without values pass for finite."""
    monkeypatch.setattr(torch, "isfinite", lambda numbers: torch.tensor(True))


# --- the stand-in itself ------------------------------------------------------------------------------------------------------


def test_two_devices_do_not_mix_on_the_stand_in() -> None:
    there, here = torch.empty(3, 4, device=META, requires_grad=True), torch.ones(3, 4)
    index = torch.empty(3, dtype=torch.long, device=META)
    for wrong in (
        lambda: there + here,
        lambda: there @ here.T,
        lambda: here[index],
        lambda: nn.functional.embedding(index, here),
        lambda: torch.where(there > 0, here, there),
        lambda: torch.cat([there, here]),
    ):
        with OneDevice(), pytest.raises(MixedDevicesError, match="mixes devices in aten"):
            wrong()
    with OneDevice():
        assert (there * 2 + here.to(META) + torch.tensor(1.0)).device == META
        assert there[:, [0, 1]].shape == (3, 2)
        assert torch.autograd.grad(there[there > 0].sum(), there)[0].shape == (3, 4)


# --- sampling -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_a_network_call_and_a_step_stay_on_the_device(e2e_meta: Backbone, sampler: str) -> None:
    process, latents = start(e2e_meta)
    with OneDevice(), torch.no_grad():
        for t, s in ((1.0, 0.5), (0.5, 0.0)):  # the second with self-conditioning
            said = process.predict(latents, t)
            latents = process.step(latents, said, t, s, MetaDraws())
        assert {part.device for part in (said.log_probs, said.x0, said.x_t, latents.z, process.words(latents, said))} == {META}
        assert {part.dtype for part in (said.log_probs, said.x0, said.x_t)} == {torch.float32}
        nats = e2e_meta.nats_per_word(process.words(latents, said), latents.length)
        assert nats.device == META


def test_a_masked_model_stays_on_the_device(masked_meta: Backbone) -> None:
    process, latents = start(masked_meta)
    with OneDevice(), torch.no_grad():
        said = process.predict(latents, 1.0)
        latents = process.step(latents, said, 1.0, 0.5, MetaDraws())
        ids = process.words(latents, said)
        assert {
            part.device
            for part in (said.log_probs, said.x0, said.x_t, latents.z, masked_meta.nats_per_word(ids, latents.length))
        } == {META}
        t, noise = torch.empty(ROWS, device=META), MetaDraws().normal(CANVAS, 16)
        x_t = masked_meta.corrupt(ids, t, noise)
        assert masked_meta.local_likelihood(x_t, t).device == masked_meta.log_snr(t).device == META


# A classifier is asked about texts, which tensors without values do not have.
ENERGIES = [name for name, (controller, *_) in CASES.items() if controller.reads is not None and "classifier" not in name]


@pytest.mark.parametrize("case", ENERGIES)
def test_energies_stay_on_the_device(e2e: LanguageModel, e2e_meta: Backbone, case: str) -> None:
    """Of every control with each of its guides, noisy and finished; gradients too."""
    controller = CASES[case][0]
    process, latents = start(e2e_meta)
    with torch.no_grad():
        said = process.predict(latents, 0.5)
    bound = controller.bind(e2e_meta)
    text = finished_state(e2e_meta, torch.empty(ROWS, CANVAS, dtype=torch.long, device=META), latents.length)
    with OneDevice():
        assert controller.reads is not None
        state = replace(state_of(e2e_meta, said, latents, 0.5), bound=bound)
        leaf = getattr(state, controller.reads).detach().requires_grad_()
        energy = controller.energy(state.with_values(controller.reads, leaf))
        assert energy.device == torch.autograd.grad(energy.sum(), leaf)[0].device == META
        assert energy.dtype == torch.float32
        assert controller.final_energy(replace(text, bound=bound)).device == META


@pytest.mark.parametrize("changes", [{}, {"scale": "rms", "conflict": "project", "lagrangian": 0.5}])
def test_guidance_stays_on_the_device(
    e2e: LanguageModel, e2e_meta: Backbone, unjudged_numbers: None, changes: dict[str, Any]
) -> None:
    """With all rows under the same controls, and with two groups."""
    controls = [bound(e2e, e2e_meta, each) for each in (Keyword("cheap"), Semantic("food", "Japanese", guide="classifier"))]
    for groups in ([Group(controls, [0, 1])], [Group(controls, [0]), Group(controls[:1], [1])]):
        process, latents = start(e2e_meta)
        guidance = TiltGuidance(e2e_meta, process, groups, **changes)
        with OneDevice():
            guided, latents = guidance.predict(latents, 0.5)
            latents = guidance.step(latents, guided, 0.5, 0.4, MetaDraws())
        parts = (guided.log_probs, guided.x0, guided.x_t, latents.z, *latents.memory.values())
        assert {part.device for part in parts} == {META}


def test_the_update_of_2022_stays_on_the_device(e2e: LanguageModel, e2e_meta: Backbone, unjudged_numbers: None) -> None:
    controls = [bound(e2e, e2e_meta, each) for each in (Semantic("food", "Japanese", guide="classifier"), Keyword("cheap"))]
    for groups in ([Group(controls, [0, 1])], [Group(controls, [0]), Group(controls[:1], [1])]):
        _, latents = start(e2e_meta)
        guidance = PaperGuidance(e2e_meta, e2e_meta.process(4, sampler="ddim-eta1"), groups, fluency_weight=0.1)
        with OneDevice(), torch.no_grad():
            guided, latents = guidance.predict(latents, 0.5)
            assert guidance.step(latents, guided, 0.5, 0.4, MetaDraws()).z.device == META


def bound(e2e: LanguageModel, lm: Backbone, controller: Controller) -> Any:
    """A control bound to a model; its plan, which needs values, is another matter."""
    made = Control("tested", controller).bind(e2e.backbone)
    return replace(made, bound=controller.bind(lm), control=replace(made.control, name=repr(controller)))


# --- training -----------------------------------------------------------------------------------------------------------------

ROW = {
    "mr": "food[Japanese]", "ref": "The Golden Fox is a cheap pub near the river .",
    "pos": "DET PROPN PROPN AUX DET ADJ NOUN ADP DET NOUN PUNCT", "penn": "DT NNP NNP VBZ DT JJ NN IN DT NN .",
    "tree": "(S (NP (DT The) (NNP Golden) (NNP Fox)) (VP (VBZ is) (NP (NP (DT a) (JJ cheap) (NN pub)) "
            "(PP (IN near) (NP (DT the) (NN river))))) (. .))",
}  # fmt: skip
SMALL = {"width": 16, "depth": 1, "heads": 2}
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "diffusion-lm": ("diffusion-lm", {"model": {**SMALL, "max_seq_len": 32}, "min_count": 1, "self_cond": 1.0}),
    "diffusion-lm, 2022": (
        "diffusion-lm", {"model": {**SMALL, "max_seq_len": 32, "head": "x0"}, "min_count": 1, "objective": "paper"},
    ),
    "diffusion-lm, 2022, mu": (
        "diffusion-lm", {"model": {**SMALL, "max_seq_len": 32, "head": "mu"}, "min_count": 1, "objective": "paper"},
    ),
    "masked-lm": ("masked-lm", {
        "model": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32},
        "min_count": 1,
    }),
    "autoregressive-lm": ("autoregressive-lm", {**SMALL, "min_count": 1}),
    "structure-guide": ("structure-guide", {"model": SMALL, "least": 1}),
    "syntax-guide": ("syntax-guide", {"model": SMALL, "least": 1}),
    "semantic-guide": ("semantic-guide", {"model": SMALL, "domain": "e2e"}),
}  # fmt: skip


@pytest.mark.parametrize("case", RECIPES)
def test_a_training_step_stays_on_the_device(case: str, tiny_folder: Path, tmp_path: Path) -> None:
    kind, settings = RECIPES[case]
    for name in ("trainset.csv", "devset.csv"):
        with open(tmp_path / name, "w", newline="") as file:
            writer = csv.DictWriter(file, ROW)
            writer.writeheader()
            writer.writerows([ROW] * 16)
    made = recipe(kind, settings | ({"lm": str(tiny_folder)} if kind.endswith("-guide") else {}))
    made.setup(str(tmp_path), 0, 1)
    made.to("meta")
    batch = made.batch(0, 0, 1)
    with OneDevice():
        loss = made.loss(made.model, batch, TrainingDraws(0, 0, device="meta"))
        loss.total.backward()
    assert {part.device for part in (loss.total, *loss.parts.values())} == {META}
    assert any(weights.grad is not None for weights in made.model.parameters())


# --- judges and baselines -----------------------------------------------------------------------------------------------------


def test_a_teacher_reads_on_its_device() -> None:
    teacher = Teacher("e2e-teacher")
    teacher.model.to("meta")
    with OneDevice(), pytest.raises((NotImplementedError, RuntimeError), match="meta") as caught:  # at the figures themselves
        teacher.word_nll(["The Mill is a pub ."])
    assert not isinstance(caught.value, MixedDevicesError)
    with pytest.raises(UsageError, match="device: 'nowhere' cannot be used"):
        Teacher("e2e-teacher", device="nowhere")


def test_baselines_read_on_the_device_of_their_network(sentences: tuple[str, ...]) -> None:
    from transformers import GPT2Config, GPT2ForTokenClassification, GPT2LMHeadModel

    tokenizer = WordTokenizer.train(sentences, min_count=1)
    sizes: dict[str, Any] = {"n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2, "num_labels": 1}
    config = GPT2Config(vocab_size=len(tokenizer), **sizes)
    stream = Stream(Network(GPT2LMHeadModel(config).eval().to("meta"), tokenizer), [], ROWS)
    judge = Judge(Network(GPT2ForTokenClassification(config).eval().to("meta"), tokenizer), [], ROWS)
    with OneDevice():
        stream.push(stream.logits.argmax(-1, keepdim=True))
        assert stream.logits.device == META
        assert judge.verdicts(stream.logits.topk(3).indices).device == META


def test_each_process_of_several_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert own_device("cuda") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert (own_device("cuda"), own_device("cuda:1"), own_device("cpu")) == ("cuda:3", "cuda:1", "cpu")


# --- the rule of the conformance kit ------------------------------------------------------------------------------------------


class Cheap(Controller):
    """The word "cheap" stands somewhere, by word distributions. Sound."""

    reads = "log_probs"

    def place(self, state: State) -> Tensor:
        return torch.arange(state.log_probs.shape[1], device=state.x_t.device)

    def plan(self, lm: Backbone) -> Plan:
        return Plan(phrases=((lm.ids("cheap", "cheap"),),))

    def energy(self, state: State) -> Tensor:
        [word] = state.lm.ids("cheap", "cheap")
        live = self.place(state) < state.length[:, None]
        absent = (-state.log_probs[:, :, word].exp().clamp(max=1 - 1e-6)).log1p()
        return -(-(absent * live).sum(-1).clamp(max=-1e-20).expm1()).log()

    def check(self, text: str) -> Check:
        return Check(float("cheap" in text.split()), "looked")


class Slips(Cheap):
    """Makes a tensor on the CPU."""

    def place(self, state: State) -> Tensor:
        return torch.arange(state.log_probs.shape[1])


class Asks(Cheap):
    """Asks for values, for which the meta device has none."""

    def place(self, state: State) -> Tensor:
        return super().place(state) + 0 * int(state.length.max())


def test_the_kit_finds_a_tensor_on_the_cpu(tiny_lm: LanguageModel) -> None:
    texts: dict[str, Any] = {
        "satisfying": ["The Golden Fox is a cheap pub ."],
        "violating": ["The Golden Fox is a pub ."],
        "lm": tiny_lm,
    }
    before = tiny_lm.backbone.device
    for sound in (Cheap(), Asks()):
        check_controller(sound, **texts)
    with pytest.raises(ConformanceError, match=r"breaks 1 of .* rules\n  - device: energy\(\) mixes devices in aten\.lt"):
        check_controller(Slips(), **texts)
    assert tiny_lm.backbone.device == before


# --- precision ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_texts_of_reduced_precision_obey(e2e: LanguageModel, dtype: str) -> None:
    lm = load("e2e", dtype=dtype)
    assert lm.backbone.dtype == getattr(torch, dtype)
    assert (lm.backbone.fingerprint, lm.backbone.weights_digest) == (e2e.backbone.fingerprint, e2e.backbone.weights_digest)
    samples = lm.generate([Length(12), Semantic("food", "Japanese")], 4)
    assert [sample.checks["length"].passed for sample in samples] == [True] * 4
    assert all(sample.passed for sample in samples), [sample.text for sample in samples]
    assert lm.to(dtype="float32").backbone.dtype == torch.float32
    assert (lm.backbone.fingerprint, lm.backbone.weights_digest) == (e2e.backbone.fingerprint, e2e.backbone.weights_digest)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_predictions_energies_and_guides_are_float32_all_the_same(e2e: LanguageModel, dtype: str) -> None:
    lm, controller = load("e2e", dtype=dtype).backbone, Semantic("food", "Japanese", guide="classifier")
    ids = torch.tensor([[*lm.ids("The Mill is a cheap pub near the river .", "text"), lm.tokenizer.eos_token_id]])
    length, answers = torch.tensor([ids.shape[1] - 1]), []
    for each in (lm, e2e.backbone):
        noise = torch.randn(1, ids.shape[1], each.embeddings.shape[1], generator=torch.Generator().manual_seed(0))
        x_t = each.corrupt(ids, torch.tensor([0.3]), noise)
        said = each.process(4).predict(Latents(x_t, torch.ones(*ids.shape, len(each.tokenizer)).bool(), length), 0.3)
        state = replace(finished_state(each, ids, length), bound=controller.bind(each))
        answers.append((said.log_probs.exp(), controller.final_energy(state), each.nats_per_word(ids, length)))
    assert {part.dtype for part in answers[0]} == {torch.float32}
    for reduced, full in zip(*answers, strict=True):
        torch.testing.assert_close(reduced, full, atol=0.1, rtol=0.1)
    assert load_guide(StructureGuide, "structure", lm).dtype == torch.float32
    assert lm.embeddings.dtype == torch.float32


# --- faults -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, raised",
    [
        ({"device": "cuda:99"}, "device: 'cuda:99' cannot be used: .*; cpu always can"),
        ({"device": "nowhere"}, "device: 'nowhere' cannot be used: .*; cpu always can"),
        ({"device": None}, "device: None cannot be used: .*; cpu always can"),
        ({"dtype": "int8"}, "dtype: unknown 'int8'; there are: float32, bfloat16, float16"),
        ({"dtype": "bfloat"}, "dtype: unknown 'bfloat'.*; there are: float32, bfloat16, float16"),
        ({"dtype": torch.float64}, "dtype: unknown torch.float64.*; there are: float32, bfloat16, float16"),
        ({"dtype": 16}, "dtype: unknown 16.*; there are: float32, bfloat16, float16"),
        ({"dtype": ["float32"]}, r"dtype: unknown \['float32'\].*; there are: float32, bfloat16, float16"),
    ],
)
def test_a_device_or_dtype_that_cannot_be_is_told(tiny_folder: Path, given: dict[str, Any], raised: str) -> None:
    with pytest.raises(UsageError, match=raised) as caught:
        load(tiny_folder, **given)
    assert len(caught.value.issues) == 1 and "\n" not in str(caught.value)
    if None not in given.values():
        with pytest.raises(UsageError, match=raised):
            load(tiny_folder).to(**given)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_told(tiny_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"device: 'cuda' cannot be used: .*; cpu always can"):
        load(tiny_folder, device="cuda")


# --- the command line ---------------------------------------------------------------------------------------------------------


def test_device_and_dtype_are_options_and_stand_in_the_manifest(tiny_folder: Path, tmp_path: Path) -> None:
    spec, out = tmp_path / "spec.yaml", tmp_path / "out.jsonl"
    spec.write_text(f"model: {tiny_folder}\npreset: {{name: single, steps: 2}}\ncontrols: [{{length: 8}}]\n")
    ran = CliRunner().invoke(cli.build(), ["generate", str(spec), "--out", str(out), "--dtype", "bfloat16", "--device", "cpu"])
    assert ran.exit_code == 0, ran.output
    raised = json.loads(out.with_name("out.jsonl.manifest.json").read_text())["model"]
    assert (raised["device"], raised["dtype"]) == ("cpu", "bfloat16")
    ran = CliRunner().invoke(cli.build(), ["generate", str(spec), "--dtype", "int8"])
    assert "dtype: unknown 'int8'" in ran.output
