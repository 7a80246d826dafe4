"""Masked models: what they sample, that they keep the engine's promises, what they refuse, and how they are trained."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_cli import dlm
from test_masked_posterior import PLAIN, Enumerated, independent
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast
from transformers.modeling_outputs import MaskedLMOutput

from dlm_control import Control, Controller, UsageError, load
from dlm_control.controllers.infill import Infill
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.controllers.semantic import Semantic
from dlm_control.diffusion.backbone import Latents, Prediction
from dlm_control.diffusion.masked import MaskedBackbone, MaskedProcess
from dlm_control.diffusion.seq_len import padded, seq_len_of
from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.generate import Request
from dlm_control.sampling.presets import check_kind, preset
from dlm_control.sampling.trace import Trace
from dlm_control.text.tokenizer import WordTokenizer
from dlm_control.training.recipe import recipe
from dlm_control.training.trainer import TrainConfig, Trainer

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 20,
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """67 invented sentences of 8 to 12 words: 64 to train on and 3 held out."""
    chance = random.Random(0)
    rows = []
    for _ in range(67):
        name, kind = chance.choice(["Old Fox", "Blue Anchor", "Red Lantern"]), chance.choice(["pub", "cafe", "restaurant"])
        food, place = chance.choice(["Thai", "Greek", "Danish"]), chance.choice(["river", "station", "park"])
        serves = f" that serves {food} food" if chance.random() < 0.5 else ""
        rows.append(f'"The {name} is a {kind}{serves} near the {place} ."')
    file = tmp_path_factory.mktemp("corpus") / "corpus.csv"
    file.write_text("mr,ref\n" + "".join(f"x,{row}\n" for row in rows))
    return file


def trained(corpus: Path, out: Path, until: int | None = None, **changes: Any) -> Trainer:
    settings = {"model": SIZES, "min_count": 1, "tokens": 192}
    given = {"steps": 30, "warmup": 5, "lr": 1e-2, "eval_every": 15, "save_every": 10, **changes}
    trainer = Trainer(TrainConfig(kind="masked-lm", out=str(out), data=str(corpus), recipe=settings, **given))
    trainer.run(until)
    return trainer


@pytest.fixture(scope="module")
def folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model that a short training made."""
    out = tmp_path_factory.mktemp("models") / "masked"
    trained(corpus, out, steps=240, eval_every=80, save_every=80)
    return out


@pytest.fixture(scope="module")
def lm(folder: Path) -> LanguageModel:
    return load(folder)


def texts(lm: LanguageModel, controls: Sequence[Control | Controller] = (), number: int = 4, **changes: Any) -> list[str]:
    return [sample.text for sample in lm.generate(controls, number, **{"candidates": 1, "steps": 6, **changes})]


def test_the_recipe_learns_and_its_model_loads(folder: Path, corpus: Path, tmp_path: Path, lm: LanguageModel) -> None:
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [80, 160, 240] and {"loss", "bound", "dev_bound"} <= log[-1].keys()
    new = Trainer(TrainConfig(kind="masked-lm", out=str(tmp_path), data=str(corpus), steps=1, recipe={
        "model": SIZES, "min_count": 1, "tokens": 192,
    })).recipe  # fmt: skip
    assert log[-1]["dev_bound"] < 0.5 * new.evaluate(new.model)["bound"]
    assert lm.backbone.kind == "masked" and sum(lm.backbone.length_counts) == 64
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["BertForMaskedLM"] and config["pad_token_id"] is None
    assert BertForMaskedLM.from_pretrained(folder).num_parameters() == lm.backbone.model.num_parameters()


def test_embeddings_stop_and_a_further_training_keeps_them(corpus: Path, tmp_path: Path) -> None:
    def words_of(out: Path, **changes: Any) -> torch.Tensor:
        settings = {"tokens": 192, "freeze_embeddings_after": 8, **changes}
        given = TrainConfig(
            kind="masked-lm", out=str(out), data=str(corpus), recipe=settings, steps=20, warmup=2, lr=1e-2, eval_every=20,
            save_every=20,
        )  # fmt: skip
        trainer = Trainer(given)
        table = trainer.recipe.model.get_parameter("bert.embeddings.word_embeddings.weight")
        trainer.run(8)
        before = table.detach().clone()
        trainer.run()
        assert torch.equal(table, before)
        return before

    frozen = words_of(tmp_path / "first", model=SIZES, min_count=1)
    further = {"start_from": str(tmp_path / "first")}
    again = words_of(tmp_path / "second", **further, freeze_embeddings_after=0)
    first, second = load(tmp_path / "first").backbone, load(tmp_path / "second").backbone
    assert torch.equal(first.embeddings, frozen) and torch.equal(again, frozen)
    assert first.fingerprint == second.fingerprint and first.weights_digest != second.weights_digest  # its guides stay valid
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    with pytest.raises(UsageError, match=r"recipe.start_from: .* has its sizes"):
        recipe("masked-lm", {"start_from": str(tmp_path / "first"), "model": SIZES})
    with pytest.raises(UsageError, match=r"recipe.start_from: 'e2e' holds a DiffusionLM, expected a BertForMaskedLM"):
        Trainer(TrainConfig(kind="masked-lm", out=str(tmp_path / "x"), data=str(corpus), steps=1, recipe={"start_from": "e2e"}))


def test_a_training_in_two_sittings_equals_one(corpus: Path, tmp_path: Path) -> None:
    trained(corpus, tmp_path / "one")
    trained(corpus, tmp_path / "two", until=17)  # not at a save
    trained(corpus, tmp_path / "two")
    one, two = (torch.load(tmp_path / name / "state", weights_only=True) for name in ("one", "two"))
    for part in ("model", "average"):
        assert all(torch.equal(one[part][name], two[part][name]) for name in one[part])


def test_words_have_the_same_ids_with_and_without_a_mask(sentences: tuple[str, ...]) -> None:
    plain, masked = (WordTokenizer.train(sentences, 1, mask) for mask in (False, True))
    assert masked.get_vocab() == {**plain.get_vocab(), "MASK": len(plain)} and masked.mask_token_id == len(plain)
    assert plain.mask_token_id is None


@pytest.mark.parametrize(
    ("model", "issues"),
    [
        (
            {"hiden_size": 3, "vocab_size": 9},
            ["hiden_size: unknown key, did you mean 'hidden_size'?", "vocab_size: the recipe"],
        ),
        ({"pad_token_id": 0, "is_decoder": True}, ["pad_token_id: the recipe sets it", "is_decoder: the recipe sets it"]),
        ({"hidden_size": "wide", "num_hidden_layers": 0}, ["got 'wide'", "num_hidden_layers: expected a whole number above 0"]),
        ({"hidden_size": 10, "num_attention_heads": 3}, ["transformers makes no model of it: The hidden size (10)"]),
    ],
)
def test_faulty_sizes_are_told_in_one_report(model: dict[str, Any], issues: list[str]) -> None:
    with pytest.raises(UsageError) as raised:
        recipe("masked-lm", {"model": model})
    assert all(fault in str(raised.value) for fault in issues)


def test_a_text_alone_is_the_text_in_company(lm: LanguageModel) -> None:
    near, fox = (Keyword("near"), Length(9)), (Infill("The Old Fox is a [*] ."),)
    for order in ("confidence", "random"):
        changes: dict[str, Any] = {"order": order, "steps": 5, "candidates": 2}
        one, other = (lm.generate(controls, 5, seed=3, **changes) for controls in (near, fox))
        assert lm.generate(near, indices=[4], seed=3, **changes)[0] == one[4]
        named = [Control("keyword", near[0]), Control("length", near[1])]
        requests = [Request([Control("infill", fox[0])], (2, 1), 3), Request(named, (4, 0, 3), 3)]
        together = lm.generate_many(requests, **changes)
        assert [s.text for s in together[0]] == [other[2].text, other[1].text]
        assert [s.text for s in together[1]] == [one[4].text, one[0].text, one[3].text]
    assert texts(lm, near, batch_size=1) == texts(lm, near, batch_size=7)


@pytest.mark.parametrize("steps", [1, 3, 9, 25])
def test_what_is_given_stands_from_the_start_and_no_mask_stays(steps: int, lm: LanguageModel) -> None:
    tokenizer = lm.backbone.tokenizer
    process = lm.backbone.process(steps)
    seen: list[Latents] = []

    def kept(latents: Latents) -> Latents:
        seen.append(latents)
        return latents

    start, step = type(process).start, type(process).step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(process), "start", lambda *given: kept(start(*given)))
        patch.setattr(type(process), "step", lambda *given: kept(step(*given)))
        samples = lm.generate([Infill("The Old [2] a [2-4] park ."), Keyword("pub", position=5)], 4, steps=steps, candidates=1)
    assert len(seen) == steps + 1
    for before, after in itertools.pairwise(seen):
        stood = before.z != tokenizer.mask_token_id
        assert torch.equal(before.z[stood], after.z[stood])
    length = seen[0].length
    for row, words in enumerate(length.tolist()):
        fixed = seen[0].z[row]
        assert tokenizer.until_end(fixed[words:].tolist()) == [] and (fixed[words + 1 :] == tokenizer.pad_token_id).all()
        open_words = int((fixed == tokenizer.mask_token_id).sum())
        left = [int((latents.z[row] == tokenizer.mask_token_id).sum()) for latents in seen]
        assert left == [open_words * (steps - i) // steps for i in range(steps + 1)]
    for sample in samples:
        assert sample.passed and sample.words[:2] == ("The", "Old") and sample.words[4:6] == ("a", "pub")
        assert not {*sample.words} & {*tokenizer.all_special_tokens} and sample.calls == steps


def test_the_least_likely_words_are_settled_anew(lm: LanguageModel) -> None:
    """Given words stay, each step leaves its share of masks, and what is masked again was the least sure when it settled."""
    mask, steps = lm.backbone.tokenizer.mask_token_id, 12
    seen: list[tuple[Latents, Tensor, Latents]] = []
    step = MaskedProcess.step

    def kept(process: MaskedProcess, latents: Latents, guided: Prediction, *rest: Any) -> Latents:
        after = step(process, latents, guided, *rest)
        seen.append((latents, guided.log_probs, after))
        return after

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MaskedProcess, "step", kept)
        samples = lm.generate([Infill("The Old [9] park .")], 1, steps=steps, candidates=1, remask=0.3, order="random")
    given = seen[0][0].z[0] != mask
    sure = torch.full_like(seen[0][0].z[0], torch.inf, dtype=torch.float)
    again = 0
    for number, (before, log_probs, after) in enumerate(seen, 1):
        stood, stands = before.z[0] != mask, after.z[0] != mask
        assert int((~stands).sum()) == 9 * (steps - number) // steps and (stands | ~given).all()
        dropped, kept_on = stood & ~stands, stood & stands & ~given
        assert not dropped.any() or not kept_on.any() or sure[dropped].max() <= sure[kept_on].min()
        again += int(dropped.sum())
        settled = ~stood & stands
        sure[settled] = log_probs[0].gather(-1, after.z[0][:, None])[settled, 0]
    assert again > steps and samples[0].passed and (seen[-1][2].z != mask).all()


def test_each_step_settles_its_share_in_float32(lm: LanguageModel) -> None:
    """1/22 · 22 is below 1 in float32."""
    size = len(lm.backbone.tokenizer)

    class Ones:
        def uniform(self, *shape: int) -> Tensor:
            return torch.full((1, *shape), 0.5)

    for words in (22, 29, 49, 95):
        process = lm.backbone.process(words)
        latents = process.start(torch.ones(1, words, size, dtype=torch.bool), torch.tensor([words]), Ones())  # type: ignore[arg-type]
        said = process.predict(replace_seq_len(latents), 1.0)
        said = replace(said, log_probs=said.log_probs[:, :1].expand(1, words, size))
        left = []
        for t, s in itertools.pairwise(process.levels):
            latents = process.step(latents, said, t, s, Ones())  # type: ignore[arg-type]
            left.append(int((latents.z == lm.backbone.tokenizer.mask_token_id).sum()))
        assert left == list(range(words - 1, -1, -1))


def replace_seq_len(latents: Latents) -> Latents:
    """The first four positions."""
    return Latents(latents.z[:, :4], latents.allowed[:, :4], latents.length)


def test_what_a_masked_model_lacks_is_refused_before_sampling(lm: LanguageModel, tiny_lm: LanguageModel) -> None:
    for control, name in (
        (Semantic("food", "Indian", guide="classifier", domain="e2e"), "semantic"),
        (PartsOfSpeech("DET", guide="x_t"), "pos"),
    ):
        with pytest.raises(UsageError, match=f"control {name}: its energy is a function of x_t, which a masked model does not"):
            lm.generate([control])
    with pytest.raises(UsageError) as raised:
        lm.generate(preset="paper")
    issues = [fault.place for fault in raised.value.issues]
    assert issues == ["guidance", "sampler", "clamp", "local_likelihood_weight"] and "it takes temperature, order" in str(
        raised.value
    )
    with pytest.raises(UsageError, match="preset: 3 problems"):
        lm.generate(sampler="ddim", clamp="hard", local_likelihood_weight=0.5)
    with pytest.raises(UsageError, match="order: unknown 'rndom', did you mean 'random'"):
        lm.generate(order="rndom")
    with pytest.raises(UsageError, match="remask: particles are weighed by p\\(step\\)"):
        lm.generate(preset="particles", remask=0.1)
    with pytest.raises(UsageError, match="remask: 0\\.1 is nothing that a gaussian model can use"):
        tiny_lm.generate(remask=0.1)
    with pytest.raises(UsageError, match="order: 'random' is nothing that a gaussian model can use"):
        tiny_lm.generate(order="random")


def test_a_preset_s_name_stands_for_values_that_suit_the_kind(lm: LanguageModel, folder: Path, tmp_path: Path) -> None:
    """Words settle at the first call already, so controls act there unless the user says otherwise."""
    for name in ("default", "sound", "fast", "single"):
        chosen = preset(name, lm.backbone.kind)
        check_kind(chosen, lm.backbone.kind, lm.backbone.settings)
        assert chosen.interval == (0.0, 1.0)
    cases: list[tuple[dict[str, Any], float]] = [({}, 1.0), ({"interval": (0.0, 0.95)}, 0.75)]
    for settings, first in cases:
        trace = Trace()
        lm.generate([Keyword("Thai")], callback_on_step=trace, steps=4, candidates=1, **settings)
        assert next(trace.effects())[0] == first
    spec = tmp_path / "spec.yaml"
    spec.write_text("preset: {name: single, steps: 4}\ncontrols: [length: 8]\n")
    assert dlm("validate", spec, "--model", folder).exit_code == 0


def test_a_spec_for_another_kind_of_model_is_refused_when_it_is_validated(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("preset: {sampler: ddim}\ncontrols: [length: 8]\n")
    raised = dlm("validate", file, "--model", folder)
    assert (
        raised.exit_code == 2 and "spec.yaml:1: preset.sampler: 'ddim' is nothing that a masked model can use" in raised.output
    )


def test_likelihood_prefers_order_and_is_of_the_text_alone(lm: LanguageModel) -> None:
    tokenizer, chance = lm.backbone.tokenizer, random.Random(1)
    text = "The Red Lantern is a pub that serves Thai food near the park ."
    words = tokenizer.word_ids(text)
    shuffled = [chance.sample(words, len(words)) for _ in range(3)]
    rows = [[*row, tokenizer.eos_token_id] for row in (words, *shuffled)]
    length = torch.tensor([len(words)] * 4)
    ids = padded(rows, seq_len_of(len(words), 20), tokenizer.pad_token_id)
    nats = lm.backbone.nats_per_word(ids, length)
    assert nats[0] < nats[1:].min() - 1
    alone = lm.backbone.nats_per_word(ids[:1], length[:1])
    assert torch.allclose(alone, nats[:1], atol=1e-5)


def test_the_masks_of_a_likelihood_do_not_depend_on_padding_or_company(sentences: tuple[str, ...]) -> None:
    """By a network that reads each position alone: what differs is then the masks."""
    tokenizer = WordTokenizer.train(sentences, 1, mask=True)
    seen: list[Tensor] = []

    class Alone(Enumerated):
        def forward(self, input_ids: Tensor) -> MaskedLMOutput:
            seen.append((input_ids == tokenizer.mask_token_id)[:, :6])
            return MaskedLMOutput(logits=torch.randn(len(tokenizer), generator=torch.Generator().manual_seed(0)).expand(
                *input_ids.shape, -1
            ))  # fmt: skip

    model = Alone(independent(), 3, len(tokenizer))
    model.config.max_position_embeddings = 64
    backbone = MaskedBackbone(model, tokenizer)
    short, long = tokenizer.word_ids(sentences[0])[:6], tokenizer.word_ids(sentences[4])
    found = []
    for seq_len, company in ((8, []), (16, [long]), (64, [long, short])):
        del seen[:]
        rows = [[*row, tokenizer.eos_token_id] for row in (short, *company)]
        ids = padded(rows, seq_len, tokenizer.pad_token_id)
        nats = backbone.nats_per_word(ids, torch.tensor([len(row) - 1 for row in rows]))
        found.append((float(nats[0]), torch.stack([masks[0] for masks in seen])))
    assert all(nats == pytest.approx(found[0][0]) and torch.equal(masks, found[0][1]) for nats, masks in found)
    assert (found[0][1].sum(0) == 2).all() and len(found[0][1]) == backbone.likelihood_calls  # each word once a partition


@pytest.mark.parametrize(
    "changes",
    [
        {"candidates": 3, "select": "likelihood"},
        {"candidates": 3, "select": "energies"},
        {"candidates": 3, "select": "mbr"},
        {"particles": 3, "resample_below": 1.0, "select": "checks"},
        {"candidates": 2, "early_stop": True, "steps": 9},
        {"lagrangian": 0.5, "conflict": "project", "scale": "rms"},
    ],
    ids=lambda changes: "-".join(str(value) for value in changes.values()),
)
def test_every_way_of_choosing_works(changes: dict[str, Any], lm: LanguageModel) -> None:
    samples = lm.generate([Keyword("Thai"), Length(11)], 4, **{"candidates": 1, "select": "energies", "steps": 6, **changes})
    assert sum(sample.passed for sample in samples) >= 3
    assert all((sample.nats_per_word is not None) == (changes.get("select") == "likelihood") for sample in samples)
    calls = changes.get("steps", 6) * changes.get("candidates", 1) * changes.get("particles", 1)
    if changes.get("select") == "likelihood":
        calls += 3 * lm.backbone.likelihood_calls
    assert all(sample.calls == calls if not changes.get("early_stop") else sample.calls <= calls for sample in samples)


def test_a_trace_and_explain_tell_of_every_step(lm: LanguageModel, folder: Path, tmp_path: Path) -> None:
    trace = Trace()
    lm.generate([Keyword("Thai"), Keyword("park")], 2, callback_on_step=trace, **{**PLAIN, "steps": 5})
    assert len(list(trace.effects())) == 2 * 2 * 5 and next(trace.effects())[0] == 1.0
    file = tmp_path / "spec.yaml"
    file.write_text("num_samples: 2\npreset: {steps: 5}\ncontrols:\n  - length: 11\n  - keyword: Thai\n")
    raised = dlm("explain", file, "--model", folder)
    assert raised.exit_code == 0 and "keyword changed most words at t = " in raised.output


def test_eval_writes_what_it_can_and_says_what_it_lacks(folder: Path, tmp_path: Path) -> None:
    raised = dlm(
        "eval", "smoke", "--model", folder, "--out", tmp_path, "--samples", 1, "--set", "steps=4", "--set", "candidates=1"
    )
    assert raised.exit_code == 0, raised.output
    scores = json.loads((tmp_path / "smoke" / "scores.json").read_text())
    failed = scores["failed_targets"]
    assert not {"twelve words"} & failed.keys() and scores["groups"]["length"]["texts"] == 1
    assert all(
        "has no structure guide; `dlm train --kind structure-guide --lm" in failed[name] for name in ("tags", "phrase", "tree")
    )
    assert "keyword: 1 problem\n  - the word 'riverside' is not among the 28 the model knows" in failed["word"]
    refused = dlm("eval", "smoke", "--model", folder, "--out", tmp_path / "paper", "--preset", "paper")
    assert refused.exit_code == 2 and "preset: 4 problems" in refused.output and not (tmp_path / "paper").exists()


def model_in(folder: Path, tokenizer: Any = None, size: int = 9) -> Path:
    sizes: Any = {**SIZES, "hidden_size": 4, "intermediate_size": 4, "vocab_size": size}
    BertForMaskedLM(BertConfig(**sizes)).save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def test_a_model_without_our_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no tokenizer\.json, which `WordTokenizer\.save_pretrained` writes"):
        load(model_in(tmp_path / "bare"))
    words = WordTokenizer.train(["a b c d e f"], 1)
    with pytest.raises(UsageError, match="its tokenizer: 1 problem\n  - has no mask token"):
        load(model_in(tmp_path / "maskless", words))
    with pytest.raises(UsageError, match="has 9 words, and the model's embeddings are of 12"):
        load(model_in(tmp_path / "wider", WordTokenizer.train(["a b c d e"], 1, mask=True), 12))
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[MASK]", *"abcd", "##c", "##d"])}
    pieces = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordPiece(vocabulary)),
        unk_token="[UNK]", pad_token="[PAD]", mask_token="[MASK]",
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"has no eos_token; (?s:.*)writes parts of words; a token must be a word"):
        load(model_in(tmp_path / "pieces", pieces))
    assert load(model_in(tmp_path / "fit", WordTokenizer.train(["a b c d e"], 1, mask=True))).backbone.kind == "masked"
