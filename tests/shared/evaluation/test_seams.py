"""Seams: which seconds are made again, and which frames are around their ends."""

from __future__ import annotations

import numpy as np
import pytest

from shared.evaluation.seams import around, retaken
from shared.nn.clock import LatentClock


@pytest.mark.parametrize("latents", [5, 9, 17, 33])
def test_whole_latents_in_the_middle_are_made_again(latents: int) -> None:
    clock = LatentClock.causal_video(latents, 16.0, 4)
    start, end = retaken(clock)
    assert start in clock.starts and end in clock.starts and clock.starts[0] < start < end < clock.ends[-1]


def test_frames_within_a_quarter_of_a_second_of_a_seam_are_around_it() -> None:
    near, elsewhere = around(32, 16.0, (0.5, 1.5))
    assert np.flatnonzero(near).tolist() == [*range(4, 12), *range(20, 28)]
    assert (near ^ elsewhere).all()
