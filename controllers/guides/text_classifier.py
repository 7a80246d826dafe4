"""A transformers sequence classifier, and what it says of texts in which one word is exchanged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dlm_control.pipeline import LanguageModel
from dlm_control.sampling.trace import Trace
from dlm_control.support.errors import UsageError
from dlm_control.support.hub import model_folder
from dlm_control.support.progress import hush

_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
LEAST = 1e-6  # of a probability: no text is beyond hope, none certain


class Exchanges(NamedTuple):
    """p(label) of a text, and of the texts that each differ from it in one word.

    Attributes:
        before: of the text itself.
        places, words: (exchanges,), where which word takes the place of another.
        after: (exchanges,), of each text that this makes.
    """

    before: float
    places: list[int]
    words: list[int]
    after: Tensor


class TextClassifier:
    """A frozen classifier with its tokenizer. It reads texts, so that a word may be any number of its tokens.

    Attributes:
        labels: in the order of its outputs.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        self.labels = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]

    @torch.no_grad()
    def logits(self, texts: Sequence[str]) -> Tensor:
        """(texts, labels) float32, on the CPU."""
        read = self.tokenizer(list(texts), return_tensors="pt", padding=True, truncation=True).to(self.model.device)
        found: Tensor = self.model(**read).logits.float().cpu()
        return found

    def probabilities(self, texts: Sequence[str], label: str, temperature: float = 1.0) -> Tensor:
        """(texts,) float64, p(label | text).

        Args:
            texts: as people write them.
            label: one of the classifier's.
            temperature: divides its logits.
        """
        probs = (self.logits(texts).double() / temperature).softmax(-1)[:, self.labels.index(label)]
        return probs.clamp(LEAST, 1 - LEAST)

    def exchanges(self, tokenizer: Any, probs: Tensor, most: int, label: str, temperature: float) -> Exchanges:
        """What the label's probability becomes when one word of the likeliest text is exchanged for another likely one.

        Args:
            tokenizer: of the language model.
            probs: (words, vocab), its distributions of one text's words.
            most: exchanges, those with the likeliest words.
            label, temperature: as in `probabilities`.
        """
        draft = probs.argmax(-1)
        others = probs.scatter(-1, draft[:, None], 0.0).flatten()
        likeliest = others.topk(min(most, len(others)))
        chosen = likeliest.indices[: max(1, int((likeliest.values > LEAST).sum()))]
        places, words = (chosen // probs.shape[1]).tolist(), (chosen % probs.shape[1]).tolist()
        row = tokenizer.convert_ids_to_tokens(draft.tolist())
        new = zip(places, tokenizer.convert_ids_to_tokens(words), strict=True)
        texts = [tokenizer.join(row), *(tokenizer.join([*row[:at], word, *row[at + 1 :]]) for at, word in new)]
        found = self.probabilities(texts, label, temperature)
        return Exchanges(float(found[0]), places, words, found[1:])


@cache
def load_classifier(source: str, device: str = "cpu") -> TextClassifier:
    """The classifier of a folder or hub id, on a device.

    Raises:
        UsageError: nothing loads from there.
    """
    hush()
    folder = model_folder(source)
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"{source} is no transformers sequence classifier: {reason}") from None
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise UsageError(f"{source} has no tokenizer; save it there with its `save_pretrained`")
    if report["missing_keys"]:
        raise UsageError(f"{source} is no sequence classifier: it has no weights {sorted(report['missing_keys'])[0]}")
    if tokenizer.pad_token is None:
        raise UsageError(f"{source}: its tokenizer has no pad token, which texts of several lengths need; set one and save it")
    return TextClassifier(model.to(device), tokenizer)


def calibrated_temperature(lm: LanguageModel, classifier: TextClassifier, num_texts: int = 64, seed: int = 0) -> float:
    """How far a classifier's verdict on unfinished texts can be trusted: by what its logits are to be divided.

    The model writes texts freely. The temperature is the one under which the verdicts on all drafts of a text best foretell the
    verdict on the text itself, by cross-entropy (Guo et al. 2017).

    Args:
        lm: the model that is to be steered.
        classifier: that is to steer it.
        num_texts: to write.
        seed: of the texts.
    """
    from scipy.optimize import minimize_scalar

    trace = Trace()
    samples = lm.generate((), num_texts, seed, "fast", callback_on_step=trace)
    verdicts = classifier.logits([sample.text for sample in samples]).argmax(-1).tolist()
    of = {sample.index: verdict for sample, verdict in zip(samples, verdicts, strict=True)}
    drafts = [(draft.text, of[index]) for (index, _), steps in trace.drafts.items() for draft in steps.values()]
    logits, labels = classifier.logits([text for text, _ in drafts]), torch.tensor([label for _, label in drafts])

    def surprise(log_temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / math.exp(log_temperature), labels))

    return float(math.exp(minimize_scalar(surprise, bounds=(-2, 4), method="bounded").x))
