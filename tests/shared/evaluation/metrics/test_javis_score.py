"""JavisScore: which frames of which windows count, and which clips are refused."""

from __future__ import annotations

import numpy as np
import pytest

from shared.evaluation.metrics.javis_score import JavisScore
from tests.shared.evaluation.metrics.test_audio_c import Angles, clip


def test_javis_score_takes_the_worst_frames_of_each_window() -> None:
    brightness = np.zeros(20)  # 2.5 s: two windows
    brightness[2:10] = 50
    result = JavisScore(Angles()).clip(clip(brightness, 0.5))
    # six of the 16 frames of a window count: in the first all at 0, in the second too, for it has four times two
    assert result.value == pytest.approx(np.cos(0.5), abs=1e-4) and len(result.facts["windows"]) == 2
    brightness[10:] = 50
    second = JavisScore(Angles()).clip(clip(brightness, 0.5)).facts["windows"]
    assert second == pytest.approx([(2 * np.cos(0.5) + 4) / 6, 1], abs=1e-4)
    for media, reason in (
        (clip(np.zeros(15), 0.5), "shorter than 2 s"),
        (clip(np.zeros(20), 0.5, 4.0), "4 frames per second; 8 are read"),
        (clip(np.zeros(20), 0.0), "silent"),
    ):
        assert JavisScore(Angles()).clip(media).refused == reason
