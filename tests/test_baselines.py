"""The baselines: prompts, word-by-word sampling against known distributions, and training of all their parts."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2ForTokenClassification

from dlm_control import UsageError
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.controllers.semantic import Semantic
from dlm_control.controllers.span import Span
from dlm_control.controllers.tree import SyntaxTree
from dlm_control.eval.baselines.decode import Judge, Stream, network
from dlm_control.eval.baselines.generators import Baseline, Experts, Finetuned, Fudge, Reject, Unconditional
from dlm_control.eval.baselines.pplm import PPLM
from dlm_control.eval.baselines.prompts import KINDS, MEANINGS, TOKENS, drawn, place_ids, prompt_of, wrong
from dlm_control.eval.run.generator import generator
from dlm_control.tasks.suite import read_suite
from dlm_control.tasks.targets.target import Target
from dlm_control.training.trainer import TrainConfig, Trainer

TREE = "(TOP (S (NP (DT The) (NN pub)) (VP (VBZ is) (ADJP (JJ cheap))) (. .)))"
ROW = {"mr": "name[The Mill], food[French], priceRange[cheap]", "pos": "DET NOUN AUX ADJ PUNCT", "tree": TREE}
CONTROLS = {
    "semantic": Semantic("food", "French", domain="e2e"),
    "pos": PartsOfSpeech("DET NOUN AUX ADJ PUNCT"),
    "tree": SyntaxTree("(S (NP ? ?) (VP ? (ADJP ?)) ?)"),
    "span": Span([0, 1, "NP"]),
    "length": Length(5),
}
SUITE = read_suite("smoke")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every network that the baselines stand on, trained for three steps on invented sentences."""
    home = tmp_path_factory.mktemp("baselines")
    adjectives = ("cheap", "nice", "big", "old")
    for name, times in (("trainset.csv", 30), ("devset.csv", 4)):
        with open(home / name, "w", newline="") as file:
            writer = csv.DictWriter(file, ["ref", *ROW])
            writer.writeheader()
            for i in range(times * len(adjectives)):
                word = adjectives[i % len(adjectives)]
                writer.writerow({**ROW, "ref": f"The pub is {word}.", "tree": TREE.replace("cheap", word)})
    sizes = {"width": 16, "depth": 1, "heads": 2, "max_words": 150, "tokens": 200}
    train("autoregressive-lm", home, "ar-lm", sizes)
    base = {"base": str(home / "ar-lm"), "tokens": 200}
    for kind in KINDS:
        train("finetuned", home, f"finetuned-{kind}", {**base, "control": kind})
        train("discriminator", home, f"discriminator-{kind}", {**base, "control": kind})
    train("attribute-head", home, "attribute-head", base)
    return home


def train(kind: str, home: Path, name: str, recipe: dict[str, Any]) -> None:
    config = {"kind": kind, "out": str(home / name), "data": str(home), "steps": 3, "muon": False, "recipe": recipe}
    Trainer(TrainConfig.checked(config, name)).run()
    log = (home / name / "log.jsonl").read_text()
    assert '"dev_' in log and "NaN" not in log


def test_a_prompt_is_the_same_from_a_control_and_from_a_row_that_obeys_it() -> None:
    rng = random.Random(0)
    for kind in ("pos", "tree", "length"):
        assert prompt_of(CONTROLS[kind]) == (kind, drawn(kind, ROW, 5, rng))
    assert {tuple(drawn("semantic", ROW, 5, rng)) for _ in range(50)} == {
        ("name=The Mill",),
        ("food=French",),
        ("priceRange=cheap",),
    }
    assert prompt_of(CONTROLS["semantic"])[1] == ["food=French"]
    assert tuple(prompt_of(CONTROLS["span"])[1]) in {tuple(drawn("span", ROW, 5, rng)) for _ in range(50)}
    with pytest.raises(UsageError, match="no prompt for Keyword"):
        prompt_of(Keyword("pub"))
    with pytest.raises(UsageError, match="each whole and exact"):
        prompt_of(Length(at_least=3))


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_wrong_prompt_is_never_obeyed_and_can_always_be_read(kind: str) -> None:
    rng = random.Random(1)
    satisfied = {tuple(drawn(kind, ROW, 5, rng)) for _ in range(100)}
    for _ in range(200):
        tokens = wrong(kind, ROW, 5, drawn(kind, ROW, 5, rng), rng)
        assert tuple(tokens) not in satisfied and set(tokens) <= set(TOKENS)


def test_a_text_is_the_same_alone_and_among_others(folder: Path) -> None:
    free = Unconditional(SUITE, str(folder))
    together = free.texts(Target("x"), range(4), seed=3)
    assert [free.texts(Target("x"), [i], seed=3)[0].text for i in range(4)] == [output.text for output in together]
    assert len({output.text for output in free.texts(Target("x"), range(8), seed=4)}) > 1


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_baseline_writes_for_every_kind(folder: Path, kind: str) -> None:
    target = Target("x", [CONTROLS[kind]])
    makers: list[Baseline] = [
        Finetuned(SUITE, str(folder)), Fudge(SUITE, str(folder), before=4), Experts(SUITE, str(folder)),
        Reject(SUITE, str(folder), draws=2),
    ]  # fmt: skip
    for maker in makers:
        outputs = maker.texts(target, range(2), seed=0)
        assert len(outputs) == 2 and all(output.text and output.calls > 0 for output in outputs)
        assert "ar-lm" in maker.provenance()["weights"]
    assert f"finetuned-{kind}" in makers[0].provenance()["weights"]
    assert f"discriminator-{kind}" in makers[1].provenance()["weights"]


def test_a_beam_finds_a_text_at_least_as_likely_as_the_greedy_one(folder: Path) -> None:
    tuned = network(folder / "finetuned-length")
    prompt = prompt_of(CONTROLS["length"])[1]

    def log_prob(ids: list[int]) -> float:
        end = tuned.tokenizer.eos_token_id
        start, _ = tuned.prompt(prompt)
        whole = torch.tensor([[*start, *ids, end]])
        places = torch.tensor([place_ids(prompt, len(ids) + 1)])
        logits = tuned.model(whole, position_ids=places).logits[0, len(prompt) : -1].log_softmax(-1)
        return float(logits.gather(1, whole[0, len(prompt) + 1 :, None]).sum()) / (len(ids) + 1)

    greedy, searched = (Finetuned(SUITE, str(folder), beams=n)._searched(tuned, prompt) for n in (1, 4))
    assert log_prob(searched) >= log_prob(greedy) - 1e-4
    outputs = Finetuned(SUITE, str(folder), beams=4).texts(Target("x", [CONTROLS["length"]]), range(3), seed=0)
    assert len({output.text for output in outputs}) == 1


def test_more_draws_never_obey_less(folder: Path) -> None:
    target = Target("x", [Keyword("pub"), Length(5)])

    def obedience(draws: int) -> float:
        outputs = Reject(SUITE, str(folder), draws=draws).texts(target, range(10), seed=0)
        return sum(control.check(output.text).score for output in outputs for control in target.controls)

    assert obedience(1) <= obedience(4) <= obedience(16)


def test_one_fine_tuned_model_takes_one_control(folder: Path) -> None:
    with pytest.raises(UsageError, match="2 controls, expected one; `experts` takes several"):
        Finetuned(SUITE, str(folder)).texts(Target("x", [CONTROLS["pos"], CONTROLS["length"]]), range(1), 0)


def test_pplm_pushes_the_cache_towards_the_attribute(folder: Path) -> None:
    maker = PPLM(SUITE, str(folder), updates=5, step=0.5)
    with torch.no_grad():
        maker.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    expected = MEANINGS.index("food=French")
    stream = Stream(maker.lm, [], 1)
    stream.push(torch.tensor([[3]]))
    past = [(layer.keys, layer.values) for layer in stream.cache.layers]
    last, hidden = torch.tensor([[4]]), torch.zeros(1, maker.lm.model.config.n_embd)

    def attribute(cache: Any) -> float:
        from dlm_control.eval.baselines.pplm import _cache

        out = maker.lm.model(last, past_key_values=_cache(cache), output_hidden_states=True)
        return float(maker.head(out.hidden_states[-1][:, -1])[0, expected])

    assert attribute(maker._pushed(last, past, hidden, 0, [expected])) > attribute(past)
    outputs = maker.texts(Target("x", [CONTROLS["semantic"]]), range(2), seed=0)
    assert all(output.text for output in outputs)
    with pytest.raises(UsageError, match="pplm: pos controls are not attributes"):
        maker.texts(Target("x", [CONTROLS["pos"]]), range(1), seed=0)


def test_a_judge_reads_candidates_as_if_they_had_been_written(folder: Path) -> None:
    """The verdicts on candidates equal those of whole texts that end in them."""
    read = network(folder / "discriminator-pos")
    assert isinstance(read.model, GPT2ForTokenClassification)
    judge = Judge(read, prompt_of(CONTROLS["pos"])[1], 2)
    judge.push(torch.tensor([[3], [4]]))
    verdicts = judge.verdicts(torch.tensor([[4, 5], [5, 6]]))
    tokens = prompt_of(CONTROLS["pos"])[1]
    start, _ = read.prompt(tokens)
    whole = torch.tensor([[*start, 3, 4], [*start, 3, 5], [*start, 4, 5], [*start, 4, 6]])
    places = torch.tensor([place_ids(tokens, 2, judged=True)] * 4)
    logits = read.model(whole, position_ids=places).logits[:, -1, 0]
    assert torch.allclose(verdicts.flatten(), torch.nn.functional.logsigmoid(logits), atol=1e-5)


@pytest.mark.parametrize("control", [PartsOfSpeech("DET " * 97), Length(120)])
def test_a_control_of_too_many_words_is_told(control: Any, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"a control asks for (97 words|#120); expected texts of at most 95 words"):
        Stream(network(folder / "ar-lm"), prompt_of(control)[1], 1)


def test_a_prompt_stands_at_the_words_that_it_speaks_of() -> None:
    tags = prompt_of(CONTROLS["pos"])[1]
    assert place_ids(tags, 5) == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5]
    assert place_ids(tags, 5, judged=True) == [1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]
    assert place_ids("(S (NP * * ) (VP * ) * )".split(), 0) == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 0]
    assert place_ids(["@2", "label:NP", "@4"], 1) == [2, 2, 4, 0, 1]
    assert place_ids(["#7"], 0) == [7, 0] and place_ids(["food=French"], 0) == [0, 0]


def test_faulty_settings_come_in_one_report(folder: Path) -> None:
    with pytest.raises(UsageError) as error:
        generator("fudge", read_suite("smoke"), str(folder), {"strength": "strong", "before": 1.5, "top_k": -1})
    for part in (
        "3 problems",
        "before: expected a whole number of 1 or more, got 1.5",
        "top_k: ",
        "strength: ",
        "got 'strong'",
    ):
        assert part in str(error.value)
    with pytest.raises(UsageError, match="strnegth: unknown key, did you mean 'strength'"):
        generator("fudge", read_suite("smoke"), str(folder), {"strnegth": 1})
