"""The controller `sentiment`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dlm_control import Check, Controller, State, UsageError, register_controller

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_control.diffusion.backbone import Backbone
    from dlm_control_sentiment.classifier import Classifier


@register_controller("sentiment")
class Sentiment(Controller):
    """A sequence classifier gives the text this label.

    The check asks the classifier that steers: give a second one a look at the texts before you report its figures.

    Args:
        label: one of the classifier's.
        classifier: a folder or hub id of any transformers sequence classifier; by default a tiny one, trained on the customer
            ratings of E2E, with the labels negative and positive.
    """

    reads = "x0"

    def __init__(self, label: str, *, classifier: str = "e2e-rating") -> None:
        self.label, self.classifier = label, classifier
        labels = self._network().labels
        if label not in labels:
            raise UsageError(f"sentiment: label: unknown {label!r}; {classifier} knows: {', '.join(labels)}")

    def _network(self, device: str = "cpu") -> Classifier:
        from dlm_control_sentiment.classifier import load_classifier

        bundled = Path(__file__).parent / "models" / self.classifier
        return load_classifier(str(bundled) if bundled.is_dir() else self.classifier, device)

    def bind(self, lm: Backbone) -> Classifier:
        return self._network(str(lm.device))

    def energy(self, state: State) -> Tensor:
        return -state.bound.log_probs_of_embeddings(state)[:, state.bound.labels.index(self.label)]

    def check(self, text: str) -> Check:
        network = self._network()
        log_probs = network.log_probs_of_text(text)
        likeliest = network.labels[int(log_probs.argmax())]
        share = float(log_probs[network.labels.index(self.label)].exp())
        return Check(float(likeliest == self.label), f"{likeliest}, {self.label} at {share:.0%}")
