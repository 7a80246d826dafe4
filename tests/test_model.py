"""The network, its objectives and its tokenizer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dlm_control import LanguageModel, UsageError, load
from dlm_control.diffusion.gaussian import GaussianBackbone
from dlm_control.diffusion.model import HEADS, DiffusionLM, DiffusionLMConfig, posterior_mean_weights
from dlm_control.diffusion.schedule import noise_schedule
from dlm_control.text.tokenizer import WordTokenizer
from dlm_control.training.objectives import Categorical, Draws, Objective, Paper, noised

VOCAB, DIM, BATCH, CANVAS = 11, 6, 3, 5


@pytest.fixture
def doubles() -> Iterator[None]:
    """float64 everywhere."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def model(head: str = "words", seed: int = 0, **changes: object) -> DiffusionLM:
    torch.manual_seed(seed)
    sizes = {"vocab_size": VOCAB, "dim": DIM, "width": 12, "depth": 1, "heads": 2, "max_seq_len": 8, "head": head, **changes}
    return DiffusionLM(DiffusionLMConfig(**sizes))  # type: ignore[arg-type]


def some_batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, t and word ids."""
    generator = torch.Generator().manual_seed(seed)
    x_t = torch.randn(BATCH, CANVAS, DIM, generator=generator)
    return x_t, torch.tensor([0.02, 0.4, 0.97]), torch.randint(VOCAB, (BATCH, CANVAS), generator=generator)


# --- predictions --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("seq_len", [1, 5, 8])
def test_predictions_have_the_shapes_of_their_contract(head: str, seq_len: int) -> None:
    x_t = torch.randn(BATCH, seq_len, DIM)
    made = model(head)
    x0, logits = made(x_t, torch.tensor([0.0, 0.5, 1.0]), torch.randn_like(x_t))
    assert x0.shape == (BATCH, seq_len, DIM) and x0.isfinite().all()
    if head == "words":
        assert logits.shape == (BATCH, seq_len, VOCAB) and logits.isfinite().all()
        torch.testing.assert_close(x0, logits.softmax(-1) @ made.embeddings)
    else:
        assert logits is None


def test_without_self_conditioning_means_zeros_and_with_it_matters() -> None:
    x_t, t, _ = some_batch()
    made = model().eval()
    free = made(x_t, t).x0
    assert torch.equal(made(x_t, t, torch.zeros_like(x_t)).x0, free)
    assert not torch.allclose(made(x_t, t, torch.ones_like(x_t)).x0, free)


def test_items_and_positions_are_told_apart_and_noise_levels_count() -> None:
    """No item reads another; every position reads all of its own item; t reaches the output."""
    x_t, t, _ = some_batch()
    made = model().eval()
    logits = made(x_t, t).logits
    torch.testing.assert_close(made(x_t[1:2], t[1:2]).logits, logits[1:2])
    changed = x_t.clone()
    changed[0, 4] += 1
    assert (made(changed, t).logits[0, 0] != logits[0, 0]).any()
    plain = model("x0").eval()
    assert not torch.allclose(plain(x_t, t).x0, plain(x_t, t.flip(0)).x0, atol=1e-3)
    assert not torch.allclose(plain(x_t.flip(1), t).x0.flip(1), plain(x_t, t).x0, atol=1e-3)


@pytest.mark.parametrize("t", [0.01, 0.3, 0.9])
def test_eps_and_mu_heads_convert_to_x0_exactly(doubles: None, t: float) -> None:
    """A network that answers the true ε (or the true posterior mean) stands for the true x0."""
    x0, answer = torch.randn(2, BATCH, CANVAS, DIM)
    answer = answer[:1, :1].expand_as(x0)  # a constant network's
    levels = torch.full((BATCH,), t)
    for head in ("eps", "mu"):
        made = model(head)
        with torch.no_grad():
            made.output.weight.zero_()
            made.output.bias.copy_(answer[0, 0])
        if head == "eps":
            x_t = noised(made.schedule, x0, levels, answer)
        else:
            of_x0, of_x_t = (w[:, None, None] for w in posterior_mean_weights(made.schedule, levels))
            x_t = (answer - of_x0 * x0) / of_x_t
        torch.testing.assert_close(made(x_t, levels).x0, x0, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["sqrt", "cosine", "loglinear"])
def test_posterior_mean_weights_are_gaussian_conditioning(doubles: None, name: str) -> None:
    """E[x_s | x_t, x0] = α_s·x0 + cov(x_s, x_t | x0)/σ_t²·(x_t − α_t·x0), where x_t = r·x_s + noise."""
    schedule, t = noise_schedule(name), torch.tensor([0.01, 0.3, 0.9])
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(t - 1 / 2000)
    gain = alpha_t / alpha_s * sigma_s.square() / sigma_t.square()
    of_x0, of_x_t = posterior_mean_weights(schedule, t)
    torch.testing.assert_close(of_x_t, gain)
    torch.testing.assert_close(of_x0, alpha_s - gain * alpha_t)


@pytest.mark.parametrize("unit_norm", [True, False])
def test_embedding_tables(unit_norm: bool) -> None:
    made = model(unit_norm=unit_norm)
    norms = made.embeddings.norm(dim=-1)
    if unit_norm:
        torch.testing.assert_close(norms, torch.full((VOCAB,), math.sqrt(DIM)))
    else:
        assert norms.std() > 0.1 and torch.equal(made.embeddings, made.word_embedding.weight)


def test_local_evidence_is_the_likelihood_of_each_word(doubles: None) -> None:
    """log N(x_t; α·E_w, σ²·I), up to what all words share."""
    x_t, t, _ = some_batch()
    made = model(local_likelihood=True)
    with torch.no_grad():
        made.output.weight.zero_()
    alpha, sigma = (v[:, None, None] for v in made.schedule.alpha_sigma(t.double()))
    means = alpha[..., None] * made.embeddings
    expected = torch.distributions.Normal(means, sigma[..., None]).log_prob(x_t[:, :, None].double()).sum(-1)
    got = made(x_t.double(), t.double()).logits
    torch.testing.assert_close(got.log_softmax(-1), expected.log_softmax(-1), rtol=1e-6, atol=1e-6)


def test_rounding_is_a_dot_product_with_a_bias() -> None:
    x_t, _, _ = some_batch()
    made = model()
    with torch.no_grad():
        made.rounding_bias[3] = 2.5
    torch.testing.assert_close(made.rounding_logits(x_t)[1, 2, 3], x_t[1, 2] @ made.embeddings[3] + 2.5)


@pytest.mark.parametrize("head", HEADS)
def test_save_and_load_keep_every_bit(head: str, tmp_path: Path) -> None:
    made, tokenizer = model(head, unit_norm=head == "words", schedule="cosine"), WordTokenizer.train(["a b c d e f g h"], 1)
    made.config.length_counts = [0, 1, 5]
    made.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file() and not list(tmp_path.glob("*.bin"))
    again = load(tmp_path)
    for key in (
        "vocab_size",
        "dim",
        "width",
        "depth",
        "heads",
        "max_seq_len",
        "schedule",
        "head",
        "unit_norm",
        "length_counts",
    ):
        assert getattr(again.backbone.model.config, key) == getattr(made.config, key)
    for name, tensor in made.state_dict().items():
        assert torch.equal(again.backbone.model.state_dict()[name], tensor), name
    x_t, t, _ = some_batch()
    with torch.no_grad():
        assert torch.equal(again.backbone.model(x_t, t).x0, made.eval()(x_t, t).x0)
    assert again.backbone.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert not any(parameter.requires_grad for parameter in again.backbone.model.parameters())


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    WordTokenizer.train(["a b c d e f g h"], 1).save_pretrained(tmp_path)
    model().save_pretrained(tmp_path)
    model(width=24).config.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"model '.*'"):
        load(tmp_path)


# --- objectives ---------------------------------------------------------------------------------------------------------------

OBJECTIVES: list[tuple[Objective, str]] = [(Categorical(self_cond=0.0), "words"), *((Paper(), head) for head in Paper.heads)]


@pytest.mark.parametrize(("objective", "head"), OBJECTIVES, ids=["categorical", *(f"paper-{h}" for h in Paper.heads)])
@pytest.mark.parametrize("unit_norm", [True, False])
def test_gradients_agree_with_finite_differences(doubles: None, objective: Objective, head: str, unit_norm: bool) -> None:
    made, ids = model(head, unit_norm=unit_norm), some_batch()[2]
    objective.loss(made, ids, Draws(0, 5))[0].backward()
    generator, h = torch.Generator().manual_seed(0), 1e-5
    for name, parameter in made.named_parameters():
        if parameter.grad is None:
            assert name == "rounding_bias" and head == "words"  # the categorical loss does not round
            continue
        direction = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            losses = []
            for sign in (1, -1):
                parameter.add_(direction, alpha=sign * h)
                losses.append(float(objective.loss(made, ids, Draws(0, 5))[0]))
                parameter.sub_(direction, alpha=sign * h)
        slope = float((parameter.grad * direction).sum())
        assert (losses[0] - losses[1]) / (2 * h) == pytest.approx(slope, rel=1e-4, abs=1e-7), name


def test_categorical_is_the_cross_entropy_of_the_words(doubles: None) -> None:
    made, ids = model(), some_batch()[2]
    draws = Draws(3, 1)
    t, noise = draws.levels(BATCH), draws.normal(BATCH, CANVAS, DIM)
    alpha, sigma = (v[:, None, None] for v in made.schedule.alpha_sigma(t))
    log_probs = made(alpha * made.embeddings[ids] + sigma * noise, t).logits.log_softmax(-1)
    loss, parts = Categorical(self_cond=0.0).loss(made, ids, Draws(3, 1))
    by_hand = -torch.stack([log_probs[i, j, ids[i, j]] for i in range(BATCH) for j in range(CANVAS)]).mean()
    assert loss.item() == pytest.approx(by_hand.item()) == pytest.approx(parts["cross_entropy"].item())


def test_self_conditioning_feeds_back_the_first_answer(doubles: None) -> None:
    made, ids = model(), some_batch()[2]
    draws = Draws(3, 1)
    t, noise = draws.levels(BATCH), draws.normal(BATCH, CANVAS, DIM)
    x_t = noised(made.schedule, made.embeddings[ids], t, noise)
    logits = made(x_t, t, made(x_t, t).x0.detach()).logits
    by_hand = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).item()
    assert Categorical(self_cond=1.0).loss(made, ids, Draws(3, 1))[0].item() == pytest.approx(by_hand)


@pytest.mark.parametrize("head", Paper.heads)
@pytest.mark.parametrize("step", range(3))
@torch.no_grad()
def test_paper_parts_are_those_of_the_2022_code(doubles: None, head: str, step: int) -> None:
    """Each part from its formula; the raw output of any head is what a twin with the x0 head answers."""
    made, twin = model(head, unit_norm=False), model("x0", unit_norm=False)
    twin.load_state_dict(made.state_dict())
    ids, draws = some_batch()[2], Draws(1, step)

    def alpha_bar(t: float) -> float:
        return (1 - math.sqrt(t + 1e-4)) / 0.99

    clean = made.word_embedding.weight[ids]
    x0 = clean + math.sqrt(1 - alpha_bar(1 / 2000)) * draws.normal(BATCH, CANVAS, DIM)
    levels, noise = draws.levels(BATCH), draws.normal(BATCH, CANVAS, DIM)
    squares = []
    for i in range(BATCH):
        t = (math.floor(float(levels[i]) * 2000) + 1) / 2000
        assert t > 1 / 2000  # the lowest level has a test of its own
        ab_t, ab_s = alpha_bar(t), alpha_bar(t - 1 / 2000)
        x_t = math.sqrt(ab_t) * x0[i] + math.sqrt(1 - ab_t) * noise[i]
        beta = 1 - ab_t / ab_s
        mean = math.sqrt(ab_s) * beta / (1 - ab_t) * x0[i] + math.sqrt(1 - beta) * (1 - ab_s) / (1 - ab_t) * x_t
        target = {"x0": x0[i], "eps": noise[i], "mu": mean}[head]
        squares.append((target - twin(x_t[None], torch.tensor([t])).x0[0]).square())
    rounding = (x0 @ made.word_embedding.weight.T + made.rounding_bias).log_softmax(-1)
    loss, parts = Paper().loss(made, ids, Draws(1, step))
    assert parts["mse"].item() == pytest.approx(torch.stack(squares).mean().item(), rel=1e-6)
    assert float(parts["rounding"]) == pytest.approx(-float(rounding.gather(-1, ids[..., None]).mean()), rel=1e-6)
    assert float(parts["prior"]) == pytest.approx(1e-6 * float(x0.square().mean()), rel=1e-6)  # ᾱ(1), floored at 1e-6
    assert float(loss) == pytest.approx(sum(float(part) for part in parts.values()), rel=1e-9)


@pytest.mark.parametrize("head", Paper.heads)
@torch.no_grad()
def test_the_lowest_level_aims_at_the_clean_embedding(doubles: None, head: str) -> None:
    class Lowest(Draws):
        def levels(self, batch: int) -> Tensor:
            return torch.zeros(batch)

    made, ids = model(head, unit_norm=False), some_batch()[2]
    draws = Draws(0, 0)
    clean = made.embeddings[ids]
    t = torch.full((BATCH,), 1 / 2000)
    x0 = clean + made.schedule.alpha_sigma(t)[1][:, None, None] * draws.normal(BATCH, CANVAS, DIM)
    guess = made(noised(made.schedule, x0, t, draws.normal(BATCH, CANVAS, DIM)), t).x0
    parts = Paper().loss(made, ids, Lowest(0, 0))[1]
    assert float(parts["mse"]) == pytest.approx(float((clean - guess).square().mean()), rel=1e-6)


@pytest.mark.parametrize("world", [2, 4])
def test_draws_are_the_same_numbers_on_one_process_and_on_many(world: int) -> None:
    def numbers(rank: int, of: int) -> list[Tensor | bool]:
        draws = Draws(9, 17, rank, of)
        return [draws.normal(8 // of, 3, 2), draws.levels(8 // of), draws.coin(0.5), draws.normal(8 // of, 4), draws.coin(0.5)]

    whole, shares = numbers(0, 1), [numbers(rank, world) for rank in range(world)]
    for i, expected in enumerate(whole):
        if isinstance(expected, Tensor):
            assert torch.equal(torch.cat([share[i] for share in shares]), expected)  # type: ignore[misc]
        else:
            assert all(share[i] is expected for share in shares)


def test_draws_of_levels_are_stratified_and_steps_differ() -> None:
    levels = Draws(0, 3).levels(50)
    gaps = levels.sort().values.diff()
    torch.testing.assert_close(gaps, torch.full((49,), 1 / 50))
    assert ((levels >= 0) & (levels < 1)).all()
    assert not torch.equal(Draws(0, 3).normal(4), Draws(0, 4).normal(4))
    assert not torch.equal(Draws(0, 3).normal(4), Draws(1, 3).normal(4))
    coins = [Draws(0, step).coin(0.3) for step in range(400)]
    assert sum(coins) / 400 == pytest.approx(0.3, abs=0.08)


# --- words --------------------------------------------------------------------------------------------------------------------

SPLITS = {
    "The Mill isn't cheap.": ["The", "Mill", "is", "n't", "cheap", "."],
    "It's near Brown's, they're open": ["It", "'s", "near", "Brown", "'s", ",", "they", "'re", "open"],
    "It’s not, it isn’t": ["It", "’s", "not", ",", "it", "is", "n’t"],
    "costs £20-25 or £1,000.50!": ["costs", "£", "20", "-", "25", "or", "£", "1,000.50", "!"],
    "family-friendly café (1 out of 5)": ["family", "-", "friendly", "café", "(", "1", "out", "of", "5", ")"],
    "a_b  two\tspaces\nand lines": ["a", "_", "b", "two", "spaces", "and", "lines"],
    "cafe\u0301": ["café"],  # a combining accent is composed
    "": [],
}
WRITTEN = [
    "The Mill isn't cheap.",
    "It costs £20-25.",
    "A family-friendly café (5 out of 5), isn't it?",
    "It's 10% off; they're open!",
]


@pytest.mark.parametrize("text", SPLITS)
def test_texts_are_split_into_words(text: str) -> None:
    tokenizer = WordTokenizer.train([text, "x"], min_count=1)
    assert tokenizer.words(text) == SPLITS[text]
    assert tokenizer.word_ids(text) == tokenizer(text)["input_ids"]  # the fast backend splits alike
    assert tokenizer.unknown(text) == []


@pytest.mark.parametrize("text", WRITTEN)
def test_words_are_joined_as_they_were_written(text: str) -> None:
    tokenizer = WordTokenizer.train(WRITTEN, min_count=1)
    assert tokenizer.join(tokenizer.words(text)) == text


def test_no_words_are_lost_or_changed_by_writing_them() -> None:
    """Any sequence of words, sense or nonsense, is read back from its text; lengths and positions are judged by it."""
    tokenizer = WordTokenizer.train(["x"], min_count=1)
    words = "is t n't n’t 's ’re 'll . , ! % ( ) £ $ - _ 20 1,000 ' & café".split()
    for some in itertools.chain.from_iterable(itertools.product(words, repeat=n) for n in (1, 2, 3)):
        assert tokenizer.words(tokenizer.join(some)) == list(some)


def test_only_frequent_words_enter_the_vocabulary(tmp_path: Path) -> None:
    tokenizer = WordTokenizer.train(["b a b", "a c b UNK"], min_count=2)
    assert list(tokenizer.get_vocab()) and sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get) == [  # type: ignore[arg-type]
        "UNK", "PAD", "END", "b", "a",
    ]  # fmt: skip
    assert tokenizer.unknown("a c d") == ["c", "d"]
    assert tokenizer.word_ids("a c b") == [4, 0, 3]
    tokenizer.save_pretrained(tmp_path)
    again = WordTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert (again.unk_token_id, again.pad_token_id, again.eos_token_id) == (0, 1, 2)
    assert again("a c isn't")["input_ids"] == tokenizer("a c isn't")["input_ids"]


@pytest.mark.parametrize(("ids", "kept"), [([5, 6, 2, 1, 1], [5, 6]), ([2, 5], []), ([5, 1, 6], [5, 1, 6]), ([], [])])
def test_a_text_ends_before_its_first_end(ids: list[int], kept: list[int]) -> None:
    assert WordTokenizer.train(["a b c d"], min_count=1).until_end(ids) == kept


def test_targets_with_unknown_words_are_refused_with_suggestions(tiny_lm: LanguageModel) -> None:
    with pytest.raises(UsageError) as caught:
        tiny_lm.backbone.ids("cheep pubb near the river", "keyword")
    assert "'cheep'" in str(caught.value) and "cheap" in str(caught.value)
    assert "'pubb'" in str(caught.value) and "'near'" not in str(caught.value)
    with pytest.raises(UsageError, match=r"has no words"):
        tiny_lm.backbone.ids("  ", "keyword")
    assert tiny_lm.backbone.ids("near the river", "keyword") == tuple(tiny_lm.backbone.tokenizer.word_ids("near the river"))


def test_the_fingerprint_follows_words_and_table_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rust hands out the vocabulary in another order in every process; that must not count."""
    tokenizer = WordTokenizer.train(["a b c d e f g h"], min_count=1)
    expected = GaussianBackbone(model(), tokenizer).fingerprint
    shuffled = dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[0][::-1], reverse=True))
    monkeypatch.setattr(WordTokenizer, "get_vocab", lambda self: shuffled)
    assert GaussianBackbone(model(), tokenizer).fingerprint == expected
    assert GaussianBackbone(model(seed=1), tokenizer).fingerprint != expected
    monkeypatch.undo()
    for hash_of in (lambda lm: lm.fingerprint, lambda lm: lm.weights_digest):
        assert hash_of(GaussianBackbone(model().double(), tokenizer)) == hash_of(GaussianBackbone(model(), tokenizer))
        half = GaussianBackbone(model().bfloat16(), tokenizer)
        assert hash_of(half) == hash_of(GaussianBackbone(model().bfloat16().float(), tokenizer))
    assert GaussianBackbone(model(), WordTokenizer.train(["a b c d e f h g"], min_count=1)).fingerprint != expected
