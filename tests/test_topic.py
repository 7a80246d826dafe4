"""The topic control: which words it raises, when, and that texts come nearer to the topic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_cli import dlm

from dlm_control import Control, Controller, LanguageModel, State, UsageError, load
from dlm_control.controllers.guides.sentence_encoder import ENCODER
from dlm_control.controllers.length import Length
from dlm_control.controllers.topic import NATS, Topic

pytest.importorskip(ENCODER)
FAMILIES = "families with children"


def test_the_words_of_a_topic_are_raised_and_the_push_fades(e2e: LanguageModel) -> None:
    lm, topic = e2e.backbone, Topic(FAMILIES)
    scores = topic.bind(lm)
    [kids], [river] = lm.ids("children", "test"), lm.ids("river", "test")
    assert scores[kids] > 2 > scores[river] and (scores >= 0).all() and scores[lm.tokenizer.all_special_ids].sum() == 0
    table = torch.zeros(1, 4, len(lm.vocabulary))
    pushes = []
    for t in (1.0, 0.25):
        state = State(table[..., :1], torch.tensor([t]), table[..., :1], table, torch.tensor([3]), lm, bound=scores)
        pushes.append(topic.word_log_likelihoods(state))
    assert float(pushes[0][0, 2, kids]) == pytest.approx(NATS * float(scores[kids]))
    torch.testing.assert_close(pushes[1], pushes[0] / 4)
    assert not pushes[0][0, 3:].any()  # behind the text


@pytest.mark.parametrize("model", ["e2e", "e2e-masked"])
def test_texts_come_nearer_to_the_topic(model: str) -> None:
    lm = load(model)

    def obeying(weight: float) -> int:
        controls: list[Controller | Control] = [Control("topic", Topic(FAMILIES), weight), Length(14)]
        return sum(sample.checks["topic"].passed for sample in lm.generate(controls, 6, seed=5, preset="fast", steps=12))

    assert obeying(2.0) >= obeying(0.0) + 2


def test_explain_names_the_words(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(f"preset: {{name: fast, steps: 4}}\ncontrols:\n  - topic: {FAMILIES}\n")
    raised = dlm("explain", tmp_path / "spec.yaml")
    assert raised.exit_code == 0 and "topic raises children" in raised.output.replace("families", "children"), raised.output


def test_the_corpus_may_be_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("Children play in the park.\nFamilies with children eat here.\nOur kids like it.\n")
    easy, strict = Topic(FAMILIES), Topic(FAMILIES, corpus=str(file))
    text = "The pub welcomes families with children."
    assert easy.check(text).passed and not strict.check(text).passed
    with pytest.raises(UsageError, match=r"topic: corpus: none.txt: no such file"):
        Topic(FAMILIES, corpus="none.txt")
    (tmp_path / "one.txt").write_text("Only one.\n")
    with pytest.raises(UsageError, match="has 1 sentences; expected two or more"):
        Topic(FAMILIES, corpus=str(tmp_path / "one.txt")).check(text)
