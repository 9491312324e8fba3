"""Latent clocks: intervals, positions, and look-ups that do not depend on the offset."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shared.nn.clock import LatentClock

CAUSAL = LatentClock.causal_video(4, 16.0, 4)


def test_causal_video_clock_has_one_frame_first_and_four_in_the_others():
    assert CAUSAL.starts == (0.0, 1 / 16, 5 / 16, 9 / 16)
    assert CAUSAL.ends == (1 / 16, 5 / 16, 9 / 16, 13 / 16)
    assert CAUSAL.duration == 13 / 16 and len(CAUSAL) == 4


def test_a_clock_knows_its_codecs_rate_at_any_length():
    for latents in (1, 2, 40):
        assert LatentClock.causal_video(latents, 24.0, 4).rate == 6.0
        assert LatentClock.at_rate(latents, 31.25).rate == 31.25
        assert LatentClock.uniform(latents, 2.0).rate == latents / 2
        assert LatentClock.uniform(latents, 2.0, rate=6.0).rate == 6.0
    assert CAUSAL.shifted(7.5).rate == CAUSAL.rate == 4.0


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(ValueError, match="latents a second"):
        LatentClock((0.0,), (1.0,), rate)


def test_at_rate_and_uniform_agree_where_they_mean_the_same():
    a, b = LatentClock.at_rate(50, 25.0), LatentClock.uniform(50, 2.0)
    torch.testing.assert_close(a.centres, b.centres, rtol=0, atol=1e-12)
    assert LatentClock.uniform(4, 2.0, start=3.0).starts == (3.0, 3.5, 4.0, 4.5)


def test_centres_stand_at_whole_positions_and_edges_half_way():
    starts, ends = (torch.tensor(edge, dtype=torch.float64) for edge in (CAUSAL.starts, CAUSAL.ends))
    torch.testing.assert_close(CAUSAL.position(CAUSAL.centres), torch.arange(4.0).double())
    torch.testing.assert_close(CAUSAL.position(starts), torch.arange(4.0).double() - 0.5)
    torch.testing.assert_close(CAUSAL.position(ends), torch.arange(4.0).double() + 0.5)


def test_position_goes_on_linearly_beyond_the_ends():
    times = torch.tensor([-1 / 16, 13 / 16 + 0.25], dtype=torch.float64)
    torch.testing.assert_close(CAUSAL.position(times), torch.tensor([-1.5, 4.5]).double())


def test_index_finds_the_latent_and_is_clamped():
    times = torch.tensor([-3.0, 0.0, 0.0624, 0.0625, 0.3, 0.3125, 9.0], dtype=torch.float64)
    assert CAUSAL.index(times).tolist() == [0, 0, 0, 1, 1, 2, 3]


@pytest.mark.parametrize("seconds", [1 / 3, 7.77, 1000.1, 86400.0])
def test_index_and_position_do_not_move_with_the_offset(seconds):
    video, audio = LatentClock.causal_video(40, 24.0, 4), LatentClock.at_rate(170, 25.0)
    moved = video.shifted(seconds)
    assert torch.equal(video.index(audio.centres), moved.index(audio.shifted(seconds).centres))
    torch.testing.assert_close(
        video.position(audio.centres), moved.position(audio.shifted(seconds).centres), rtol=0, atol=1e-8
    )


@pytest.mark.parametrize(
    ("starts", "ends", "message"),
    [
        ((), (), "at least one"),
        ((0.0,), (1.0, 2.0), "as many"),
        ((0.0,), (0.0,), "must last"),
        ((0.0, 2.0), (1.0, 3.0), "gap"),
    ],
)
def test_impossible_clocks_are_refused(starts, ends, message):
    with pytest.raises(ValueError, match=message):
        LatentClock(starts, ends, 1.0)


def test_equal_clocks_are_one_key():
    assert {CAUSAL: 1}[LatentClock.causal_video(4, 16.0, 4)] == 1
    assert replace(CAUSAL, rate=5.0) not in {CAUSAL: 1}
