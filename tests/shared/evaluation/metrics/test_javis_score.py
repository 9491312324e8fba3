"""JavisScore: which frames of which windows count, and which clips are refused."""

from __future__ import annotations

import numpy as np
import pytest

from shared.evaluation.metrics.javis_score import JavisScore, JavisScoreImageBind, covering
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


def test_published_windows_are_of_every_frame_and_end_with_the_clip() -> None:
    assert covering(10, 4, 3) == [slice(0, 4), slice(3, 7), slice(6, 10)]
    assert covering(11, 4, 3)[-1] == slice(7, 11) and covering(4, 4, 3) == [slice(0, 4)] and covering(3, 4, 3) == []
    brightness = np.zeros(27)  # 2.7 s at 10 frames per second
    brightness[25:] = 50
    media = clip(brightness, 0.5, 10.0)
    whole = JavisScoreImageBind(Angles(), 10.0).clip(media).facts["windows"]
    assert whole == pytest.approx([np.cos(0.5)] * 2, abs=1e-4)  # the last 0.2 s are in no whole window
    published = JavisScoreImageBind(Angles(), published=True)
    each = published.clip(media).facts["windows"]
    assert each == pytest.approx([np.cos(0.5)] * 3, abs=1e-4)  # two of twenty frames are not among the lowest ones
    bright = clip(np.where(np.arange(27) < 14, 0, 50), 0.5, 10.0)
    each = published.clip(bright).facts["windows"]  # of the last window, frames 7 to 26, seven are dark and one is not
    assert each == pytest.approx([np.cos(0.5), np.cos(0.5), (7 * np.cos(0.5) + 1) / 8], abs=1e-4)
    assert published.clip(clip(np.zeros(19), 0.5, 10.0)).refused == "shorter than 2 s"
    told = published.preprocessing()
    assert told["published"] is True and "fps" not in told
    assert JavisScoreImageBind(Angles(), 4.0).preprocessing() | {"fps": 4.0, "published": False} == {
        "fps": 4.0, "published": False, "window": 2.0, "step": 0.5, "lowest": 0.4,
    }  # fmt: skip
