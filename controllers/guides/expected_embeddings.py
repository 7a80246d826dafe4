"""A sequence classifier that reads the mean of what may stand at each place, and so has a gradient by word distributions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from dlm_control.controllers.guides.text_classifier import TextClassifier


class ExpectedEmbeddings:
    """A classifier with an embedding for each word of a language model.

    A word is cut as the classifier cuts it behind another one. If it is several of the classifier's tokens, it has the mean of
    their embeddings, so that every word takes one place, whatever else may stand there. The classifier's own signs come before
    and behind the text.

    Args:
        classifier: of transformers; it takes `inputs_embeds`.
        vocabulary: the words of the language model.
        special: those that stand in no text; their embedding is 0.
    """

    def __init__(self, classifier: TextClassifier, vocabulary: Sequence[str], special: Collection[str]) -> None:
        self.classifier = classifier
        tokens, cut = classifier.model.get_input_embeddings().weight.detach(), classifier.tokenizer
        [start] = cut(["a"], add_special_tokens=False)["input_ids"]
        pieces = [
            each[len(start) :] for each in cut([f"a {word}" for word in vocabulary], add_special_tokens=False)["input_ids"]
        ]
        nothing = tokens.new_zeros(tokens.shape[1])
        kept = [ids if word not in special else [] for word, ids in zip(vocabulary, pieces, strict=True)]
        self.table = torch.stack([tokens[ids].mean(0) if ids else nothing for ids in kept])
        [whole] = cut(["a"])["input_ids"]
        at = next(i for i in range(len(whole)) if whole[i : i + len(start)] == start)
        self.before, self.behind = tokens[whole[:at]], tokens[whole[at + len(start) :]]

    def log_prob(self, log_probs: Tensor, label: str, temperature: float) -> Tensor:
        """log p(label) of one text at the expected embeddings, a scalar, differentiable.

        Args:
            log_probs: (words, vocab), of the text's words.
            label: one of the classifier's.
            temperature: divides its logits.
        """
        expected = log_probs.exp() @ self.table
        logits = self.classifier.model(inputs_embeds=torch.cat([self.before, expected, self.behind])[None]).logits[0]
        found: Tensor = (logits.float() / temperature).log_softmax(-1)[self.classifier.labels.index(label)]
        return found
