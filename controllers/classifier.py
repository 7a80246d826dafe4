"""The verdict of a sequence classifier that was trained on finished texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from dlm_control.control.controller import Check, Controller, State
from dlm_control.control.registry import register_controller
from dlm_control.support.errors import UsageError, suggestion
from dlm_control.support.values import Above, Between

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_control.controllers.guides.expected_embeddings import ExpectedEmbeddings
    from dlm_control.controllers.guides.text_classifier import Exchanges, TextClassifier
    from dlm_control.diffusion.backbone import Backbone

LEAST_FACTOR = 1e-3  # to which an exchange may lower the label's probability


class _Bound(NamedTuple):
    network: TextClassifier
    words: ExpectedEmbeddings | None


@register_controller("classifier")
class Classifier(Controller):
    """A transformers sequence classifier gives the text this label.

    Two ways to steer. `exchanges`: at each step the classifier reads the text as it stands, and the same text with one word
    exchanged, for the likeliest such words. It reads whole texts, cut into its own tokens. Each exchange is a chance of its own
    to earn the label or to lose it, so the energy is −log Σ over all ways in which at least one of them earns it: a function of
    the word distributions, which are conditioned on it. `gradient`: it reads the mean embedding at each place, under the word
    distributions, and the energy is −log p(label); once forward and once backward, however large it is. A word of several of
    its tokens is there the mean of their embeddings.

    The check asks the classifier that steers: judge the texts by something else before you report its figures.

    Args:
        model: a folder or hub id of any transformers sequence classifier with safe weights (`.safetensors`).
        label: one of its labels.
        probability: from which the text obeys; by default the label must be the likeliest.
        temperature: divides the classifier's logits where it reads unfinished texts; see `calibrated_temperature`.
        way: `exchanges` or `gradient`.
        exchanges: for that way, texts with one word exchanged that the classifier reads of each text at each step.
    """

    reads = "log_probs"
    unit = None

    def __init__(
        self,
        model: str,
        label: str,
        *,
        probability: Annotated[float, Between(0, 1)] | None = None,
        temperature: Annotated[float, Above(0)] = 1.0,
        way: Literal["exchanges", "gradient"] = "exchanges",
        exchanges: Annotated[int, Above(0)] = 32,
    ) -> None:
        self.model, self.label, self.probability = model, label, probability
        self.temperature, self.way, self.exchanges = temperature, way, exchanges
        try:
            labels = self._network().labels
        except UsageError as error:
            raise UsageError(f"classifier: model: {error}") from None
        if label not in labels:
            raise UsageError(f"classifier: label: unknown {label!r}{suggestion(label, labels)}; there are: {', '.join(labels)}")

    def _network(self, device: str = "cpu") -> TextClassifier:
        from dlm_control.controllers.guides.text_classifier import load_classifier

        return load_classifier(self.model, device)

    def bind(self, lm: Backbone) -> _Bound:
        """The classifier, and for `gradient` its embeddings of the model's words."""
        network, words = self._network(str(lm.device)), None
        if self.way == "gradient":
            from dlm_control.controllers.guides.expected_embeddings import ExpectedEmbeddings

            words = ExpectedEmbeddings(network, lm.vocabulary, lm.tokenizer.all_special_tokens)
        return _Bound(network, words)

    def energy(self, state: State) -> Tensor:
        import torch

        bound: _Bound = state.bound
        energies = []
        for row, words in enumerate(state.length.tolist()):  # each by itself: padding is no business of other texts
            if bound.words is not None:
                energies.append(-bound.words.log_prob(state.log_probs[row, :words], self.label, self.temperature))
                continue
            probs = state.log_probs[row, :words].detach().double().exp()
            found = bound.network.exchanges(state.lm.tokenizer, probs, self.exchanges, self.label, self.temperature)
            energies.append(_energy(state.log_probs[row], found))
        return torch.stack(energies).float()

    def final_energy(self, state: State) -> Tensor:
        rows = [row[:words].tolist() for row, words in zip(state.log_probs.argmax(-1), state.length.tolist(), strict=True)]
        texts = [state.lm.tokenizer.join(state.lm.tokenizer.convert_ids_to_tokens(row)) for row in rows]
        energy: Tensor = -state.bound.network.probabilities(texts, self.label).log()
        return energy.float().to(state.log_probs.device)

    def check(self, text: str) -> Check:
        network = self._network()
        probs = network.logits([text])[0].double().softmax(-1)
        likeliest, found = network.labels[int(probs.argmax())], float(probs[network.labels.index(self.label)])
        why = f"{likeliest}, {self.label} at {found:.0%}"
        if self.probability is None:
            return Check(1.0 if likeliest == self.label else min(found, 0.999), why)
        return Check(1.0 if found >= self.probability else found / self.probability, f"{why}, expected {self.probability:.0%}")


def _energy(log_probs: Tensor, found: Exchanges) -> Tensor:
    """−log p(label) of one text, a product over places of what is linear in each place's distribution.

    An exchange for the worse keeps a share of the label's probability, and one for the better earns it with some probability
    where the text itself has not: p = Π_i kept_i − (1 − before) · Π_i (kept and not earned)_i.

    Args:
        log_probs: (seq_len, vocab), of the text's words.
        found: what the classifier says.
    """
    import torch

    places = torch.tensor(found.places, dtype=torch.long, device=log_probs.device)
    words = torch.tensor(found.words, dtype=torch.long, device=log_probs.device)
    after = found.after.to(log_probs.device)
    kept = (after / found.before).clamp(LEAST_FACTOR, 1)
    missed = kept * (1 - ((after - found.before) / (1 - found.before)).clamp(min=0))
    probs = log_probs[places, words].double().exp()
    start = torch.ones(len(log_probs), dtype=torch.float64, device=log_probs.device)
    keeps, misses = (start.index_add(0, places, probs * (factor - 1)).log().sum() for factor in (kept, missed))
    return -(keeps.exp() - (1 - found.before) * misses.exp()).log()
