"""Reasons to refuse a clip, and models that are loaded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_clips import ArrayMedia, moving, tone

from shared.evaluation.metrics.base import Tools, silent, too_short, wrong_fps


def test_reasons() -> None:
    media = ArrayMedia(moving(12), 24.0, tone(0.5))
    assert too_short(media, 0.5) == "" and too_short(media, 1.0) == "shorter than 1 s"
    assert wrong_fps(media, 25.0) == "" and wrong_fps(media, 30.0) == "24 frames per second; 30 are read"
    assert silent(media, 16000) == "" and silent(ArrayMedia(sound=np.zeros(99, np.float32)), 16000) == "silent"


def test_a_model_is_loaded_once() -> None:
    loaded = []
    tools = Tools({"clip": Path("x")}, "cpu", 3)
    for _ in range(2):
        assert tools.load("clip", lambda *given: loaded.append(given) or len(loaded)) == 1
    assert loaded == [(Path("x"), "cpu", 3)]
    with pytest.raises(KeyError):
        tools.load("clap", lambda *given: None)
