"""Energies of tags, spans, trees and absent phrases against enumeration of every text of a toy vocabulary."""

from __future__ import annotations

import itertools
import math
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dlm_control import Control, LanguageModel, State
from dlm_control.controllers.guides.lookup import use_guides
from dlm_control.controllers.guides.structural import Structural
from dlm_control.controllers.guides.structure_guide import NOTHING_ASKED, StructureGuide, StructureGuideConfig, structure_guide
from dlm_control.controllers.guides.syntax_guide import SyntaxGuide, SyntaxGuideConfig
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.linguistics.trees import PENN, UNIVERSAL
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.controllers.semantic import Semantic
from dlm_control.controllers.span import Span
from dlm_control.controllers.tree import SyntaxTree
from dlm_control.diffusion.backbone import CLEAN
from dlm_control.diffusion.gaussian import GaussianBackbone
from dlm_control.diffusion.model import DiffusionLM, DiffusionLMConfig
from dlm_control.sampling.guidance import tilt
from dlm_control.text.tokenizer import WordTokenizer

WORDS = "ale bread near coffee shop"
FIRST = 3  # id of the first word, behind UNK, PAD and END
CANVAS, LONG = 5, 3  # positions, and words of a text: END and PAD follow


def toy_lm(words: str = WORDS) -> LanguageModel:
    torch.manual_seed(3)
    tokenizer = WordTokenizer.train([words], min_count=1)
    config = DiffusionLMConfig(
        vocab_size=len(tokenizer), dim=4, width=8, depth=1, heads=1, max_seq_len=8, length_counts=[0] * 8
    )
    return LanguageModel(GaussianBackbone(DiffusionLM(config), tokenizer))


@pytest.fixture
def guided(tmp_path: Path) -> tuple[LanguageModel, StructureGuide]:
    """A model, and a guide of random weights that answers for its words."""
    lm = toy_lm()
    torch.manual_seed(4)
    sizes = {"dim": 4, "vocab_size": len(lm.backbone.tokenizer), "width": 8, "depth": 1, "heads": 1, "max_seq_len": 8}
    guide = StructureGuide(StructureGuideConfig(labels=["NP", "VP", "S", "*"], **sizes))
    for parameter in guide.parameters():  # structures must matter, and words that are asked for without any, too
        torch.nn.init.normal_(parameter, std=0.7)
    guide.eval().requires_grad_(False)
    guide.config.fingerprint = lm.backbone.fingerprint
    guide.save_pretrained(tmp_path)
    use_guides(lm, structure=tmp_path)
    return lm, structure_guide(lm.backbone)


def noisy_state(lm: LanguageModel) -> State:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, CANVAS, 4, generator=generator)
    logits = (2 * torch.randn(2, CANVAS, len(lm.backbone.tokenizer), generator=generator)).log_softmax(-1)
    return State(x, torch.tensor([0.4, 0.6]), x, logits, torch.tensor([LONG, LONG - 1]), lm.backbone)


CONTROLS: dict[str, tuple[Structural, int]] = {  # and the power of its ratio
    "tags": (PartsOfSpeech("DET NOUN ?"), 1),
    "penn tags": (PartsOfSpeech("NN VBZ", position=1), 1),
    "span": (Span([0, 1, "NP"]), 2),
    "tree": (SyntaxTree("(S (NP ? ?) (VP ?))"), 1),
}


@pytest.mark.parametrize("kind", CONTROLS)
def test_the_energy_of_a_structure_is_that_of_every_text(kind: str, guided: tuple[LanguageModel, StructureGuide]) -> None:
    """−log Σ over texts of p(text) · Π (p(word | structure, x_t) / p(word | x_t))^power, each factor at most 1."""
    (controller, power), (lm, guide) = CONTROLS[kind], guided
    state = noisy_state(lm)
    labels, complete = controller.labels()

    def said(asked: tuple[object, ...], whole: bool) -> Tensor:
        structure = guide.structure([asked] * 2, [whole] * 2, CANVAS)  # type: ignore[list-item]
        answer: Tensor = guide(state.x_t, lm.backbone.log_snr(state.t), structure)
        return answer.softmax(-1)

    ratio = (said(labels, complete) / said(NOTHING_ASKED, False)) ** power
    ratio = ratio / ratio.amax(-1, keepdim=True)
    expected = []
    for row, size in enumerate(state.length.tolist()):
        p = state.log_probs[row].exp()
        total = 0.0
        for text in itertools.product(range(len(lm.backbone.tokenizer)), repeat=size):
            total += math.prod(float(p[i, w] * ratio[row, i, w]) for i, w in enumerate(text))
        expected.append(-math.log(total))
    energy = controller.energy(replace(state, bound=controller.bind(lm.backbone)))
    torch.testing.assert_close(energy, torch.tensor(expected), rtol=1e-3, atol=1e-4)


TAGGED: dict[str, tuple[Structural, dict[int, tuple[str, int]], dict[tuple[int, int], int]]] = {  # tags, labels of the chart
    "tags": (
        PartsOfSpeech("DET ? NOUN"),
        {0: ("universal", 1 + UNIVERSAL.index("DET")), 2: ("universal", 1 + UNIVERSAL.index("NOUN"))},
        {},
    ),
    "penn tags": (
        PartsOfSpeech("NN VBZ", position=1),
        {1: ("penn", 1 + PENN.index("NN")), 2: ("penn", 1 + PENN.index("VBZ"))},
        {},
    ),
    "spans": (
        Span([[0, 1, "NP"], [0, 2, "PP"]]),
        {},
        {(0, 1): 1, (0, 2): 4},
    ),  # PP is none of the guide's labels but the last, "*"
    "tree": (
        SyntaxTree("(S (NP ? ?) (VP ?))"),
        {},
        {(0, 1): 1, (2, 2): 2, (0, 2): 3, (0, 0): 0, (1, 1): 0, (1, 2): 0},
    ),  # and no other phrase
}


@pytest.mark.parametrize("kind", TAGGED)
def test_a_noise_aware_taggers_energy_is_minus_the_log_probability_of_every_label(kind: str, tmp_path: Path) -> None:
    """From x_t at its noise level, or from x0 as if it were almost clean; the finished text is judged by x0."""
    controller, tags, chart = TAGGED[kind]
    lm = toy_lm()
    torch.manual_seed(6)
    sizes = {"dim": 4, "vocab_size": len(lm.backbone.tokenizer), "width": 8, "depth": 1, "heads": 1, "max_canvas": 8}
    guide = SyntaxGuide(SyntaxGuideConfig(labels=["NP", "VP", "S", "*"], span_width=6, **sizes))
    for parameter in guide.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    guide.eval().requires_grad_(False)
    guide.config.fingerprint = lm.backbone.fingerprint
    guide.save_pretrained(tmp_path)
    use_guides(lm, syntax=tmp_path)
    state = replace(noisy_state(lm), clean=torch.randn(2, CANVAS, 4, generator=torch.Generator().manual_seed(7)))

    def expected(x: Tensor, levels: Tensor) -> Tensor:
        reading = guide(x, lm.backbone.log_snr(levels))
        of_tags: Tensor = sum(getattr(reading, tagset)[:, place, tag] for place, (tagset, tag) in tags.items())
        of_chart: Tensor = sum(reading.chart[:, first, last, label] for (first, last), label in chart.items())
        return -(of_tags + of_chart)

    by_space = {"x_t": expected(state.x_t, state.t), "x0": expected(state.x0, torch.full((2,), CLEAN))}
    for space, energy in by_space.items():
        steering = copy(controller)
        steering.guide = space
        bound = replace(state, bound=steering.bind(lm.backbone))
        torch.testing.assert_close(steering.energy(bound), energy)
        torch.testing.assert_close(steering.final_energy(bound), by_space["x0"])


def test_the_energy_by_counts_is_that_of_every_text(guided: tuple[LanguageModel, StructureGuide]) -> None:
    """−log Σ over texts of p(text) · Π p(tag | word), for tags that are asked for."""
    lm, guide = guided
    table = torch.rand(guide.universal_of_word.shape, generator=torch.Generator().manual_seed(8))
    guide.universal_of_word[:] = table
    guide.penn_of_word[:] = 0.5
    det, noun = (1 + UNIVERSAL.index(tag) for tag in ("DET", "NOUN"))
    state = noisy_state(lm)
    controller = PartsOfSpeech("DET ? NOUN", guide="counts")
    expected = []
    for p in state.log_probs.exp():
        texts = itertools.product(range(len(lm.backbone.tokenizer)), repeat=3)
        expected.append(
            -math.log(sum(float(p[0, a] * p[1, b] * p[2, c] * table[a, det] * table[c, noun]) for a, b, c in texts))
        )
    energy = controller.energy(replace(state, bound=controller.bind(lm.backbone)))
    torch.testing.assert_close(energy, torch.tensor(expected), rtol=1e-3, atol=1e-4)
    by_penn = PartsOfSpeech("NN", guide="counts", position=1)
    energy = by_penn.energy(replace(state, bound=by_penn.bind(lm.backbone)))
    torch.testing.assert_close(energy, torch.full((2,), math.log(2.0)))


def test_a_word_may_stand_for_a_tag_that_it_bears_once_in_ten_thousand(guided: tuple[LanguageModel, StructureGuide]) -> None:
    lm, guide = guided
    noun, verb = 1 + UNIVERSAL.index("NOUN"), 1 + UNIVERSAL.index("VERB")
    for word, share in zip(range(FIRST, FIRST + 5), (0.9, 0.05, 2e-3, 1e-4, 0.9e-4), strict=True):
        guide.universal_of_word[word, noun], guide.universal_of_word[word, verb] = share, 1 - share
    guide.universal_of_word[:FIRST, noun] = 1.0  # END and its like are no nouns, whatever the counts say
    plan = PartsOfSpeech("NOUN", position=2).plan(lm.backbone)
    assert plan.at == {2: frozenset(range(FIRST, FIRST + 4))}
    guide.penn_of_word[FIRST + 4, 1 + PENN.index("NN")] = 1.0
    assert PartsOfSpeech("NN", position=0).plan(lm.backbone).at == {0: frozenset({FIRST + 4})}


# --- phrases that must not occur --------------------------------------------------------------------------------------------


def peaked(lm: LanguageModel, *chances: dict[str, float]) -> State:
    """A position for each mapping of words to probabilities."""
    vocabulary = lm.backbone.tokenizer.get_vocab()
    p = torch.zeros(1, len(chances), len(vocabulary), dtype=torch.float64)
    for i, chance in enumerate(chances):
        for word, share in chance.items():
            p[0, i, vocabulary[word]] = share
    x = torch.zeros(1, len(chances), 4, dtype=torch.float64)
    return State(x, torch.full((1,), 0.5), x, p.clamp(min=1e-12).log(), torch.full((1,), len(chances)), lm.backbone)


ABSENT = {
    "keyword": Keyword("coffee shop", present=False),
    "field": Semantic("eatType", "absent", domain="e2e"),  # "coffee shop" is one of its wordings
}


@pytest.mark.parametrize("kind", ABSENT)
def test_a_phrase_that_must_not_occur_is_pushed_away(kind: str) -> None:
    """By hand: p("coffee shop") = 0.9 · 0.8 = 0.72; without it, "coffee" stands first with 0.9 · 0.2 / 0.28."""
    lm = toy_lm()
    state = peaked(lm, {"coffee": 0.9, "ale": 0.1}, {"shop": 0.8, "near": 0.2})
    controller = ABSENT[kind]
    assert controller.reads == "log_probs"
    change, energy = tilt(Control("absent", controller).bind(lm.backbone), state)
    assert float(energy) == pytest.approx(-math.log(0.28), rel=1e-4)
    after = change.added_to(state.log_probs.clone()).softmax(-1)
    coffee, shop = (lm.backbone.tokenizer.get_vocab()[word] for word in ("coffee", "shop"))
    assert float(after[0, 0, coffee]) == pytest.approx(0.9 * 0.2 / 0.28, rel=1e-4)
    assert float(after[0, 1, shop]) == pytest.approx(0.8 * 0.1 / 0.28, rel=1e-4)
