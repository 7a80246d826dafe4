"""What a text is about, in free words."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dlm_control.control.controller import Check, Controller, State
from dlm_control.control.registry import register_controller
from dlm_control.support.errors import UsageError
from dlm_control.support.values import Bound

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_control.diffusion.backbone import Backbone

NATS = 0.8  # that a word is raised at full noise for each standard deviation by which it is nearer to the topic than words are
_CORPUS = Path(__file__).parent / "models" / "topic-corpus" / "e2e.txt"
_SHOWN = 8  # words


@register_controller("topic")
class Topic(Controller):
    """What the text is about, in free words, such as "families with children".

    Every word of the vocabulary has a score, how near MiniLM sees it to the topic, and words above the mean are raised by it.
    The push fades with the noise: it says early what the text is to be about, and leaves the wording to the model.

    The check asks for another thing, the whole text's nearness to the topic, against that of the sentences of a corpus.

    Args:
        about: the topic.
        at_least: by how many standard deviations of the corpus' sentences the text must be nearer than they are in the mean.
        corpus: a file of sentences, one a line, of the kind that the model writes; by default of the E2E data.
    """

    reads = "log_probs"
    calibrated = False

    def __init__(
        self,
        about: Annotated[str, Bound("of at least one letter", lambda text: bool(text.strip()))],
        *,
        at_least: float = 1.0,
        corpus: str | None = None,
    ) -> None:
        from dlm_control.controllers.guides.sentence_encoder import ENCODER, PIP_ENCODER

        self.about, self.at_least, self.corpus = about, at_least, corpus
        if find_spec(ENCODER) is None:
            raise UsageError(f"topic: needs MiniLM to compare words with the topic: {PIP_ENCODER}")
        if corpus is not None and not Path(corpus).is_file():
            raise UsageError(f"topic: corpus: {corpus}: no such file; expected a sentence a line")

    def bind(self, lm: Backbone) -> Tensor:
        """(vocab,), by how many standard deviations each word is nearer to the topic than words are; 0 for those below."""
        import torch

        from dlm_control.controllers.guides.sentence_encoder import sentence_features

        def encode() -> Tensor:
            return torch.tensor(sentence_features(lm.vocabulary))

        words = lm.once("sentence features of the words", encode).cpu()
        near = words @ torch.tensor(sentence_features([self.about])[0])
        real = torch.ones(len(near), dtype=torch.bool)
        real[lm.tokenizer.all_special_ids] = False
        scores = ((near - near[real].mean()) / near[real].std()).clamp(min=0) * real
        return scores.to(lm.device)

    def word_log_likelihoods(self, state: State) -> Tensor:
        import torch

        live = torch.arange(state.log_probs.shape[1], device=state.t.device) < state.length[:, None]
        strength: Tensor = (NATS * state.t)[:, None] * live
        pushed: Tensor = strength[..., None] * state.bound
        return pushed

    def final_energy(self, state: State) -> Tensor:
        """The mean score of the words, negative."""
        import torch

        ids = state.log_probs.argmax(-1)
        live = torch.arange(ids.shape[1], device=ids.device) < state.length[:, None]
        energy: Tensor = -(state.bound[ids] * live).sum(-1) / state.length
        return energy

    def explanation(self, lm: Backbone) -> str:
        scores = self.bind(lm)
        best = scores.topk(min(_SHOWN, len(scores)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return "raises " + ", ".join(f"{lm.vocabulary[word]} {score:.1f}" for word, score in pairs)

    def check(self, text: str) -> Check:
        mean, deviation = _corpus_nearness(self.about, self.corpus or str(_CORPUS))
        found = (_nearness(self.about, (text,))[0] - mean) / deviation
        score = 1.0 if found >= self.at_least else min(max(found / self.at_least, 0.0), 0.999) if self.at_least > 0 else 0.0
        why = f"{found:+.2f} deviations nearer than the corpus"
        return Check(score, why if score == 1 else f"{why}, expected {self.at_least:g} or more")


@cache
def _corpus_nearness(about: str, corpus: str) -> tuple[float, float]:
    """Mean and standard deviation of the corpus' cosines with the topic."""
    import numpy as np

    sentences = [line.strip() for line in Path(corpus).read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(sentences) < 2:
        raise UsageError(f"topic: corpus: {corpus} has {len(sentences)} sentences; expected two or more, one a line")
    found = _nearness(about, tuple(sentences))
    return float(np.mean(found)), float(np.std(found))


def _nearness(about: str, texts: tuple[str, ...]) -> list[float]:
    """Cosines of texts with the topic."""
    from dlm_control.controllers.guides.sentence_encoder import sentence_features

    topic, *features = sentence_features([about, *texts])
    return [float(feature @ topic) for feature in features]
