"""A masked model whose joint distribution is known: what it samples, alone and under controls, against enumeration."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from dlm_control import Check, Control, Controller, State
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.diffusion.masked import MaskedBackbone
from dlm_control.pipeline import LanguageModel
from dlm_control.text.tokenizer import WordTokenizer

EXACT_ORDERS = ("random", "left_to_right", "right_to_left")
WORDS, PLACES, DRAWN = 3, 3, 1500
SENTENCES = list(itertools.product(range(WORDS), repeat=PLACES))
PLAIN: dict[str, Any] = {"candidates": 1, "temperature": 1.0, "interval": (0.0, 1.0)}


class Enumerated(PreTrainedModel):
    """Answers with the exact conditionals of a joint distribution of sentences of three words out of three."""

    config_class = BertConfig
    joint: Tensor
    sentences: Tensor

    def __init__(self, joint: Tensor, first: int, size: int) -> None:
        given: Any = {"vocab_size": size, "max_position_embeddings": PLACES + 1, "length_counts": [0] * PLACES + [1]}
        super().__init__(BertConfig(**given))
        self.first, self.table = first, torch.nn.Embedding(size, 4)
        self.register_buffer("joint", joint.flatten())
        self.register_buffer("sentences", torch.tensor(SENTENCES) + first)

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.table

    def forward(self, input_ids: Tensor) -> MaskedLMOutput:
        words = input_ids[:, None, :PLACES]
        known = (words >= self.first) & (words < self.first + WORDS)
        fits = (torch.eq(words, self.sentences) | ~known).all(-1) * self.joint  # (batch, sentences)
        logits = torch.full((*input_ids.shape, self.table.num_embeddings), -30.0)
        for word in range(WORDS):
            holds = torch.eq(self.sentences, self.first + word).float()
            logits[:, :PLACES, self.first + word] = ((fits @ holds) / fits.sum(-1, keepdim=True)).clamp(min=1e-12).log()
        return MaskedLMOutput(logits=logits)


def enumerated(joint: Tensor) -> LanguageModel:
    tokenizer = WordTokenizer.train(["a b c"], min_count=1, mask=True)
    model = Enumerated(joint, tokenizer.word_ids("a")[0], len(tokenizer))
    return LanguageModel(MaskedBackbone(model, tokenizer, "enumerated"))


def correlated() -> Tensor:
    return (
        torch.randn(WORDS, WORDS, WORDS, generator=torch.Generator().manual_seed(4)).flatten().softmax(0).view([WORDS] * PLACES)
    )


def independent() -> Tensor:
    marginals = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.4, 0.25, 0.35]])
    return torch.einsum("i,j,k->ijk", *marginals)


def given(joint: Tensor, evidence: Callable[[tuple[int, ...]], float]) -> Tensor:
    """The enumerated posterior, (27,)."""
    weights = joint.flatten() * torch.tensor([evidence(sentence) for sentence in SENTENCES])
    return weights / weights.sum()


def frequencies(lm: LanguageModel, controls: Sequence[Control | Controller] = (), **changes: Any) -> Tensor:
    """Of the 27 sentences among texts of three words, (27,)."""
    settings = {**PLAIN, "steps": PLACES, "batch_size": 500, **changes}
    samples = lm.generate([Length(PLACES), *controls], DRAWN, **settings)
    counts = Counter(tuple("abc".index(word) for word in sample.words) for sample in samples)
    return torch.tensor([counts[sentence] / DRAWN for sentence in SENTENCES])


def chi_square(found: Tensor, expected: Tensor) -> float:
    """Of frequencies; nothing that cannot be may have come."""
    possible = expected > 0
    assert found[~possible].sum() == 0
    return float(DRAWN * ((found - expected).square() / expected)[possible].sum())


def distance(found: Tensor, expected: Tensor) -> float:
    """Total variation; two samples of one distribution differ by about 0.05 at this size."""
    return float((found - expected).abs().sum() / 2)


class First(Controller):
    """Soft evidence about the first word."""

    reads = "log_probs"
    likelihood = (0.1, 0.3, 0.9)

    def energy(self, state: State) -> Tensor:
        first = state.lm.ids("a", "first")[0]
        probs = state.log_probs.exp()[:, 0, first : first + WORDS]
        return -(probs @ torch.tensor(self.likelihood)).log()

    def check(self, text: str) -> Check:
        return Check(1.0, "")


@pytest.mark.parametrize("order", EXACT_ORDERS)
def test_unguided_texts_have_the_models_distribution(order: str) -> None:
    """Exact with a call a word: the 99.9 % point of chi-square at 26 degrees of freedom is 54."""
    joint = correlated()
    assert chi_square(frequencies(enumerated(joint), order=order), joint.flatten()) < 54


def test_one_call_draws_all_words_apart() -> None:
    joint = correlated()
    apart = torch.einsum("i,j,k->ijk", joint.sum((1, 2)), joint.sum((0, 2)), joint.sum((0, 1))).flatten()
    found = frequencies(enumerated(joint), order="confidence", steps=1)
    assert chi_square(found, apart) < 54 and chi_square(found, joint.flatten()) > 200


def test_confidence_prefers_likely_texts() -> None:
    """Which word settles depends on what was drawn there, so this order is no sample of the joint distribution."""
    joint = correlated().flatten()
    found = frequencies(enumerated(correlated()), order="confidence")
    assert chi_square(found, joint) > 54
    assert (found * joint.log()).sum() > (joint * joint.log()).sum() + 0.3  # nats


@pytest.mark.parametrize("order", EXACT_ORDERS)
def test_a_word_at_a_position_gives_the_posterior(order: str) -> None:
    """Exact: what is given stands from the start, and conditionals do the rest."""
    joint = correlated()
    posterior = given(joint, lambda sentence: float(sentence[1] == 2))
    found = frequencies(enumerated(joint), [Keyword("c", position=1)], order=order, steps=PLACES - 1)
    assert chi_square(found, posterior) < 26.1  # 8 degrees of freedom


@pytest.mark.parametrize("order", EXACT_ORDERS)
def test_a_keyword_anywhere_gives_the_posterior(order: str) -> None:
    """Exact where the words are independent, as the energy takes what is still open to be. Else the texts obey, and their
    frequencies are off: by less than 0.22 in total variation here, where a model left alone is off by 0.43."""
    at_all = given(independent(), lambda sentence: float(1 in sentence))
    assert chi_square(frequencies(enumerated(independent()), [Keyword("b")], order=order), at_all) < 54
    of_joint = given(correlated(), lambda sentence: float(1 in sentence))
    found = frequencies(enumerated(correlated()), [Keyword("b")], order=order)
    assert found[of_joint == 0].sum() == 0
    assert distance(found, of_joint) < 0.22 < 0.43 < distance(of_joint, correlated().flatten())


def test_soft_evidence_about_a_word_gives_the_posterior_where_that_word_settles_first() -> None:
    """Exact from the left: the evidence is of the first word alone, and the others follow from it. From the right, the others
    settle before they could learn of it."""
    joint = correlated()
    posterior = given(joint, lambda sentence: First.likelihood[sentence[0]])
    lm = enumerated(joint)
    assert chi_square(frequencies(lm, [First()], order="left_to_right"), posterior) < 54
    late = frequencies(lm, [First()], order="right_to_left")
    assert chi_square(late, posterior) > 54 and distance(late, posterior) < distance(joint.flatten(), posterior)
    doubled = given(joint, lambda sentence: First.likelihood[sentence[0]] ** 2)
    assert chi_square(frequencies(lm, [Control("first", First(), weight=2)], order="left_to_right"), doubled) < 54


def test_without_chance_an_order_is_greedy_decoding() -> None:
    joint = correlated()
    first = joint.sum((1, 2)).argmax()
    second = joint[first].sum(1).argmax()
    third = joint[first, second].argmax()
    greedy = SENTENCES.index((int(first), int(second), int(third)))
    assert frequencies(enumerated(joint), order="left_to_right", temperature=1e-3)[greedy] == 1
