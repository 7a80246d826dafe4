"""The classifier control: its energy by hand, its texts, and its temperature."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from dlm_control import Control, Controller, LanguageModel, UsageError, load
from dlm_control.controllers.classifier import Classifier, _energy
from dlm_control.controllers.guides.expected_embeddings import ExpectedEmbeddings
from dlm_control.controllers.guides.text_classifier import Exchanges, calibrated_temperature, load_classifier
from dlm_control.controllers.length import Length

RATING = str(Path(__file__).parents[1] / "examples" / "sentiment" / "e2e-rating")


def energy(probs: torch.Tensor, before: float, *exchanges: tuple[int, int, float]) -> float:
    places, words, after = zip(*exchanges, strict=True)
    return math.exp(-float(_energy(probs.log(), Exchanges(before, list(places), list(words), torch.tensor(after)))))


def test_one_exchange_is_an_expectation() -> None:
    """Of two texts, the one before and the one after, by the word's probability."""
    probs = torch.tensor([[0.75, 0.25]])
    assert energy(probs, 0.2, (0, 1, 0.9)) == pytest.approx(0.75 * 0.2 + 0.25 * 0.9)
    assert energy(probs, 0.8, (0, 1, 0.1)) == pytest.approx(0.75 * 0.8 + 0.25 * 0.1)


def test_several_exchanges_are_chances_of_their_own() -> None:
    """Two words that each earn the label for certain: it is missed where both do not come, and the text has not got it."""
    probs = torch.tensor([[0.7, 0.3], [0.6, 0.4]])
    certain = (0, 1, 1.0), (1, 1, 1.0)
    assert energy(probs, 0.1, *certain) == pytest.approx(1 - 0.9 * 0.7 * 0.6)
    losing = energy(probs, 0.5, (0, 1, 0.05), (1, 1, 0.25))
    assert losing == pytest.approx(0.5 * (0.7 + 0.3 * 0.1) * (0.6 + 0.4 * 0.5))


def test_exchanges_read_whole_texts(e2e: LanguageModel) -> None:
    """Subwords are the classifier's business: each exchange is a text of its own, cut as the classifier cuts texts."""
    network, lm = load_classifier(RATING), e2e.backbone
    ids = torch.tensor(lm.ids("The Mill is a pub with a customer rating of 1 out of 5 .", "text"))
    five, one = lm.ids("5 1", "words")
    probs = torch.full((len(ids), len(lm.vocabulary)), 1e-9).scatter(-1, ids[:, None], 0.9)
    probs[ids.tolist().index(one), five] = 0.1
    found = network.exchanges(lm.tokenizer, probs, 8, "positive", 1.0)
    assert (found.places, found.words) == ([ids.tolist().index(one)], [five])
    texts = [f"The Mill is a pub with a customer rating of {number} out of 5." for number in (1, 5)]
    torch.testing.assert_close(
        torch.tensor([found.before, float(found.after[0])]).double(), network.probabilities(texts, "positive")
    )
    assert found.before < 0.2 < float(found.after[0])


def test_the_gradient_reads_one_token_words_as_the_text_and_others_as_the_mean_of_their_tokens(e2e: LanguageModel) -> None:
    network, lm = load_classifier(RATING), e2e.backbone
    words = ExpectedEmbeddings(network, lm.vocabulary, lm.tokenizer.all_special_tokens)
    tokens = network.model.get_input_embeddings().weight
    for word, i in lm.tokenizer.get_vocab().items():
        ids = [] if word in lm.tokenizer.all_special_tokens else network.tokenizer(word, add_special_tokens=False)["input_ids"]
        torch.testing.assert_close(words.table[i], tokens[ids].mean(0) if ids else torch.zeros_like(tokens[0]))
    text = "The pub is cheap ."
    assert len(network.tokenizer(text, add_special_tokens=False)["input_ids"]) == 5  # as many as words
    certain = torch.full((5, len(lm.vocabulary)), -60.0).scatter(-1, torch.tensor(lm.ids(text, "text"))[:, None], 0.0)
    found = words.log_prob(certain, "positive", 1.0).exp()
    torch.testing.assert_close(found.double()[None], network.probabilities([text], "positive"), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("model", "way"), [("e2e", "exchanges"), ("e2e", "gradient"), ("e2e-masked", "exchanges")])
def test_it_steers(model: str, way: Literal["exchanges", "gradient"]) -> None:
    lm = load(model)

    def obeying(weight: float) -> int:
        controls: list[Controller | Control] = [Control("rating", Classifier(RATING, "positive", way=way), weight), Length(14)]
        return sum(sample.checks["rating"].passed for sample in lm.generate(controls, 6, seed=3, preset="fast", steps=12))

    assert obeying(2.0 if way == "exchanges" else 8.0) >= obeying(0.0) + 2


def test_the_temperature_is_of_the_models_own_drafts(tiny_lm: LanguageModel) -> None:
    network = load_classifier(RATING)
    assert 0.1 < calibrated_temperature(tiny_lm, network, num_texts=2) < 60


def test_a_label_may_be_wanted_at_a_probability() -> None:
    text = "The Mill is a pub with a customer rating of 5 out of 5."
    found = float(load_classifier(RATING).probabilities([text], "positive")[0])
    assert Classifier(RATING, "positive", probability=found - 0.01).check(text).passed
    strict = Classifier(RATING, "negative", probability=0.99).check(text)
    assert not strict.passed and "negative at" in strict.why and "expected 99%" in strict.why


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"classifier: model: .*neither bundled nor a folder"):
        Classifier("nothing-there", "positive")
    with pytest.raises(UsageError, match="classifier: label: unknown 'posetive', did you mean 'positive'"):
        Classifier(RATING, "posetive")
    with pytest.raises(UsageError, match="is no transformers sequence classifier"):
        Classifier("e2e", "positive")
    small: dict[str, Any] = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    BertForSequenceClassification(BertConfig(**small)).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"classifier: model: .* has no tokenizer"):
        Classifier(str(tmp_path), "LABEL_0")
