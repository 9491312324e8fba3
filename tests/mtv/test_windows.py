"""The plan of a long video: windows cover it, share whole latents, and hold keyframes in the right latent."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from mtv.windows import Window, place_keyframes, plan, window_frames, window_text
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.clock import LatentClock
from shared.utils.errors import UserError


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


def test_keyframes_stand_in_the_window_that_makes_their_frame():
    windows = plan(33, 13, 5, 4)  # 0-12, 8-20, 16-28, 24-32
    assert place_keyframes([], windows, 8, 4) == [{}] * 4
    times = {0.0: (0, 0), 1 / 8: (0, 1), 0.6: (0, 1), 5 / 8: (0, 2), 12.9 / 8: (0, 3), 13 / 8: (1, 2), 32 / 8: (3, 2)}
    for time, (window, latent) in times.items():
        placed = place_keyframes([time], windows, 8, 4)
        assert [i for i, held in enumerate(placed) if held] == [window] and placed[window] == {latent: time}
        clock = LatentClock.causal_video(4, 8.0, 4).shifted(windows[window].start / 8)
        assert int(clock.index(torch.tensor(time))) == latent
    assert place_keyframes([0.7 / 3 * 3], plan(60, 33, 5, 4), 30, 4)[0] == {6: 0.7}  # 21, rounded down to 20.999...
    assert place_keyframes([1.7, 0.0], windows, 8, 4) == [{0: 0.0}, {2: 1.7}, {}, {}]


@pytest.mark.parametrize("time", [4.125, 4.2, -0.01, float("nan"), float("inf")])
def test_keyframes_outside_the_video_are_refused(time):
    with pytest.raises(UserError, match=f"keyframe at {time:g} s; the video lasts from 0 to 4.125 s"):
        place_keyframes([time], plan(33, 13, 5, 4), 8, 4)


def test_two_keyframes_in_one_latent_are_refused():
    with pytest.raises(UserError, match=r"0\.25 s and 0\.5 s share a latent of 4 frames"):
        place_keyframes([0.25, 0.5], plan(33, 13, 5, 4), 8, 4)
    assert place_keyframes([0.5, 0.625], plan(33, 13, 5, 4), 8, 4)[0] == {1: 0.5, 2: 0.625}


def test_a_windows_texts_are_those_that_count_in_it():
    prompts = [TimedPrompts((0.0, 1.0, 2.0), ("a", "b", "a"), fade=0.5), TimedPrompts.of("c")]
    texts = {name: torch.full((3, 2), float(value)) for value, name in enumerate("abc")}

    def found(start: float, count: int = 4):
        clock = LatentClock.at_rate(count, 4.0).shifted(start)
        text = window_text(prompts, texts, clock)
        parts = [(text, None)] if isinstance(text, torch.Tensor) else text.layers()
        return [("".join("abc"[int(x)] for x in one[:, 0, 0]), weight) for one, weight in parts]

    assert found(0.0, 2) == [("ac", None)] and found(1.25, 2) == [("bc", None)]
    both = found(0.5)  # centres at 0.625, 0.875, 1.125, 1.375
    assert [names for names, _ in both] == ["ac", "bc"]
    torch.testing.assert_close(both[1][1], torch.tensor([[0, 0.25, 0.75, 1], [0, 0, 0, 0]]))
    assert [names for names, _ in found(0.5, 8)] == ["ac", "bc"]  # the first text and the third are one
