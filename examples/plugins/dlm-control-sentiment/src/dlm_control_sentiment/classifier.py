"""A transformers sequence classifier that reads clean embeddings of a Diffusion-LM."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dlm_control import State, UsageError
from dlm_control.support.progress import hush

SPREAD = 1.0  # standard deviation of a word's embedding, when a clean embedding is read as a distribution over words


class Classifier:
    """A frozen classifier with its tokenizer.

    Attributes:
        labels: in the order of its outputs.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        self.labels = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
        self._tables: dict[str, Tensor] = {}

    def log_probs_of_text(self, text: str) -> Tensor:
        """(labels,), of a finished text."""
        with torch.no_grad():
            read = self.tokenizer(text, return_tensors="pt", truncation=True).to(self.model.device)
            logits: Tensor = self.model(**read).logits
        return logits[0].log_softmax(-1)

    def log_probs_of_embeddings(self, state: State) -> Tensor:
        """(batch, labels), of x0; differentiable in it.

        x0 is read as distributions over words, p(w) ∝ exp(−‖x0 − E_w‖² / 2·SPREAD²), and the classifier gets the expected
        embedding of each: the mean of the pieces that its tokenizer cuts the word into.
        """
        device = state.x0.device
        words = (-torch.cdist(state.x0, state.lm.embeddings).square() / (2 * SPREAD**2)).softmax(-1) @ self._table(state)
        ends = torch.tensor([self.tokenizer.cls_token_id, self.tokenizer.sep_token_id], device=device)
        special = self.model.get_input_embeddings()(ends)
        first = special[0].expand(len(words), 1, -1)
        places = torch.arange(words.shape[1] + 1, device=device) - state.length[:, None]  # 0: just behind the last word
        row = torch.cat([words, words[:, :1]], 1)
        row = torch.where((places == 0)[..., None], special[1], row)
        mask = torch.cat([torch.ones(len(words), 1, device=device), (places <= 0).float()], 1)
        logits: Tensor = self.model(inputs_embeds=torch.cat([first, row], 1), attention_mask=mask).logits
        return logits.log_softmax(-1)

    def _table(self, state: State) -> Tensor:
        """(vocab, width), the classifier's embedding of each word of the language model."""
        lm = state.lm
        if lm.fingerprint not in self._tables:
            embed = self.model.get_input_embeddings().weight
            pieces = [self.tokenizer(word, add_special_tokens=False)["input_ids"] for word in lm.vocabulary]
            unknown = [self.tokenizer.unk_token_id]
            self._tables[lm.fingerprint] = torch.stack([embed[ids or unknown].mean(0) for ids in pieces])
        return self._tables[lm.fingerprint]


@cache
def load_classifier(source: str, device: str = "cpu") -> Classifier:
    """The classifier of a folder or hub id, on a device.

    Raises:
        UsageError: nothing loads from there, or it has no [CLS] and [SEP].
    """
    hush()
    try:
        model = AutoModelForSequenceClassification.from_pretrained(source)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"sentiment: classifier: {source} is no transformers sequence classifier: {reason}") from None
    if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        raise UsageError(f"sentiment: classifier: the tokenizer of {source} has no [CLS] and [SEP]; use a BERT-like one")
    return Classifier(model.to(device), tokenizer)
