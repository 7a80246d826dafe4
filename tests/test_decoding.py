"""FUDGE and the product of experts, through their classes, against the enumerated posterior of a toy vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2ForTokenClassification, GPT2LMHeadModel

from dlm_control import UsageError
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.semantic import Semantic
from dlm_control.eval.baselines.decode import MOST_WORDS, Stream, Texts, generators, network, sample
from dlm_control.eval.baselines.generators import Baseline, Experts, Finetuned, Fudge, Reject, Unconditional
from dlm_control.eval.baselines.prompts import TOKENS, place_ids
from dlm_control.support.hub import file_digest
from dlm_control.tasks.suite import read_suite
from dlm_control.tasks.targets.target import Target
from dlm_control.text.tokenizer import WordTokenizer

WORDS = ("ale", "bread", "cheese")
UNK, PAD, END = range(3)  # and the words behind them
TOKENIZER = WordTokenizer.train([" ".join(WORDS)], min_count=1)
SIZE = len(TOKENIZER)
CONTROLS = [Semantic("food", "French", domain="e2e"), Length(2)]
PROMPTS = {"semantic": ["food=French"], "length": ["#2"]}
LAMBDAS = {"semantic": 8.0, "length": 2.0}  # of 2022
TEXTS = 600
SUITE = read_suite("smoke")

Begun = tuple[int, ...]  # the words of a text so far
NextWord = Callable[[Begun], Tensor]  # (SIZE,), log-probabilities of the next word, up to a constant


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks of random weights, large enough that every word and prompt matters."""
    home = tmp_path_factory.mktemp("toys")
    torch.manual_seed(5)
    for name, spread in (("ar-lm", 1.0), *((f"finetuned-{kind}", 1.0) for kind in PROMPTS)):
        save(GPT2LMHeadModel(sizes(SIZE + len(TOKENS) * (name != "ar-lm"))), home / name, spread)
    for kind in PROMPTS:
        save(GPT2ForTokenClassification(sizes(SIZE + len(TOKENS), num_labels=1)), home / f"discriminator-{kind}", 0.7)
    return home


def sizes(vocabulary: int, **more: Any) -> GPT2Config:
    return GPT2Config(
        vocab_size=vocabulary, n_positions=128, n_embd=8, n_layer=1, n_head=2, bos_token_id=END, eos_token_id=END, **more
    )


def save(model: Any, place: Path, spread: float) -> None:
    for weights in model.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=spread / 2)
    word = model.get_input_embeddings().weight[END].detach()
    model.transformer.ln_f.bias.data = 4 * word / word.square().sum()  # texts end soon
    model.save_pretrained(place)
    TOKENIZER.save_pretrained(place)


# --- the same networks, read afresh for every text, without a cache ----------------------------------------------------------


def reads(folder: Path, name: str, prompt: Sequence[str]) -> Callable[[Begun], Tensor]:
    """What a network answers at the last word of a text: logits of the next word, or of obedience."""
    judged = name.startswith("discriminator")
    model = (GPT2ForTokenClassification if judged else GPT2LMHeadModel).from_pretrained(folder / name).eval()

    @torch.no_grad()
    def answer(text: Begun) -> Tensor:
        ids = [*(SIZE + TOKENS.index(token) for token in prompt), END, *text]
        places = place_ids(prompt, len(text), judged=judged)
        logits: Tensor = model(torch.tensor([ids]), position_ids=torch.tensor([places])).logits[0, -1]
        return logits if judged else logits[:SIZE].log_softmax(-1)

    return answer


def fudge(folder: Path, lambdas: dict[str, float], before: int = SIZE) -> NextWord:
    """log p(w | text) + Σ λ · log p(control | text, w) for the `before` likeliest words."""
    lm = reads(folder, "ar-lm", [])
    judges = {kind: reads(folder, f"discriminator-{kind}", prompt) for kind, prompt in PROMPTS.items()}

    def next_word(text: Begun) -> Tensor:
        scores = lm(text)
        likely = scores.argsort(descending=True)[:before].tolist()
        for word in range(SIZE):
            for kind, judge in judges.items():
                scores[word] += lambdas[kind] * torch.nn.functional.logsigmoid(judge((*text, word)))[0]
        return torch.tensor([float(score) if word in likely else -torch.inf for word, score in enumerate(scores)])

    return next_word


def experts(folder: Path) -> NextWord:
    """Half the sum of both experts' log-probabilities."""
    first, second = (reads(folder, f"finetuned-{kind}", prompt) for kind, prompt in PROMPTS.items())
    return lambda text: (first(text) + second(text)) / 2


def beginnings(next_word: NextWord, top_k: int = SIZE) -> dict[Begun, float]:
    """The probability of every beginning of two words, or of one that is the whole text; UNK, PAD and no text never come."""

    def chances(text: Begun) -> Tensor:
        scores = next_word(text)
        scores[[UNK, PAD] if text else [UNK, PAD, END]] = -torch.inf
        kept = scores.argsort(descending=True)[:top_k]
        return torch.full_like(scores, -torch.inf).scatter(0, kept, scores[kept]).softmax(-1)

    found: dict[Begun, float] = {}
    for first, chance in enumerate(chances(()).tolist()):
        for second, then in enumerate(chances((first,)).tolist()) if chance else ():
            found[(first,) if second == END else (first, second)] = chance * then
    return found


def written(generator: Baseline, target: Target = Target("toy", CONTROLS)) -> dict[Begun, float]:  # noqa: B008
    outputs = generator.texts(target, range(TEXTS), seed=0)
    texts = [TOKENIZER.word_ids(output.text) for output in outputs]
    assert [output.calls % (len(text) + 1) for output, text in zip(outputs, texts, strict=True)] == [0] * TEXTS
    return {begun: count / TEXTS for begun, count in Counter(tuple(text[:2]) for text in texts).items()}


def assert_like(found: dict[Begun, float], expected: dict[Begun, float]) -> None:
    """Within four standard errors and three texts, beginning by beginning."""
    assert sum(chance > 0.03 for chance in expected.values()) >= 2  # there is something to tell apart
    for begun in expected.keys() | found.keys():
        chance = expected.get(begun, 0.0)
        assert abs(found.get(begun, 0.0) - chance) <= 4 * (chance * (1 - chance) / TEXTS) ** 0.5 + 3 / TEXTS, begun


def test_the_lm_alone_writes_its_own_distribution(folder: Path) -> None:
    assert_like(written(Unconditional(SUITE, str(folder))), beginnings(reads(folder, "ar-lm", [])))


def test_fudge_writes_the_posterior_of_every_text(folder: Path) -> None:
    """p(w | text) · Π p(control | text, w)^λ, with 2022's λ of each kind of control."""
    assert_like(written(Fudge(SUITE, str(folder))), beginnings(fudge(folder, LAMBDAS)))


def test_fudge_looks_at_the_likeliest_words_alone(folder: Path) -> None:
    """Of the LM's five likeliest words the two best by the product are drawn from; one λ for all."""
    expected = beginnings(fudge(folder, dict.fromkeys(LAMBDAS, 3.0), before=5), top_k=2)
    assert_like(written(Fudge(SUITE, str(folder), strength=3.0, before=5, top_k=2)), expected)


def test_experts_write_their_geometric_mean(folder: Path) -> None:
    assert_like(written(Experts(SUITE, str(folder))), beginnings(experts(folder)))


def test_calls_are_those_of_every_network(folder: Path) -> None:
    """FUDGE's discriminators read each word twice: as a candidate and in the text; END counts."""
    target = Target("toy", CONTROLS)
    for generator, networks in ((Unconditional, 1), (Experts, 2), (Fudge, 5)):
        [output] = generator(SUITE, str(folder)).texts(target, [0], seed=1)
        assert output.calls == networks * (len(TOKENIZER.word_ids(output.text)) + 1)


def test_a_fine_tuned_model_writes_its_own_distribution(folder: Path) -> None:
    target = Target("toy", CONTROLS[1:])
    assert_like(written(Finetuned(SUITE, str(folder)), target), beginnings(reads(folder, "finetuned-length", ["#2"])))
    one, *others = Finetuned(SUITE, str(folder), beams=3).texts(target, range(3), seed=0)
    assert others == [one] * 2 and one.calls == 3 * (len(TOKENIZER.word_ids(one.text)) + 1)
    assert one.text and not {"UNK", "PAD"} & set(one.text.split())


def test_a_beam_that_never_ends_is_cut_where_texts_are(folder: Path, tmp_path: Path) -> None:
    model = GPT2LMHeadModel.from_pretrained(folder / "finetuned-length")
    model.transformer.wte.weight.data[END] = -model.transformer.ln_f.bias.data  # the least likely word of all
    for name in ("ar-lm", "finetuned-length"):
        model.save_pretrained(tmp_path / name)
        TOKENIZER.save_pretrained(tmp_path / name)
    [output] = Finetuned(SUITE, str(tmp_path), beams=2).texts(Target("toy", CONTROLS[1:]), [0], seed=0)
    assert len(TOKENIZER.word_ids(output.text)) == MOST_WORDS


def test_the_best_of_several_draws_has_the_highest_sum_of_checks_and_is_the_first_such(folder: Path) -> None:
    target = Target("toy", [Length(2), Keyword("ale")])
    outputs = Reject(SUITE, str(folder), draws=5).texts(target, range(6), seed=3)
    for i, output in enumerate(outputs):
        draws = []
        for generator in generators(3, [i], 5):
            stream = Stream(network(folder / "ar-lm"), [], 1)
            [ids] = sample([stream], partial(getattr, stream, "logits"), [generator])
            draws.append(TOKENIZER.join(TOKENIZER.convert_ids_to_tokens(ids)))
        scores = [sum(control.check(text).score for control in target.controls) for text in draws]
        assert output.text == draws[scores.index(max(scores))]
        assert output.calls == sum(len(TOKENIZER.word_ids(text)) + 1 for text in draws)


def test_a_text_has_at_most_95_words(folder: Path) -> None:
    """An LM that cannot end: END costs everything."""
    stream = Stream(network(folder / "ar-lm"), [], 2)
    endless = torch.tensor([[0.0, 0, -torch.inf, 0, 0, 0]] * 2)
    assert [len(words) for words in sample([stream], lambda: endless, generators(0, range(2)))] == [95, 95]


def test_faults_of_baselines_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ar-lm: no such model; .*`dlm train configs/baselines/ar-lm.yaml --data DATA`"):
        Unconditional(SUITE, str(tmp_path))
    (tmp_path / "ar-lm").mkdir()
    (tmp_path / "ar-lm" / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"ar-lm: does not load: .+; `dlm train configs/baselines/ar-lm.yaml` makes it anew"):
        Unconditional(SUITE, str(tmp_path))
    for maker, controls, told in (
        (Finetuned, CONTROLS, "2 controls, expected one; `experts` takes several"),
        (Experts, [], "0 controls, expected at least one"),
        (Experts, [Length(96)], "a control asks for #96; expected texts of at most 95 words"),
    ):
        with pytest.raises(UsageError, match=f"baselines: {told}"):
            maker(SUITE, str(folder)).texts(Target("toy", controls), [0], seed=0)
    with pytest.raises(UsageError, match="a control asks for 97 words; expected texts of at most 95 words"):
        Stream(network(folder / "finetuned-length"), ["tag:DET"] * 97, 1)
    Stream(network(folder / "finetuned-length"), ["#95"], 1)


@pytest.mark.parametrize(
    ("maker", "settings", "beside"),
    [
        (Unconditional, {}, set()),
        (Reject, {"draws": 3}, set()),
        (Finetuned, {"beams": 2}, {"finetuned-semantic", "finetuned-length"}),
        (Experts, {}, {"finetuned-semantic", "finetuned-length"}),
        (Fudge, {"strength": 2.0, "before": 4, "top_k": 1}, {"discriminator-semantic", "discriminator-length"}),
    ],
)
def test_results_name_the_weights_and_settings_that_made_them(
    maker: type[Baseline], settings: dict[str, Any], beside: set[str], folder: Path
) -> None:
    made = maker(SUITE, str(folder), **settings).provenance()
    assert made["model"] == "ar-lm" and made["settings"] == settings and made["weights"].keys() == {"ar-lm", *beside}
    assert made["weights"]["ar-lm"] == file_digest(folder / "ar-lm" / "model.safetensors")


@pytest.mark.parametrize("maker", [Unconditional, Reject, Finetuned, Experts, Fudge])
def test_another_seed_writes_other_texts(maker: type[Baseline], folder: Path) -> None:
    settings = {"draws": 2} if maker is Reject else {}
    target = Target("toy", [Length(2)] if maker is Finetuned else CONTROLS)
    found = [
        [output.text for output in maker(SUITE, str(folder), **settings).texts(target, range(8), seed)] for seed in (0, 1, 0)
    ]
    assert found[0] == found[2] != found[1] and len(set(found[0])) > 1


def test_every_draw_has_random_numbers_of_its_own() -> None:
    numbers = {float(torch.rand((), generator=each)) for seed in (0, 1) for each in generators(seed, [0, 1], 2)}
    assert len(numbers) == 2 * 2 * 2


def test_words_are_drawn_by_their_probabilities() -> None:
    tokenizer, probs = WordTokenizer.train(["a b c"], min_count=1), torch.tensor([0.6, 0.3, 0.1])
    scores = torch.full((4000, len(tokenizer)), -torch.inf)
    scores[:, tokenizer.word_ids("a b c")] = probs.log() + 2  # up to a constant
    drawn = Texts(tokenizer, generators(0, range(4000)), top_k=0).drawn(scores)
    found = torch.stack([(drawn == word).float().mean() for word in tokenizer.word_ids("a b c")])
    assert torch.allclose(found, probs, atol=0.03)  # four standard deviations
