"""The plugin keeps the contract of dlm-control."""

from __future__ import annotations

import pytest
from dlm_control_sentiment import Sentiment

from dlm_control import UsageError, check_controller

GOOD = "The Mill is a pub with a customer rating of 5 out of 5 ."
BAD = "The Mill is a pub with a low customer rating ."


@pytest.mark.parametrize("label", ["positive", "negative"])
def test_contract(label: str) -> None:
    satisfying, violating = (GOOD, BAD) if label == "positive" else (BAD, GOOD)
    check_controller(Sentiment(label), satisfying=[satisfying], violating=[violating], faulty=[lambda: Sentiment("cheerful")])


def test_a_missing_classifier_is_named() -> None:
    with pytest.raises(UsageError, match="no transformers sequence classifier"):
        Sentiment("positive", classifier="no/such/thing")
