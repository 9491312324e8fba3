"""Clean spans: which latents lie inside given seconds, and how training draws them."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import AUDIO_CLOCK, VIDEO_CLOCK

from ccl.spans import draw_spans, in_clean_latents, joined, latents_inside, spans_of
from shared.nn.clock import LatentClock
from shared.utils.errors import UserError

CLOCKS = LatentClock.causal_video(9, 16.0, 4), LatentClock.at_rate(50, 25.0)


def test_spans_are_sorted_and_joined_where_they_touch():
    assert joined([(1.0, 1.5), (0, 0.5), (0.5, 0.75)], 2.0) == [(0.0, 0.75), (1.0, 1.5)]
    assert joined([(0.2, 1.0), (0.3, 0.5)], 2.0) == [(0.2, 1.0)]


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([], "keep is empty"),
        ([(1.0, 1.0)], "keep has 1 to 1 s"),
        ([(0.0, 0.5), (1.0, 0.5)], "keep has 1 to 0.5 s"),
        ([(-0.1, 1.0)], "keep has -0.1 to 1 s"),
        ([(0.0, 2.5)], "keep has 0 to 2.5 s; each must end after its start, in 0 to 2 s"),
        ([(0.0, math.nan)], "keep has 0 to nan s"),
    ],
)
def test_spans_that_are_none_are_refused(spans, message):
    with pytest.raises(UserError, match=message):
        joined(spans, 2.0)


def test_a_latent_is_clean_if_it_lies_wholly_inside():
    # latent 0 is [0, 1/16), latent i is [(4i - 3)/16, (4i + 1)/16)
    assert latents_inside(VIDEO_CLOCK, [(0.0, 5 / 16)]).tolist() == [True, True, False, False]
    assert latents_inside(VIDEO_CLOCK, [(0.0, 8.9 / 16)]).tolist() == [True, True, False, False]
    assert latents_inside(VIDEO_CLOCK, [(0.02, 1.0)]).tolist() == [False, True, True, True]
    assert latents_inside(VIDEO_CLOCK, [(0.0, 1 / 16), (9 / 16, 1.0)]).tolist() == [True, False, False, True]
    assert latents_inside(AUDIO_CLOCK, [(0.04, 0.12)]).nonzero()[:, 0].tolist() == [1, 2]


def test_the_last_latent_ends_with_the_clip():
    """32 frames end in the middle of the latent of frames 29 to 32."""
    assert not latents_inside(CLOCKS[0], [(1.0, 2.0)])[-1]
    assert latents_inside(CLOCKS[0], [(1.0, 2.0)], duration=2.0)[-1]


def test_frames_of_clean_latents_are_the_spans_that_stay():
    mask = latents_inside(VIDEO_CLOCK, [(0.02, 0.6)])
    kept = in_clean_latents(VIDEO_CLOCK, mask, 13, 16.0)
    assert kept.nonzero()[:, 0].tolist() == list(range(1, 9)) and spans_of(kept, 16.0) == [(1 / 16, 9 / 16)]
    both = torch.tensor([1, 1, 0, 0, 1]).bool()
    assert spans_of(both, 2.0) == [(0.0, 1.0), (2.0, 2.5)] and spans_of(~both, 1.0) == [(2.0, 4.0)]


IDS = [f"clip{i}" for i in range(600)]


def test_spans_come_at_their_rate_in_every_form_and_never_fill_a_stream():
    video, audio = draw_spans(0.5, 1, 2, IDS, ["t2av"] * 600, CLOCKS)
    assert (video.any(1) | audio.any(1)).float().mean() == pytest.approx(0.5, abs=0.07)
    assert not video.all(1).any() and not audio.all(1).any()
    both, alone = video.any(1) & audio.any(1), video.any(1) ^ audio.any(1)
    assert float(both.sum() / (both | alone).sum()) == pytest.approx(0.5, abs=0.1)
    assert (video.any(1) & alone).any() and (audio.any(1) & alone).any()
    runs = [row.int().diff(prepend=torch.zeros(1, dtype=torch.int)).eq(1).sum() for row in video[video.any(1)]]
    forms = {(bool(row[0]), bool(row[-1]), int(n)) for row, n in zip(video[video.any(1)], runs, strict=True)}
    assert forms == {(True, False, 1), (False, True, 1), (False, False, 1), (True, True, 2)}


def test_spans_of_both_streams_are_the_same_seconds():
    video, audio = draw_spans(1.0, 1, 3, IDS[:50], ["t2av"] * 50, CLOCKS)
    starts, ends = (torch.tensor(times) for times in (CLOCKS[0].starts, CLOCKS[0].ends))
    for frames, tokens in zip(video, audio, strict=True):
        if frames.any() and tokens.any():
            for token in tokens.nonzero()[:, 0].tolist():  # all of its time is time of clean latents
                inside = (starts < (token + 1) / 25 - 1e-6) & (ends > token / 25 + 1e-6)
                assert frames[inside].all()


@pytest.mark.parametrize(
    ("task", "made"),
    [("t2v", (True, False)), ("a2v", (True, False)), ("t2a", (False, True)), ("v2a", (False, True)), ("mtv", (0, 0))],
)
def test_only_a_stream_that_is_made_keeps_spans(task, made):
    masks = draw_spans(1.0, 1, 2, IDS[:40], [task] * 40, CLOCKS)
    for mask, makes in zip(masks, made, strict=True):
        assert mask.any(1).float().mean() > 0.9 if makes else not mask.any()


def test_a_clips_spans_depend_on_its_name_and_step_alone():
    together = draw_spans(0.7, 1, 2, IDS[:20], ["part"] * 20, CLOCKS)
    alone = draw_spans(0.7, 1, 2, IDS[7:8], ["part"], CLOCKS)
    other = draw_spans(0.7, 1, 3, IDS[:20], ["part"] * 20, CLOCKS)
    for whole, one, later in zip(together, alone, other, strict=True):
        assert torch.equal(whole[7:8], one) and not torch.equal(whole, later)


def test_short_clips_keep_something_and_not_all():
    short = LatentClock.causal_video(2, 16.0, 4), LatentClock.at_rate(8, 25.0)
    video, audio = draw_spans(1.0, 0, 0, IDS[:60], ["t2av"] * 60, short)
    assert video.any() and audio.any() and not video.all(1).any() and not audio.all(1).any()
    single = LatentClock.causal_video(1, 16.0, 4), LatentClock.at_rate(2, 25.0)
    assert not any(mask.any() for mask in draw_spans(1.0, 0, 0, IDS[:9], ["t2av"] * 9, single))
