"""Every built-in control keeps the contract, and the kit notices a plugin that breaks any one rule."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dlm_control import Check, Controller, LanguageModel, Plan, State, UsageError
from dlm_control.control.registry import CONTROLLERS
from dlm_control.controllers.choice import Choice
from dlm_control.controllers.classifier import Classifier
from dlm_control.controllers.guides.sentence_encoder import ENCODER
from dlm_control.controllers.infill import Infill
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.pattern import Pattern
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.controllers.reward import Reward
from dlm_control.controllers.semantic import Semantic
from dlm_control.controllers.span import Span
from dlm_control.controllers.topic import Topic
from dlm_control.controllers.tree import SyntaxTree
from dlm_control.testing import RULES, ConformanceError, check_controller

FOX = "The Golden Fox is a cheap pub near the river ."
PUB = "The Mill is a cheap pub near the river ."
TALL = "There is a coffee shop that serves Japanese food in the city centre ."
TREE = "(S (NP ? ?) (VP ? (NP (NP ? ? ?) (PP ? (NP ? ?)))) ?)"

RATED = "The Mill is a pub with a customer rating of 5 out of 5 ."
FAMILIES = "The Mill is a family friendly pub . Children are welcome ."
RATING = str(Path(__file__).parents[1] / "examples" / "sentiment" / "e2e-rating")

CASES: dict[str, tuple[Controller, str, str, Callable[[], object]]] = {
    "length": (Length(10), PUB, TALL, lambda: Length(-1)),
    "infill": (Infill("The [1-3] is a [*] ."), PUB, TALL, lambda: Infill("")),
    "keyword": (Keyword("cheap"), PUB, TALL, lambda: Keyword("")),
    "keyword absent": (Keyword("cheap", present=False), TALL, PUB, lambda: Keyword("pub", present=7)),  # type: ignore[arg-type]
    "semantic": (Semantic("food", "Japanese"), TALL, PUB, lambda: Semantic("foood", "Japanese", domain="e2e")),
    "semantic classifier": (
        Semantic("food", "Japanese", guide="classifier"), TALL, PUB, lambda: Semantic("food", "Martian", domain="e2e"),
    ),
    "pattern": (Pattern("The * (cheap|expensive) * /[a-z]+/ ."), PUB, TALL, lambda: Pattern("a ( b")),
    "pattern absent": (Pattern(exclude="* /[A-Z].*/ ? ? cheap *", count={"a": 1}), TALL, PUB, Pattern),
    "choice": (Choice([PUB, "The Mill ."]), PUB, TALL, lambda: Choice([])),
    "choice at": (Choice(["city centre .", "pub"], position=-1), TALL, PUB, lambda: Choice(["a", " "])),
    "pos": (PartsOfSpeech("DET PROPN AUX DET ADJ NOUN ADP DET NOUN PUNCT"), PUB, TALL, lambda: PartsOfSpeech("DET NOWN")),
    "pos counts": (PartsOfSpeech("? ? VERB", position=4, guide="counts"), TALL, PUB, lambda: PartsOfSpeech("?")),
    "pos x_t": (PartsOfSpeech("ADJ NOUN", position=4, guide="x_t"), PUB, TALL, lambda: PartsOfSpeech([])),
    "pos x0": (PartsOfSpeech("ADJ NOUN", position=4, guide="x0"), PUB, TALL, lambda: PartsOfSpeech("DET", position=-1)),
    "classifier": (Classifier(RATING, "positive"), RATED, PUB, lambda: Classifier(RATING, "cheerful")),
    "classifier gradient": (
        Classifier(RATING, "positive", way="gradient"), RATED, PUB, lambda: Classifier(RATING, "positive", way="mean"),  # type: ignore[arg-type]
    ),
    "reward": (Reward({len: 0.02}, at_least=1.0), TALL, PUB, lambda: Reward("no_such_module:points")),
    "span": (Span([3, 5, "NP"]), PUB, TALL, lambda: Span([5, 3, "NP"])),
    "span x_t": (Span([3, 5, "NP"], guide="x_t"), PUB, TALL, lambda: Span([3, 5])),
    "span x0": (Span([3, 5, "NP"], guide="x0"), PUB, TALL, lambda: Span("NP")),
    "tree": (SyntaxTree(TREE), PUB, TALL, lambda: SyntaxTree("(S (NP")),
    "tree x0": (SyntaxTree(TREE, guide="x0"), PUB, TALL, lambda: SyntaxTree("(NOWN ?)")),
    "tree partial": (SyntaxTree("(S ? ? ? (NP ? ? ?) ? ? ? ?)", partial=True), PUB, TALL, lambda: SyntaxTree(7)),
}  # fmt: skip
if find_spec(ENCODER) is not None:
    CASES["topic"] = Topic("families with children"), FAMILIES, PUB, lambda: Topic(" ")


@pytest.mark.parametrize("case", CASES)
def test_built_in_controls_keep_the_contract(e2e: LanguageModel, case: str) -> None:
    controller, satisfying, violating, faulty = CASES[case]
    check_controller(controller, satisfying=[satisfying], violating=[violating], faulty=[faulty], lm=e2e)


def test_every_built_in_control_has_a_case() -> None:
    built_in = {name for name, entry in CONTROLLERS.entries().items() if entry.origin == "dlm-control"}
    assert {case.split()[0] for case in CASES} | {"topic", "json"} == built_in  # see test_json.py for json


# --- one broken plugin a rule -------------------------------------------------------------------------------------------------


class Cheap(Controller):
    """Sound: the word "cheap" stands first, by the word distributions. Each subclass below breaks one rule."""

    reads = "log_probs"

    def __init__(self, word: str = "cheap") -> None:
        if not isinstance(word, str) or not word:
            raise UsageError(f"cheap: word: expected a word, got {word!r}")
        self.word = word

    def energy(self, state: State) -> Tensor:
        [word] = state.lm.ids(self.word, "word")
        return -state.log_probs[:, 0, word]

    def check(self, text: str) -> Check:
        return Check(float(text.split()[0] == self.word), f"opens with {text.split()[0]!r}")


class Nameless(Cheap):
    __repr__ = object.__repr__


class Lenient(Cheap):
    def check(self, text: str) -> Check:
        return Check(1.0, "whatever")


class Silent(Cheap):
    def check(self, text: str) -> Check:
        return Check(super().check(text).score, "")


class Overrated(Cheap):
    def check(self, text: str) -> Check:
        return Check(100 * super().check(text).score, "percent")


class TooNarrow(Cheap):
    def plan(self, lm: Any) -> Plan:
        return Plan(max_words=2)


class OneForAll(Cheap):
    def energy(self, state: State) -> Tensor:
        return super().energy(state).mean()


class Infinite(Cheap):
    def energy(self, state: State) -> Tensor:
        return super().energy(state) / (state.t < 1)


class Raising(Cheap):
    def energy(self, state: State) -> Tensor:
        raise KeyError("food")


class Detached(Cheap):
    def energy(self, state: State) -> Tensor:
        return super().energy(state) + super().energy(state).detach() * super().energy(state)


class Constant(Cheap):
    def energy(self, state: State) -> Tensor:
        return torch.zeros(len(state.x_t))


class Leaking(Cheap):
    def energy(self, state: State) -> Tensor:
        return super().energy(state) + super().energy(state).mean()


class Rolling(Cheap):
    def energy(self, state: State) -> Tensor:
        return super().energy(state) * (1 + torch.rand(()))


class Writing(Cheap):
    def energy(self, state: State) -> Tensor:
        energy = super().energy(state)
        state.length.add_(1)
        return energy


class Homebound(Cheap):
    def energy(self, state: State) -> Tensor:
        return super().energy(state) + torch.zeros(len(state.length))  # on the CPU, wherever the model lies


class Inconsistent(Cheap):
    def word_log_likelihoods(self, state: State) -> Tensor:
        return torch.zeros_like(state.log_probs)


class Backwards(Cheap):
    def energy(self, state: State) -> Tensor:
        return 20 - super().energy(state)


class Boastful(Cheap):
    closed_form = True

    def energy(self, state: State) -> Tensor:
        return super().energy(state) / 2 + 0.5


class Halfway(Cheap):
    reads = None  # type: ignore[assignment]

    def plan(self, lm: Any) -> Plan:
        return Plan(min_words=2)


class Credulous(Cheap):
    def __init__(self, word: str = "cheap") -> None:
        self.word = word


class Blunt(Cheap):
    def __init__(self, word: str = "cheap") -> None:
        if not word:
            raise IndexError(word)
        self.word = word


class Remembering(Cheap):
    """Its energy grows with every text it has seen."""

    def __init__(self, word: str = "cheap") -> None:
        super().__init__(word)
        self._seen = 0

    def energy(self, state: State) -> Tensor:
        self._seen += 1
        return super().energy(state) * self._seen


class Fickle(Remembering):
    """Wants another word in every run of three steps."""

    def energy(self, state: State) -> Tensor:
        self._seen += 1
        return -state.log_probs[:, 0, 3 + self._seen // 3 % 40]


BROKEN = {
    Nameless: ("repr", "expected the class and its target"),
    Lenient: ("check", "expected less than 1"),
    Silent: ("check", "gives no reason"),
    Overrated: ("check", "scored 100.0"),
    TooNarrow: ("plan", "the plan forbids it"),
    OneForAll: ("energy", r"returned \(\), expected a tensor \(3,\)"),
    Infinite: ("energy", "energy is inf at t = 1.000"),
    Raising: ("energy", "raised KeyError: 'food'"),
    Constant: ("gradient", "does not depend on state.log_probs"),
    Detached: ("gradient", "from finite differences"),
    Inconsistent: ("likelihoods", "leave energy"),
    Leaking: ("batch", "in the batch"),
    Rolling: ("purity", "global random numbers"),
    Remembering: ("purity", "the second time"),
    Writing: ("purity", "changes state.length in place"),
    Homebound: ("device", "mixes devices"),
    Backwards: ("preference", "are not below"),
    Boastful: ("firmness", r"closed_form is true, but 'cheap pub \.' has 0\.5 nats, expected below 0\.1"),
    Halfway: ("firmness", "counts as exact, but its plan allows"),
    Fickle: ("generation", "in a batch and"),
    Credulous: ("arguments", "expected a UsageError"),
    Blunt: ("arguments", "raised IndexError"),
}


@pytest.mark.parametrize("plugin", BROKEN)
def test_a_broken_plugin_is_caught_by_the_rule_it_breaks(tiny_lm: LanguageModel, plugin: type[Cheap]) -> None:
    rule, raised = BROKEN[plugin]
    with pytest.raises(ConformanceError, match=raised) as error:
        check_controller(plugin(), satisfying=["cheap pub ."], violating=[FOX], faulty=[lambda: plugin("")], lm=tiny_lm)
    assert rule in {fault.place for fault in error.value.issues}


def test_the_sound_one_passes_and_every_rule_has_a_plugin_that_breaks_it(tiny_lm: LanguageModel) -> None:
    check_controller(Cheap(), satisfying=["cheap pub ."], violating=[FOX], faulty=[lambda: Cheap("")], lm=tiny_lm)
    assert {rule for rule, _ in BROKEN.values()} == set(RULES)


def test_the_kit_wants_texts() -> None:
    with pytest.raises(ValueError, match="at least one obeying and one breaking"):
        check_controller(Cheap(), satisfying=[], violating=[PUB])
