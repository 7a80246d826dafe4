"""Sequential Monte Carlo against enumerated posteriors: weights, resampling, evidence, and rewards of any function."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact_model import PRIOR, WORDS
from test_masked_posterior import SENTENCES, First, correlated, enumerated, given

from dlm_control import Check, Control, Controller, LanguageModel, UsageError
from dlm_control.controllers.keyword import Keyword
from dlm_control.controllers.length import Length
from dlm_control.controllers.reward import Reward
from dlm_control.sampling.particles import Population, effective_size, log_mean, resampled
from dlm_control.support.include import include
from dlm_control.tasks.spec import Spec

EXACT: dict[str, Any] = {"steps": 3, "temperature": 1.0, "order": "random"}  # a masked model's own distribution
SIZES = (4, 16, 64, 256)


def points(text: str) -> float:
    """No product of functions of single words: first and last alike, and some c."""
    words = text.split()
    return 0.15 * (words[0] == words[-1]) + 0.07 * words.count("c")


def said(sentence: Sequence[int]) -> str:
    return " ".join("abc"[word] for word in sentence)


def frequencies(population: Population) -> torch.Tensor:
    """(27,), the weights of the sentences."""
    found = torch.zeros(len(SENTENCES))
    for sample, weight in zip(population.samples, population.weights, strict=True):
        found[SENTENCES.index(tuple("abc".index(word) for word in sample.words))] += weight
    return found


def errors(lm: LanguageModel, controls: list[Any], posterior: torch.Tensor, seeds: int) -> list[float]:
    """Root mean square distance to a posterior, by number of particles."""
    found = []
    for size in SIZES:
        runs = [lm.particles([Length(3), *controls], size, seed, **EXACT) for seed in range(seeds)]
        found.append(float(torch.stack([(frequencies(run) - posterior).square().sum() for run in runs]).mean().sqrt()))
    return found


def slope(found: Sequence[float]) -> float:
    return float(np.polyfit(np.log(SIZES), np.log(found), 1)[0])


def test_the_estimate_converges_as_particles_grow() -> None:
    """A reward on a joint distribution of three words: the error falls as 1/√N, and at 256 particles it is small."""
    joint = correlated()
    posterior = given(joint, lambda sentence: math.exp(10 * points(said(sentence))))
    found = errors(enumerated(joint), [Reward(points)], posterior, seeds=8)
    assert slope(found) == pytest.approx(-0.5, abs=0.12)
    assert found[-1] < 0.08 < float((joint.flatten() - posterior).norm())


def test_weights_correct_what_guides_get_wrong() -> None:
    """From the right, guidance hears of the first word too late (see test_masked_posterior); the weights make up for it. The
    guide pushes twice as hard as its likelihood says at the highest noise, and half as hard at the lowest: no matter."""
    joint = correlated()
    posterior = given(joint, lambda sentence: First.likelihood[sentence[0]] * math.exp(10 * points(said(sentence))))
    controls: list[Controller | Control] = [Control("first", First(), schedule="falling"), Reward(points)]
    lm = enumerated(joint)
    runs = [lm.particles([Length(3), *controls], 256, seed, **EXACT | {"order": "right_to_left"}) for seed in range(6)]
    mean = torch.stack([frequencies(run) for run in runs]).mean(0)
    assert float((mean - posterior).norm()) < 0.06
    evidence = joint.flatten() @ torch.tensor([First.likelihood[s[0]] * math.exp(10 * points(said(s))) for s in SENTENCES])
    assert math.exp(log_mean(torch.tensor([run.log_evidence for run in runs]))) == pytest.approx(float(evidence), rel=0.12)


def test_a_keyword_and_a_joint_distribution() -> None:
    """Guidance alone is off by 0.2 in total variation where words depend on each other; weighed particles are not."""
    joint = correlated()
    posterior = given(joint, lambda sentence: float(1 in sentence))
    runs = [enumerated(joint).particles([Length(3), Keyword("b")], 256, seed, **EXACT) for seed in range(4)]
    assert float((torch.stack([frequencies(run) for run in runs]).mean(0) - posterior).abs().sum() / 2) < 0.1
    assert runs[0].log_evidence == pytest.approx(math.log(sum(float(joint[s]) for s in SENTENCES if 1 in s)), abs=0.1)


@pytest.mark.parametrize("guided", [False, True])
def test_the_gaussian_model_has_the_posterior_too(exact_lm: LanguageModel, guided: bool) -> None:
    """Words are independent there; the reward ties the first to the last. A keyword's guide says what the second should be."""

    def same(text: str) -> float:
        words = text.split()
        return 0.2 * (words[0] == words[-1])

    expected = dict[tuple[str, ...], float]()
    for words in itertools.product(WORDS, repeat=3):
        prior = math.prod(float(PRIOR[WORDS.index(word)]) for word in words)
        expected[words] = prior * math.exp(10 * same(" ".join(words))) * (not guided or "cheese" in words)
    total = sum(expected.values())
    controls: list[Any] = [Length(3), Reward(same), *([Keyword("cheese")] if guided else [])]
    settings: dict[str, Any] = {"steps": 24, "temperature": 1.0, "clamp": "off", "interval": (0.0, 1.0)}
    found = defaultdict[tuple[str, ...], float](float)
    for seed in range(3):
        run = exact_lm.particles(controls, 200, seed, **settings)
        for sample, weight in zip(run.samples, run.weights, strict=True):
            found[sample.words] += weight / 3
    alike = sum(value for words, value in expected.items() if words[0] == words[2]) / total
    assert sum(value for words, value in found.items() if words[0] == words[2]) == pytest.approx(alike, abs=0.1)
    assert sum(abs(found[words] - value / total) for words, value in expected.items()) / 2 < (0.25 if guided else 0.2)


@pytest.mark.parametrize("name", ["tiny_lm", "masked_lm"])
def test_a_constant_reward_changes_nothing(name: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(name)
    settings: dict[str, Any] = {"num_samples": 2, "preset": "particles", "particles": 5, "steps": 5}
    controls: list[Controller | Control] = [Keyword("pub"), Length(7)]
    plain = lm.generate(controls, **settings)
    constant = lm.generate([*controls, Reward({len: 0.0, _seven: 1.0}, at_least=7.0)], **settings)
    assert [sample.text for sample in constant] == [sample.text for sample in plain]
    assert all(sample.checks["reward"].passed and sample.firmness["reward"] == "weighed" for sample in constant)
    assert constant[0].calls == 25 and math.isfinite(constant[0].log_weight or math.nan)


def _seven(text: str) -> int:
    return 7


def test_resampling_keeps_expectations() -> None:
    """Systematic: each goes on as often as its weight says, rounded up or down, and in the mean exactly as often."""
    logs = torch.tensor([0.0, 1.0, 2.5, -3.0], dtype=torch.float64)
    expected, generator = 4 * logs.softmax(0), torch.Generator().manual_seed(0)
    counts = torch.stack([torch.bincount(resampled(logs, generator), minlength=4) for _ in range(1000)])
    assert ((counts >= expected.floor()) & (counts <= expected.ceil())).all()
    torch.testing.assert_close(counts.double().mean(0), expected, atol=0.06, rtol=0)
    assert resampled(torch.zeros(7, dtype=torch.float64), generator).tolist() == list(range(7))


def test_effective_size_and_evidence() -> None:
    assert effective_size(torch.zeros(5)) == pytest.approx(5)
    assert effective_size(torch.tensor([0.0, -1e9])) == pytest.approx(1)
    assert log_mean(torch.tensor([0.0, math.log(3)])) == pytest.approx(math.log(2))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_resampling_below_a_threshold_leaves_the_estimate_alone(share: float) -> None:
    joint = correlated()
    truth = sum(float(joint[s]) * math.exp(10 * points(said(s))) for s in SENTENCES)
    lm = enumerated(joint)
    logs = [lm.particles([Length(3), Reward(points)], 64, s, resample_below=share, **EXACT).log_evidence for s in range(6)]
    assert math.exp(log_mean(torch.tensor(logs))) == pytest.approx(truth, rel=0.15)


def test_a_population_is_weighed(masked_lm: LanguageModel) -> None:
    run = masked_lm.particles([Length(6), Reward({_seven: 0.01})], 6, steps=3)
    assert sum(run.weights) == pytest.approx(1) and 1 <= run.effective_size <= 6
    assert run.mean(lambda sample: len(sample.words)) == pytest.approx(6)
    again = masked_lm.particles([Length(6), Reward({_seven: 0.01})], 6, steps=3)
    assert [sample.text for sample in again.samples] == [sample.text for sample in run.samples]


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m"])
def test_what_particles_cannot_be_is_refused(tiny_lm: LanguageModel, sampler: str) -> None:
    with pytest.raises(UsageError, match="is deterministic"):
        tiny_lm.generate(preset="particles", sampler=sampler)
    with pytest.raises(UsageError, match="particles: are weighed by p"):
        tiny_lm.generate(preset="paper", particles=2)


class Loose(Controller):
    """A potential that is no number."""

    def log_potential(self, text: str) -> float:
        return math.inf

    def check(self, text: str) -> Check:
        return Check(1.0, "")


def test_a_potential_must_be_finite(tiny_lm: LanguageModel) -> None:
    with pytest.raises(UsageError, match=r"log_potential returned inf on .*, expected a finite number of nats"):
        tiny_lm.generate([Loose()], preset="particles", particles=2, steps=2)


# --- rewards from specs -------------------------------------------------------------------------------------------------------

FILE = """
from builtins import len as words

def short(text):
    return 1 / len(text.split())

def broken(text):
    return text

number = 3
"""


def test_a_reward_is_found_in_the_file_that_was_included_last(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "points.py").write_text("short = words = None")
    include(tmp_path / "other" / "points.py")
    (tmp_path / "points.py").write_text(FILE)
    (tmp_path / "spec.yaml").write_text(
        "include: [points.py]\ncontrols:\n  - reward: {functions: {'points:short': 4, 'points:words': 0.0}, at_least: 1}\n"
    )
    from dlm_control.tasks.spec import read_spec

    [control] = read_spec(tmp_path / "spec.yaml").controls
    assert control.check("a b c d").passed and control.check("a b").passed
    check = control.check("a b c d e")
    assert not check.passed and check.score == pytest.approx(0.8)
    assert check.why == "0.8 points (points:short 0.2, points:words 9), expected 1 or more"
    assert control.controller.log_potential("a b") == pytest.approx(20)


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ("short", "functions: expected `module:function`, got 'short'"),
        ("nowhere_at_all:short", r"no included file is named nowhere_at_all\.py; write one"),
        ("os:system", r"os:system: no included file is named os\.py"),
        ("numbers_of_mine:sinus", r"numbers_of_mine\.py has no function 'sinus'"),
        ("numbers_of_mine:number", r"numbers_of_mine\.py has no function 'number'"),
        ({}, "functions: expected .* of at least one function"),
        ({"numbers_of_mine:short": "much"}, "functions"),
        (7, "functions: expected"),
    ],
)
def test_a_faulty_reward_is_one_fault(functions: object, message: str, tmp_path: Path) -> None:
    (tmp_path / "numbers_of_mine.py").write_text(FILE)
    include(tmp_path / "numbers_of_mine.py")
    with pytest.raises(UsageError, match=message):
        Spec.from_mapping({"controls": [{"reward": {"functions": functions}}]})


def test_a_function_that_fails_is_named(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FILE)
    include(tmp_path / "faulty.py")
    with pytest.raises(UsageError, match="reward: faulty:broken returned 'a b' on 'a b', expected a finite number"):
        Reward("faulty:broken").check("a b")
    failing: Callable[[str], float] = lambda text: 1 / 0  # noqa: E731
    with pytest.raises(UsageError, match=r"raised ZeroDivisionError: division by zero \(on 'a'\)"):
        Reward(failing).check("a")
