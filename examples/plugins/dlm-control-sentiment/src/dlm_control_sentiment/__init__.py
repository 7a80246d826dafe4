"""Steer text by a sequence classifier that was trained on clean text."""

from __future__ import annotations

from dlm_control_sentiment.controller import Sentiment

__all__ = ["Sentiment"]
