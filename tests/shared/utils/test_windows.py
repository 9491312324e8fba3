"""The plan of a long clip: windows cover it and share whole latents."""

from __future__ import annotations

import itertools
import math

import pytest

from shared.utils.errors import UserError
from shared.utils.windows import Window, plan, window_frames


@pytest.mark.parametrize(("window", "overlap"), [(49, 5), (33, 5), (33, 1), (20, 9), (6, 5)])
def test_windows_make_every_frame_once(window, overlap):
    for frames in range(1, 150):
        windows = plan(frames, window, overlap, temporal_stride=4)
        new = [frame for w in windows for frame in range(w.start + w.given, w.end)]
        assert new == list(range(frames))
        count = 1 if frames <= window else math.ceil((frames - window) / (window - overlap)) + 1
        assert len(windows) == count and all(w.frames == window for w in windows[:-1])
        for before, after in itertools.pairwise(windows):
            assert after.given == overlap == before.end - after.start and after.frames > overlap
        assert windows[0].given == 0 and windows[-1].end == frames


def test_the_papers_windows():
    """240 frames: the official count of windows loses the tail at 225."""
    windows = plan(240, 49, 5, 4)
    assert windows[:2] == [Window(0, 49, 0), Window(44, 49, 5)] and windows[-1] == Window(220, 20, 5)
    assert len(windows) == 6


@pytest.mark.parametrize("frames", [0, 4, 6, 8, -3])
def test_an_overlap_that_fills_no_whole_latents_is_refused(frames):
    with pytest.raises(UserError, match=rf"share {frames} frames.*give (1|5|9)$"):
        plan(100, 33, frames, 4)
    assert len(plan(100, 33, abs(frames) + 1)) > 1  # whole at one frame per latent


def test_windows_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="window of 5 frames shares 5"):
        plan(100, 5, 5, 4)
    with pytest.raises(UserError, match="video of 0 frames"):
        plan(0, 33, 5, 4)


def test_a_window_in_seconds_fills_whole_latents():
    assert [window_frames(2, fps, 4) for fps in (8, 16, 24, 25)] == [17, 33, 49, 49]
    assert window_frames(3.5, 16, 4) == 57 and window_frames(0.01, 16, 4) == 5 and window_frames(2, 24, 8) == 49
    for seconds in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="positive number of seconds"):
            window_frames(seconds, 16, 4)
