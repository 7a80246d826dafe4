"""The built-in controls: what they plan, what they push, what they check, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dlm_control import Control, Controller, LanguageModel, State, UsageError
from dlm_control.control.registry import CONTROLLERS
from dlm_control.controllers.fields.classifier import LoadedGuide, SemanticGuide, SemanticGuideConfig
from dlm_control.controllers.fields.lookup import domain_at
from dlm_control.controllers.fields.meaning import labels
from dlm_control.controllers.infill import Infill
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.semantic import Semantic
from dlm_control.text.words import join_words, split_words

E2E = domain_at("e2e")


def state_of(lm: LanguageModel, batch: int = 2, seq_len: int = 9, seed: int = 0) -> State:
    """Random word distributions and noisy embeddings, in float64 for finite differences."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, seq_len, len(lm.backbone.tokenizer), generator=generator, dtype=torch.float64).log_softmax(-1)
    x = torch.randn(batch, seq_len, lm.backbone.embeddings.shape[1], generator=generator, dtype=torch.float64)
    return State(x_t=x, t=torch.full((batch,), 0.4), clean=x, log_probs=logits, length=torch.full((batch,), 8), lm=lm.backbone)


def directional_error(control: Controller, state: State, space: str) -> float:
    """Relative difference of the energy's gradient and its central difference along a random direction."""

    def at(x: Tensor) -> State:
        changes: dict[str, Any] = {space: x}
        return replace(state, **changes)

    here: Tensor = getattr(state, space).detach()
    leaf = here.clone().requires_grad_()
    energy = control.energy(at(leaf))
    gradient = torch.autograd.grad(energy.sum(), leaf)[0]
    direction = torch.randn(here.shape, generator=torch.Generator().manual_seed(1), dtype=here.dtype)
    step = 1e-5
    ends = [control.energy(at(here + sign * step * direction)).sum() for sign in (1, -1)]
    numeric = float(ends[0] - ends[1]) / (2 * step)
    return abs(numeric - float((gradient * direction).sum())) / abs(numeric)


@pytest.mark.parametrize(
    "control",
    [Keyword("river"), Keyword("Blue Lantern"), Keyword("Blue Lantern", present=False),
     Semantic("food", "Japanese", domain=E2E), Semantic("area", "city centre", domain=E2E),
     Semantic("priceRange", "high", domain=E2E)],
    ids=repr,
)  # fmt: skip
def test_energy_agrees_with_finite_differences(control: Controller, tiny_lm: LanguageModel) -> None:
    state = replace(state_of(tiny_lm), bound=control.bind(tiny_lm.backbone))
    assert directional_error(control, state, "log_probs") < 1e-5


def test_keyword_energy_is_the_probability_of_the_word_somewhere(tiny_lm: LanguageModel) -> None:
    state = state_of(tiny_lm)
    word = tiny_lm.backbone.tokenizer.convert_tokens_to_ids("river")
    expected = -(1 - (1 - state.log_probs[:, :, word].exp()).prod(-1)).log()
    river = Control("river", Keyword("river")).bind(tiny_lm.backbone)
    torch.testing.assert_close(river.energy(state), expected)


def test_classifier_guide_agrees_with_finite_differences_and_refuses_another_model(tiny_lm: LanguageModel) -> None:
    torch.manual_seed(0)
    config = SemanticGuideConfig(
        ["food", "area"], [["Thai", "Indian"], ["riverside"]], dim=8, width=16, depth=1, heads=2, max_seq_len=32,
        fingerprint=tiny_lm.backbone.fingerprint,
    )  # fmt: skip
    guide = LoadedGuide(tiny_lm.backbone, SemanticGuide(config).double())
    state = replace(state_of(tiny_lm), t=torch.full((2,), 0.4, dtype=torch.float64))
    x, step = state.x_t, 1e-5
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    gradient = torch.autograd.grad(guide.energy(leaf, state.t, "food", "Indian").sum(), leaf)[0]
    ends = [guide.energy(x + sign * step * direction, state.t, "food", "Indian").sum() for sign in (1, -1)]
    assert float(ends[0] - ends[1]) / (2 * step) == pytest.approx(float((gradient * direction).sum()), rel=1e-4)
    with pytest.raises(UsageError, match=r"no semantic guide; `dlm train --kind semantic-guide"):
        tiny_lm.generate([Semantic("area", "riverside", guide="classifier", domain=E2E)], steps=2)


def test_labels_read_meaning_representations_and_report_all_unknown_values_at_once() -> None:
    values = {field: list(what.values) for field, what in E2E.fields.items()}
    [found] = labels(["name[The Mill], food[english], customer rating[5 out of 5]"], E2E, "data")
    assert found == [1 + values["name"].index("The Mill"), 0, 1 + values["food"].index("English"), 0, 6, 0, 0, 0]
    with pytest.raises(UsageError, match=r"(?s)data: 2 problems.*area: unknown value 'sea' in 1.*food.*'Martian' in 2 rows"):
        labels(["food[Martian], area[sea]", "food[Martian]"], E2E, "data")


@pytest.mark.parametrize(
    ("control", "obeys", "fails"),
    [
        (Length(3), "a pub .", "a pub"),
        (Length(at_least=2, at_most=3), "a pub", "a nice cheap pub"),
        (Length(at_most=2), "a pub", "a pub ."),
        (Keyword("the river"), "by the river.", "by the riverside."),
        (Keyword("river", present=False), "a pub.", "by the river."),
        (Keyword("pub", position=1), "a pub.", "pub a."),
        (Keyword("pub", position=-2), "a pub.", "a pub is."),
        (Infill("The [1-2] pub [*] ."), "The old pub is near.", "The very nice old pub is near."),
        (Infill("[*] family-friendly [0-1]"), "It is family-friendly.", "It is family friendly."),
        (Infill("[2] pub"), "a cheap pub", "cheap pub"),
        (Semantic("food", "Japanese", domain=E2E), "It serves Japanese food.", "It serves food."),
        (Semantic("family friendly", "no", domain=E2E), "It is not family-friendly.", "It is family-friendly."),
        (Semantic("price", "absent", domain=E2E), "A pub near the river.", "A cheap pub near the river."),
        (Semantic("price", "absent", domain=E2E), "A pub near the river.", "A pub whose prices are fair."),
        (
            Semantic(fields={"food": "Japanese", "family friendly": "no", "area": "absent"}, domain=E2E),
            "A Japanese pub that is not family-friendly.",
            "A Japanese pub by the river that is not family-friendly.",
        ),
        (Semantic("near", "Burger King", domain=E2E), "A pub near Burger King.", "A pub called Burger King."),
        (Semantic("customer rating", "5 out of 5", domain=E2E), "It is rated 5 out of 5.", "It is rated 3 out of 5."),
    ],
    ids=repr,
)  # fmt: skip
def test_check(control: Controller, obeys: str, fails: str) -> None:
    assert control.check(obeys).passed
    assert not control.check(fails).passed
    assert control.check(fails).why


@pytest.mark.parametrize("field", E2E.fields)
def test_each_wording_passes_the_check_of_its_value(field: str) -> None:
    for value, what in E2E.fields[field].values.items():
        for phrase in what.wordings:
            text = join_words(split_words(phrase))
            assert Semantic(field, value, domain=E2E).check(f"Well, {text}, it seems.").passed, (value, phrase)


@pytest.mark.parametrize(
    "controls",
    [[Length(7)], [Length(at_least=5, at_most=8)], [Infill("The [2-4] is [*] .")], [Keyword("pub", position=-2)],
     [Infill("[*] pub [3]"), Length(9)], [Keyword("pub", present=False), Length(6)]],
    ids=repr,
)  # fmt: skip
def test_a_plan_alone_makes_its_check_pass(controls: list[Controller], tiny_lm: LanguageModel) -> None:
    for sample in tiny_lm.generate(controls, num_samples=6, steps=4):
        assert sample.passed, (sample.text, sample.checks)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Length(), r"length: give either `words` or"),
        (lambda: Length(0), r"words: expected a whole number above 0, got 0"),
        (lambda: Length(at_least=9, at_most=3), r"at_least \(9\) exceeds at_most \(3\)"),
        (lambda: Keyword("  "), r"words: expected at least one word"),
        (lambda: Keyword("a", present=False, position=1), r"leave out one"),
        (lambda: Keyword("a b", position=-1), r"2 words do not fit at -1"),
        (lambda: Infill("no gap here"), r"no gap in 'no gap here'"),
        (lambda: Infill("a [x] b"), r"\[x\].* is no gap; expected"),
        (lambda: Infill("a [5-2] b"), r"lower bound exceeds the upper"),
        (lambda: Semantic("fodo", "Japanese", domain=E2E), r"unknown 'fodo', did you mean 'food'\?"),
        (lambda: Semantic(fields={"fodo": "x", "price": "cheep"}, domain=E2E), r"(?s)unknown 'fodo'.*did you mean 'cheap'"),
        (lambda: Semantic("food", "Thai", fields={"food": "Thai"}, domain=E2E), "give either"),
        (lambda: Semantic("food", "Japanesse", domain=E2E), r"did you mean 'Japanese'\?"),
        (lambda: Semantic("food", "Thai", guide="magic"), r"guide: unknown 'magic'; there are: words, classifier"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_are_refused(make: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()  # type: ignore[operator]


def test_unknown_words_are_named_with_suggestions(tiny_lm: LanguageModel) -> None:
    with pytest.raises(UsageError, match=r"'rivver' is not among the \d+ the model knows; near it: river"):
        tiny_lm.generate([Keyword("rivver")], steps=1)


@pytest.mark.parametrize(
    ("controls", "names"),
    [
        ([Length(2), Infill("The Golden Fox [*]")], ["length", "infill"]),
        ([Infill("[*] pub"), Keyword("river", position=-1)], ["infill", "keyword"]),
        ([Keyword("pub"), Keyword("pub", present=False)], ["keyword#1", "keyword#2"]),
        ([Length(1), Semantic("area", "city centre", domain=E2E)], ["length", "semantic"]),
        ([Length(40)], ["length"]),
    ],
    ids=repr,
)
def test_contradictions_name_both_controls(controls: list[Controller], names: list[str], tiny_lm: LanguageModel) -> None:
    with pytest.raises(UsageError) as error:
        tiny_lm.generate(controls, steps=1)
    assert all(f"{name} needs" in str(error.value) for name in names)


def test_built_in_controllers_are_registered() -> None:
    found = CONTROLLERS.entries()
    for name, cls in {"length": Length, "infill": Infill, "keyword": Keyword, "semantic": Semantic}.items():
        assert found[name].load() is cls
        assert cls.name == name


@pytest.mark.parametrize(
    "words", [["n't", "n't"], ["5", "'s", "n't", "."], ["is", "n't", "it", "?"], ["£", "20", "-", "25", ","]]
)
def test_joined_words_split_into_the_same_words(words: list[str]) -> None:
    assert split_words(join_words(words)) == words
