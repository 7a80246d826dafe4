"""Models from outside: whole words of subword vocabularies, and the samplers that write with them under our controls."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import outside_models as outside
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedTokenizerFast

from dlm_control import Control, Controller, UsageError, steer
from dlm_control.control.controller import Check
from dlm_control.controllers.infill import Infill
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.pattern import Pattern
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.diffusion.backbone import Latents
from dlm_control.outside.backbone import OutsideBackbone
from dlm_control.outside.steering import Steering
from dlm_control.outside.whole_words import WholeWords
from dlm_control.outside.wrap import ControlLogitsProcessor
from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.guidance import Group, TiltGuidance

CONTROLS: list[Controller] = [Length(at_least=9), Keyword("riverside"), Pattern("The * .")]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return outside.byte_pairs()


@pytest.fixture(scope="module")
def network(tokenizer: PreTrainedTokenizerFast) -> Any:
    return outside.masked(len(tokenizer))


def passed(steering: Steering, text: str | list[str]) -> bool:
    assert isinstance(text, str)
    return all(check.passed for check in steering.check(text).values())


def masks(tokenizer: PreTrainedTokenizerFast, text: str, number: int, rows: int = 1) -> tuple[Tensor, int]:
    """(rows, seq_len) tokens of a text and then masks, and how many come before them."""
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    return torch.tensor([[*prompt, *[tokenizer.mask_token_id] * number]]).repeat(rows, 1), len(prompt)


@pytest.mark.parametrize("kind", outside.TOKENIZERS)
def test_a_text_of_whole_words_is_read_as_its_words(kind: str) -> None:
    tokenizer = outside.TOKENIZERS[kind]()
    words = WholeWords(tokenizer)
    special = words.words.all_special_tokens
    known = sorted(word for word in words.words.get_vocab() if word not in special and "'" not in word)  # that glues
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0)).tolist()
    text = [known[i] for i in order] + [known[i] for i in reversed(order)]
    ids = words.words.convert_tokens_to_ids(text)
    tokens = words.token_ids(torch.tensor([ids]))
    assert words.words.words(str(tokenizer.decode(tokens[0]))) == text
    assert words.word_ids(tokens).tolist() == [ids]


def test_what_is_a_whole_word(tokenizer: PreTrainedTokenizerFast) -> None:
    words = WholeWords(tokenizer)
    known = {*words.words.get_vocab()}
    assert {"riverside", "near", "Golden", "'s", ".", ","} <= known
    assert not {"\ufffd", "<eos>", "erside"} & known
    sentence = tokenizer("The pub near the riverside.", add_special_tokens=False)["input_ids"]
    read = words.word_ids(torch.tensor([sentence]))[0].tolist()
    assert words.words.convert_ids_to_tokens(read) == ["The", "pub", "near", "the", "riverside", "."]
    glued = tokenizer.convert_tokens_to_ids("The")  # without a space: a word at the first position only
    assert words.word_ids(torch.tensor([[glued, glued]])).tolist() == [[read[0], -1]]
    assert {*WholeWords(tokenizer, lexicon={"pub", "."}).words.get_vocab()} == {"UNK", "PAD", "END", "MASK", "pub", "."}


def test_a_word_of_several_tokens_has_their_probability_in_sum(tokenizer: PreTrainedTokenizerFast) -> None:
    words, full_stop = WholeWords(tokenizer), tokenizer.get_vocab()["."]
    logits = torch.randn(1, 2, len(tokenizer), generator=torch.Generator().manual_seed(0))
    spaced = len(tokenizer)
    tokenizer_with = outside.byte_pairs()
    tokenizer_with.add_tokens([" ."])
    both = WholeWords(tokenizer_with)
    logits = torch.cat([logits, torch.full((1, 2, 1), 1.5)], -1)
    probs = logits.softmax(-1)
    dot = both.words.get_vocab()["."]
    expected = probs[0, 1, full_stop] + probs[0, 1, spaced]
    torch.testing.assert_close(both.log_probs(logits, 3)[0, 1, dot].exp(), expected)
    table = torch.randn(1, 2, len(both.words))
    assert both.of_tokens(table, spaced + 1, 3, 0.0)[0, 0, [full_stop, spaced]].tolist() == [table[0, 0, dot].item()] * 2
    assert words.of_tokens(table[..., : len(words.words)], spaced, 3, -7.0)[0, 0, tokenizer.eos_token_id] != -7.0


def test_steered_logits_are_our_samplers(network: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Open positions: the distribution of words is that of the engine's own guidance on the same network and state."""
    tokens, prompt = masks(tokenizer, "Write :", 12)
    given: dict[str, Controller] = {"keyword": Keyword("riverside"), "length": Length(11), "pattern": Pattern("* cheap * .")}
    controls = [Control(name, controller) for name, controller in given.items()]
    steering = Steering(network, tokenizer, controls, 12, prompt)
    words = steering.words
    tokens[0, prompt + 1] = words.token_ids(torch.tensor([[0, words.words.get_vocab()["near"]]]))[0, 1]
    lm = OutsideBackbone(network, words, 12, tokens[0, :prompt])
    process = lm.process(12)
    allowed, length = steering._rows(1, lm.device)
    z = words.word_ids(tokens[:, prompt:])
    guidance = TiltGuidance(lm, process, [Group([control.bind(lm) for control in controls], [0])])
    guided, _ = guidance.predict(Latents(z, allowed, length), 10 / 11)
    logits = network(input_ids=tokens).logits
    steered = steering.on_sequence(tokens, logits)[:, prompt:]
    open_ = (z == words.mask)[0]
    ours, theirs = guided.log_probs.exp()[0, open_], words.log_probs(steered, 0).exp()[0, open_]
    theirs[:, words.words.pad_token_id] = 0.0  # PAD is the token of END here
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(logits[:, :prompt], steering.on_sequence(tokens, logits)[:, :prompt])


def test_what_a_control_needs_is_not_edited_away(network: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Where the word that is asked for stands, every other is closed, unless it stands twice; elsewhere edits are open."""
    tokens, prompt = masks(tokenizer, "Write :", 8)
    text = tokenizer("The cheap pub near riverside.", add_special_tokens=False)["input_ids"]
    tokens[0, prompt : prompt + 6] = torch.tensor(text)
    tokens[0, prompt + 6 :] = tokenizer.eos_token_id
    twice = tokens.clone()
    twice[0, prompt + 1] = text[4]

    def choices(tokens: Tensor, edits: bool) -> list[int]:
        steering = Steering(network, tokenizer, [Keyword("riverside"), Length(6)], 8, prompt, edits=edits)
        steered = steering.on_sequence(tokens, network(input_ids=tokens).logits)[0, prompt:]
        opened = steered > torch.finfo(steered.dtype).min
        assert opened.gather(1, tokens[0, prompt:, None]).all()
        return [int(number) for number in opened.sum(-1)]

    assert choices(tokens, False) == [2, *[1] * 7]  # the first word with a space before it, or without
    once, again = choices(tokens, True), choices(twice, True)
    assert once[4] == once[6] == once[7] == 1 and min(once[:4] + once[5:6]) > 10
    assert min(again[:6]) > 10


def test_a_shift_is_undone(network: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    tokens, prompt = masks(tokenizer, "Write :", 12, rows=2)
    plain = steer(network, tokenizer, CONTROLS, gen_length=12, prompt_length=prompt)
    shifted = steer(outside.Shifted(network), tokenizer, CONTROLS, gen_length=12, prompt_length=prompt, shifted=True)
    torch.testing.assert_close(shifted(tokens)[:, prompt - 1 : -1], plain(tokens).logits[:, prompt:])
    with pytest.raises(UsageError, match="give a prompt of one token or more"):
        steer(outside.Shifted(network), tokenizer, CONTROLS, gen_length=12, shifted=True)


def test_the_loop_of_dream_takes_the_hook(network: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    tokens, prompt = masks(tokenizer, "Write :", 14, rows=4)
    steering = Steering(network, tokenizer, CONTROLS, 14, prompt)
    assert tokenizer.mask_token_id is not None
    torch.manual_seed(0)
    written = outside.dream_loop(outside.Shifted(network), tokens, tokenizer.mask_token_id, steering.hook)
    texts = [tokenizer.decode(row, skip_special_tokens=True) for row in written[:, prompt:]]
    assert all(passed(steering, text) for text in texts) and len({*texts}) == 4


def test_a_mask_outside_the_vocabulary(tokenizer: PreTrainedTokenizerFast) -> None:
    size = len(tokenizer)
    network, words = outside.MaskOutside(size), WholeWords(tokenizer, mask_token_id=size)
    model = steer(network, words, CONTROLS, gen_length=12)
    tokens = torch.full((3, 12), size)
    torch.manual_seed(0)
    for place in torch.randperm(12).tolist():  # as MDLM: one position at a time, and what stands is certain
        drawn = torch.distributions.Categorical(logits=model(tokens, sigma=torch.tensor(0.5))).sample()
        tokens[:, place] = drawn[:, place]
    assert all(passed(model.steering, tokenizer.decode(row, skip_special_tokens=True)) for row in tokens)


@pytest.mark.parametrize("kind", outside.TOKENIZERS)
def test_our_sampler_writes_with_it(kind: str, tmp_path: Path) -> None:
    tokenizer = outside.TOKENIZERS[kind]()
    words = WholeWords(tokenizer)
    prompt = torch.tensor(tokenizer("the .", add_special_tokens=False)["input_ids"])
    lm = LanguageModel(OutsideBackbone(outside.masked(len(tokenizer)), words, 16, prompt))
    with pytest.raises(UsageError, match="is saved with its own library"):
        lm.save_pretrained(tmp_path / "saved")
    assert lm.backbone.embeddings.shape == (len(words.words), 32) and "parameters" in repr(lm)
    for sample in lm.generate([Length(9), Keyword("is"), Pattern("* .")], 3, steps=9, candidates=1):
        assert sample.passed and len(sample.words) == 9


@pytest.mark.parametrize(
    ("block", "prompt"), [pytest.param(16, "", marks=pytest.mark.slow), (4, ""), (8, "Write about a pub :")]
)
def test_llada2_writes_under_control(block: int, prompt: str, network: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """diffusers' pipeline as it is, one token a step, whole and in blocks."""
    diffusers = pytest.importorskip("diffusers")
    ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]] * 3).long().reshape(3, -1)
    generator = torch.Generator().manual_seed(0)
    for editing in (None, 0.5):
        edits = editing is not None
        model = steer(network, tokenizer, CONTROLS, gen_length=16, prompt_length=ids.shape[1], edits=edits)
        pipeline = diffusers.LLaDA2Pipeline(model, diffusers.BlockRefinementScheduler(), tokenizer)
        pipeline.set_progress_bar_config(disable=True)
        done = pipeline(
            input_ids=ids, gen_length=16, block_length=block, num_inference_steps=block, threshold=1.1, temperature=1.0,
            editing_threshold=editing, generator=generator,
        )  # fmt: skip
        assert [passed(model.steering, text) for text in done.texts] == [True] * 3, done.texts


@pytest.mark.parametrize(("length", "canvases"), [(10, 1), (20, 2)])
def test_diffusion_gemma_writes_under_control(length: int, canvases: int, tokenizer: PreTrainedTokenizerFast) -> None:
    """transformers' own loop, from uniform noise."""
    model, prompt = outside.gemma(len(tokenizer), 16), torch.tensor([tokenizer("Write :")["input_ids"]] * 3)
    steering = Steering(model, tokenizer, [Length(length), Keyword("riverside")], 16 * canvases, prompt.shape[1])
    torch.manual_seed(0)
    done = model.generate(
        prompt, max_new_tokens=16 * canvases, max_denoising_steps=8, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id, logits_processor=LogitsProcessorList([ControlLogitsProcessor(steering, 8)]),
    )  # fmt: skip
    texts = [tokenizer.decode(row, skip_special_tokens=True) for row in done.sequences[:, prompt.shape[1] :]]
    assert [passed(steering, text) for text in texts] == [True] * 3, texts


class Shouting(Controller):
    """A black box."""

    def check(self, text: str) -> Check:
        return Check(float(text.isupper()), "not in capitals")


class Clear(Controller):
    """Reads clean embeddings."""

    reads = "x0"

    def energy(self, state: Any) -> Tensor:
        energy: Tensor = state.x0.square().sum((1, 2))
        return energy

    def check(self, text: str) -> Check:
        return Check(1.0, "")


def test_what_cannot_work_is_named(network: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    faulty: list[Any] = [
        Keyword("riverbank"),
        Control("loud", Shouting()),
        PartsOfSpeech("DET NOUN"),
        Keyword("Vaults", position=0),
    ]
    with pytest.raises(UsageError) as raised:
        steer(network, tokenizer, faulty, gen_length=12)
    report = str(raised.value)
    assert re.search(r"keyword#1: the tokenizer writes 'riverbank' as Ġ\S+ \+ .*, and controls act on words of one", report)
    assert "loud: acts by checks of whole texts, which only our sampler asks for; leave it out" in report
    assert "pos: " in report and "keyword#2" in report
    with pytest.raises(UsageError, match="1 to 11 words"):
        steer(network, tokenizer, [Length(12)], gen_length=12)
    with pytest.raises(UsageError, match="gen_length"):
        steer(network, tokenizer, [Length(3)], gen_length=0)
    model = steer(network, tokenizer, [Length(3)], gen_length=8)
    with pytest.raises(UsageError, match="position 0 of text 0 holds 'Ġ', which is no whole word"):
        tokens, _ = masks(tokenizer, " ", 7)
        model(tokens)
    with pytest.raises(UsageError, match="the network returns a dict"):
        steer(Returns({}), tokenizer, [], gen_length=8)(tokens)
    with pytest.raises(UsageError, match="one for each of"):
        steer(Returns(torch.zeros(1, 1, 9)), tokenizer, [], gen_length=8)(tokens)
    with pytest.raises(UsageError, match="is loaded with its own library"):
        OutsideBackbone.load(None, "llada")  # type: ignore[arg-type]


class Returns(torch.nn.Module):
    """Of one parameter and a fixed answer."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.weight, self.answer = torch.nn.Parameter(torch.zeros(1)), answer

    def forward(self, input_ids: Tensor) -> object:
        return self.answer


def test_tokenizers_without_whole_words_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    letters = Tokenizer(models.WordLevel({"<eos>": 0, "Q": 1}, unk_token="<eos>"))
    letters.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(UsageError, match="has no eos_token"):
        WholeWords(PreTrainedTokenizerFast(tokenizer_object=letters))
    with pytest.raises(UsageError, match="it has no whole words"):
        WholeWords(PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<eos>"))


def test_embeddings_are_there_for_energies_that_read_them(network: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    tokens, prompt = masks(tokenizer, "Write :", 8)
    model = steer(network, tokenizer, [Clear(), Infill("The [*]")], gen_length=8, prompt_length=prompt)
    assert torch.isfinite(model(tokens).logits).all() and model.config is network.config and model.dtype == torch.float32
