"""From a text file of one's own to a model that parts of speech, trees and spans steer, by the commands alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import pytest
from conftest import made_suite
from toy_corpus import toy_corpus
from typer.testing import CliRunner

from dlm_control import cli, load
from dlm_control.control.controller import Controller
from dlm_control.controllers.linguistics.taggers import tags_of, tree_of
from dlm_control.controllers.linguistics.trees import constituents
from dlm_control.controllers.pos import PartsOfSpeech
from dlm_control.controllers.span import Span
from dlm_control.controllers.tree import SyntaxTree

SMALL = "model: {width: 64, depth: 2, heads: 4}, tokens: 900"


@pytest.mark.slow
def test_a_corpus_of_ones_own_becomes_a_model_that_tags_trees_and_spans_steer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sentences = toy_corpus(2000)
    Path("own.txt").write_text("\n".join(sentences) + "\n")
    _written("lm.yaml", "diffusion-lm", 700, f"text_column: text, {SMALL}", "freeze_embeddings_after: 200")
    _written("guide.yaml", "structure-guide", 500, SMALL, "least: 5")
    _written("teacher.yaml", "autoregressive-lm", 250, "text_column: text, width: 64, depth: 2, heads: 2", "tokens: 900")
    _dlm("train", "lm.yaml", "--data", "own.txt", "--out", "mine")
    _dlm("annotate", "own.txt", "--out", "annotated")
    _dlm("train", "guide.yaml", "--lm", "mine", "--data", "annotated/own.csv")
    _dlm("train", "teacher.yaml", "--data", "own.txt", "--out", "mine/teacher")
    _dlm("calibrate", "own.txt", "--teacher", "mine/teacher")

    lm = load("mine")
    expected = list(dict.fromkeys(toy_corpus(40, seed=1)))[:12]
    for control_of in (_tags, _tree, _span):
        controls = [control_of(text) for text in expected]
        with_it = [_score(control, [control]) for control in controls for _score in [_judged(lm, seed=0)]]
        without = [_score(control, []) for control in controls for _score in [_judged(lm, seed=0)]]
        print(control_of.__name__, round(fmean(with_it), 3), round(fmean(without), 3))
        assert fmean(with_it) > fmean(without) + 0.2, (control_of.__name__, with_it, without)

    lines = [{"name": str(i), "controls": [{"pos": " ".join(tags_of(text).universal)}]} for i, text in enumerate(expected[:4])]
    made_suite(tmp_path, lines, "tags_strict")
    _dlm("eval", "mine.yaml", "--model", "mine", "--data", ".", "--out", "runs")
    scores = json.loads(Path("runs/mine/scores.json").read_text())
    assert scores["manifest"]["scorers"]["teacher"].startswith("mine/teacher ") and scores["lm_score"]["mean"] < 4


def _judged(lm: object, seed: int) -> Callable[[Controller, Sequence[Controller]], float]:
    """Mean check of two texts of the expected length: the length alone is no success of the control."""
    from dlm_control.controllers.length import Length

    def score(control: Controller, steering: Sequence[Controller]) -> float:
        plan = control.plan(lm.backbone)  # type: ignore[attr-defined]
        words = plan.max_words or max(10, plan.min_words or 0)
        samples = lm.generate([*steering, Length(words)], 2, seed=seed, steps=16)  # type: ignore[attr-defined]
        return fmean(control.check(sample.text).score for sample in samples)

    return score


def _tags(text: str) -> Controller:
    return PartsOfSpeech(" ".join(tags_of(text).universal))


def _tree(text: str) -> Controller:
    tree = tree_of(text)
    open_tree = tree.copy(deep=True)
    for place in open_tree.treepositions("leaves"):
        open_tree[place] = "?"
    return SyntaxTree(open_tree)


def _span(text: str) -> Controller:
    """The longest prepositional, noun or verb phrase that does not begin the text."""
    phrases = [each for each in constituents(tree_of(text)) if each.first > 0 and each.label in ("PP", "NP", "VP")]
    chosen = max(phrases, key=lambda each: (each.last - each.first, each.first)) if phrases else constituents(tree_of(text))[0]
    return Span(list(chosen))


def _written(name: str, kind: str, steps: int, *recipe: str) -> None:
    settings = ", ".join(recipe)
    Path(name).write_text(
        f"kind: {kind}\nout: not-given\nsteps: {steps}\nwarmup: 20\nlr: 4.0e-3\nema: 0.98\neval_every: {steps}\n"
        f"save_every: {steps}\nrecipe: {{{settings}}}\n"
    )


def _dlm(*arguments: str) -> None:
    done = CliRunner().invoke(cli.build(), arguments)
    assert done.exit_code == 0, done.output
