"""What the windows of a long video hold: keyframes in the right latent, and the texts of their time."""

from __future__ import annotations

import pytest
import torch

from mtv.windows import place_keyframes, window_text
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.clock import LatentClock
from shared.utils.errors import UserError
from shared.utils.windows import plan


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
