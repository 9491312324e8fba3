from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared.curation.pictures import small_pictures
from shared.data.media_write import write_audio, write_video
from shared.utils.errors import UserError


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """Two seconds, each frame brighter than the one before."""
    frames = np.stack([np.full((40, 80, 3), 4 * k, np.uint8) for k in range(48)])
    write_video(tmp_path / "ramp.mp4", frames, 24)
    return tmp_path / "ramp.mp4"


@pytest.mark.parametrize(("first", "after"), [(0, 48), (0, 1), (17, 30), (47, 48), (30, 48)])
def test_a_span_has_its_frames_and_no_other(ramp: Path, first: int, after: int) -> None:
    pictures = list(small_pictures(ramp, first / 24, after / 24, 20))
    assert [round(24 * one.time) for one in pictures] == list(range(first, after))
    assert [one.pixels.shape for one in pictures] == [(10, 20, 3)] * (after - first)
    assert np.allclose([one.pixels.mean() for one in pictures], 4 * np.arange(first, after), atol=2)


def test_pictures_are_never_made_larger(ramp: Path) -> None:
    assert next(small_pictures(ramp, 0, 1, 4000)).pixels.shape == (40, 80, 3)


def test_files_without_pictures_there_are_refused(ramp: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pictures between 5 s and 6 s"):
        list(small_pictures(ramp, 5, 6, 20))
    write_audio(tmp_path / "x.wav", np.zeros((1, 16000), np.float32), 16000)
    with pytest.raises(UserError, match="has no video stream"):
        list(small_pictures(tmp_path / "x.wav", 0, 1, 20))
