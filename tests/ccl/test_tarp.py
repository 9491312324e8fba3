"""TARP: partitions against dense masks for every (F, A), windows by rates, drift, coverage, invariance to offsets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ccl.tarp import _group, align, centres, partition, window_size
from shared.nn.clock import LatentClock

FRAMES, TOKENS = range(1, 70), range(1, 400)
AUDIO = {tokens: LatentClock.at_rate(tokens, 25.0) for tokens in TOKENS}
ANY_CLOCK = {frames: LatentClock.causal_video(frames, 16.0, 4) for frames in FRAMES}

# Every latent frame of every F, one after the other: F, its index i, and its start and end as parts of the duration.
ROW_F = np.repeat(FRAMES, FRAMES)
ROW_I = np.concatenate([np.arange(frames) for frames in FRAMES])
CAUSAL = np.maximum(4 * ROW_I - 3, 0) / (4 * ROW_F - 3), (4 * ROW_I + 1) / (4 * ROW_F - 3)
UNIFORM = ROW_I / ROW_F, (ROW_I + 1) / ROW_F


def matching_clocks(frames: int, tokens: int) -> tuple[LatentClock, LatentClock]:
    """Causal video and 25 Hz audio of the same duration."""
    return LatentClock.causal_video(frames, (4 * frames - 3) * 25 / tokens, 4), AUDIO[tokens]


def dense(
    tokens: int, edges: tuple[np.ndarray, np.ndarray] | None, window_from: str = "counts"
) -> tuple[np.ndarray, np.ndarray]:
    """From the design's text: the mask [all rows, A] of what video reads, and the frame [all F, A] that audio reads.

    `edges` None: the paper's form. By rates a whole latent is four frames of the clip's 4F − 3.
    """
    c, token, frames = tokens // ROW_F, np.arange(tokens), np.array(FRAMES)[:, None]
    if window_from == "rates":
        c = 4 * tokens // (4 * ROW_F - 3)
    size = np.minimum(tokens, 3 * np.maximum(1, c))
    if edges is None:
        middle = c // 2 + c * ROW_I
        frame = token * frames // tokens
    else:
        starts, ends = (edge * tokens for edge in edges)  # in audio tokens
        middle = np.floor((starts + ends) / 2 + 1e-7)
        over = ends[:, None] <= token + 0.5 + 1e-7  # frames that end before the token's centre
        frame = np.add.reduceat(over, np.flatnonzero(ROW_I == 0), axis=0, dtype=int)
    low = np.clip(middle - size // 2, 0, tokens - size)[:, None]
    return (low <= token) & (token < low + size[:, None]), np.minimum(frame, frames - 1)


def gathered(tokens: int, centre: str, mode: str, window_from: str = "counts") -> tuple[np.ndarray, np.ndarray]:
    """The same from what attention gathers: the windows, and the group in which each audio token stands.

    All F of one A are grouped in one call, as if their frames were those of one long video.
    """
    reads, frame_of, audio, place = np.zeros((len(ROW_F), tokens), dtype=bool), [], AUDIO[tokens], 0
    for frames in FRAMES:
        window, frame = partition(video_clock(frames, tokens, mode), audio, centre, window_from)
        reads[place + np.arange(frames)[:, None], window.numpy()] = True
        frame_of.append(frame + place)
        place += frames
    group = _group(torch.cat(frame_of), place)
    groups, slot = group["groups"].numpy(), group["slot"].numpy()
    assert (groups.ravel()[slot] == np.arange(len(slot))).all()
    return reads, ROW_I[slot // groups.shape[1]].reshape(-1, tokens)


def video_clock(frames: int, tokens: int, mode: str) -> LatentClock:
    """Of the audio's duration; for `any`, a clock that does not matter."""
    if mode == "any":
        return ANY_CLOCK[frames]
    return LatentClock.uniform(frames, tokens / 25) if mode == "uniform" else matching_clocks(frames, tokens)[0]


@pytest.mark.parametrize(
    ("mode", "window_from", "tokens"),
    [("causal", "rates", TOKENS), ("causal", "counts", TOKENS[::4]), ("uniform", "counts", TOKENS)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_exact_gathers_the_dense_masks_keys_for_every_size(mode, window_from, tokens):
    edges = CAUSAL if mode == "causal" else UNIFORM
    first = np.flatnonzero(ROW_I == 0)
    for count in tokens:
        (reads, frame), (mask, expected) = gathered(count, "exact", mode, window_from), dense(count, edges, window_from)
        assert (reads == mask).all() and (frame == expected).all(), f"A = {count}"
        assert np.logical_or.reduceat(reads, first, axis=0).all(), f"an audio token is unread at A = {count}"


def test_paper_gathers_the_dense_masks_keys_for_every_size():
    """The floor form does not look at the clocks, so that both modes are this one."""
    for tokens in TOKENS:
        (reads, frame), (mask, expected) = gathered(tokens, "paper", "any"), dense(tokens, None)
        assert (reads == mask).all() and (frame == expected).all(), f"A = {tokens}"


def clip_clocks(seconds: float, fps: float) -> tuple[LatentClock, LatentClock]:
    """Those of the toy world's codecs: 4 frames a latent after the first, 25 tokens a second, the last ones filled."""
    frames = round(seconds * fps)
    video = LatentClock.causal_video(1 + math.ceil((frames - 1) / 4), fps, 4)
    return video, LatentClock.at_rate(math.ceil(frames / fps * 25 - 1e-9), 25.0)


@pytest.mark.parametrize(
    ("fps", "size"),
    [(12, 24), (12.5, 24), (15, 18), (16, 18), (20, 15), (24, 12), (25, 12), (24000 / 1001, 12), (29.97, 9), (30, 9)],
)
def test_a_window_by_rates_is_equally_long_at_any_length(fps, size):
    """Three whole latents: at 12.5 and 25 frames a second the tokens of one are a whole number, which is not lost."""
    for seconds in (1, 2, 4, 6, 8, 30):
        video, audio = clip_clocks(seconds, fps)
        for mode in ("causal", "uniform"):
            found = align.__wrapped__(video, audio, "exact", mode)
            assert found.window.shape == (len(video), size), f"{seconds} s, {mode}"
            assert found.video_reads(len(audio)).any(0).all(), f"a token is unread at {seconds} s, {mode}"


def test_a_window_by_counts_grows_with_the_clip():
    """As the causal clock's first latent is one frame: the checkpoint of this key's default was trained with 15."""
    sizes = [
        align.__wrapped__(*clip_clocks(seconds, 16), window_from="counts").window.shape[1] for seconds in (2, 4, 6)
    ]
    assert sizes == [15, 15, 18]
    for seconds in (1, 2, 4, 6, 8):  # the paper's form has counts only
        video, audio = clip_clocks(seconds, 16)
        expected = 3 * (len(audio) // len(video))
        assert window_size(video, audio, "paper", "rates") == window_size(video, audio, "paper", "counts") == expected


@pytest.mark.parametrize("frames", [17, 21, 33])
def test_the_beginning_of_a_clip_has_the_windows_of_the_clip(frames):
    """Away from its end, where windows slide inwards: a shorter clip is the same to the model, up to there."""
    (video, audio), (whole_video, whole_audio) = clip_clocks(frames / 16, 16), clip_clocks(8, 16)
    part, whole = align(video, audio), align(whole_video, whole_audio)
    inner = int((part.window[:, -1] < len(audio) - 1).sum())
    assert inner >= len(video) - 3
    assert torch.equal(part.window[:inner], whole.window[:inner])
    torch.testing.assert_close(part.window_offset[:inner], whole.window_offset[:inner])
    heard = int((part.frame < len(video) - 1).sum())
    assert torch.equal(part.frame[:heard], whole.frame[:heard])


@pytest.mark.parametrize(
    ("frames", "tokens", "size"), [(1, 2, 2), (1, 50, 18), (2, 5, 5), (5, 17, 17), (5, 18, 18), (9, 1, 1)]
)
def test_a_window_by_rates_is_no_longer_than_the_sound(frames, tokens, size):
    """A still picture and clips shorter than a latent too; a token is read at least where latents are shorter."""
    video, audio = LatentClock.causal_video(frames, 16, 4), LatentClock.at_rate(tokens, 25.0)
    found = align(video, audio)
    assert found.window.shape == (frames, size)
    assert found.window.min() >= 0 and found.window.max() < tokens
    slow = LatentClock.at_rate(tokens, 2.0)  # half a token a latent
    assert align(video, slow).window.shape == (frames, min(3, tokens))


def test_exact_centres_are_within_one_audio_token_of_the_true_time():
    for tokens in range(1, 400, 7):
        for frames in FRAMES:
            video, audio = matching_clocks(frames, tokens)
            late = audio.centres[centres(video, audio, "exact")] - video.centres
            assert late.abs().max() <= 0.5 / 25 + 1e-6, f"F = {frames}, A = {tokens}"


@pytest.mark.parametrize("centre", ["exact", "paper"])
@pytest.mark.parametrize("mode", ["causal", "uniform"])
@pytest.mark.parametrize("window_from", ["rates", "counts"])
def test_an_alignment_is_made_of_this_partition(centre, mode, window_from):
    rng = np.random.default_rng(0)
    for frames, tokens in zip(rng.integers(1, 70, 50).tolist(), rng.integers(1, 400, 50).tolist(), strict=True):
        video, audio = matching_clocks(frames, tokens)
        found = align.__wrapped__(video, audio, centre, mode, window_from)
        if mode == "uniform":
            video = LatentClock.uniform(frames, audio.duration, rate=video.rate)
        window, frame = partition(video, audio, centre, window_from)
        assert torch.equal(found.window, window) and torch.equal(found.frame, frame)
        assert torch.equal(found.slot, _group(frame, frames)["slot"])
        position = video.position(audio.centres)
        assert torch.equal(found.window_offset, position[window] - torch.arange(frames)[:, None])
        assert torch.equal(found.offset, position - frame)
        assert torch.equal(found.video_reads(tokens).sum(1), torch.full((frames,), window.shape[1]))
        assert found.audio_reads().sum() == tokens


@pytest.mark.parametrize(
    ("frames", "tokens", "seconds", "drift", "unread"),
    [
        (31, 157, 157 / 31.25, 0.06, 0), (61, 314, 314 / 31.25, 0.29, 4), (21, 127, 127 / 25, 0.02, 0),
        (21, 158, 158 / 31.25, 0.34, 4), (49, 173, 173 / 21.5, 1.20, 23),
    ],
)  # fmt: skip
def test_the_paper_form_drifts_as_reported_and_exact_does_not(frames, tokens, seconds, drift, unread):
    audio = LatentClock.uniform(tokens, seconds)
    video = LatentClock.uniform(frames, seconds)
    paper = align.__wrapped__(video, audio, "paper", "uniform")
    exact = align.__wrapped__(video, audio, "exact", "uniform")
    c = tokens // frames
    last = c // 2 + c * (frames - 1)  # the centre before the window slides
    late = float(video.centres[-1]) - (last + (0.5 if c % 2 else 0.0)) * seconds / tokens
    assert late == pytest.approx(drift, abs=0.03)
    assert int((~paper.video_reads(tokens).any(0)).sum()) == unread
    assert exact.video_reads(tokens).any(0).all()


@pytest.mark.parametrize(("frames", "c"), [(1, 7), (4, 3), (10, 5), (31, 5), (60, 1), (13, 4), (8, 6)])
def test_exact_and_paper_agree_where_f_divides_a(frames, c):
    video, audio = LatentClock.causal_video(frames, 16.0, 4), LatentClock.at_rate(frames * c, 25.0)
    exact, paper = (align.__wrapped__(video, audio, centre, "uniform", "counts") for centre in ("exact", "paper"))
    for name in ("window", "frame", "groups", "slot"):
        assert torch.equal(getattr(exact, name), getattr(paper, name)), name


@pytest.mark.parametrize("seconds", [1 / 3, -7.77, 3600.123])
@pytest.mark.parametrize("mode", ["causal", "uniform"])
def test_a_shift_of_both_clocks_changes_no_partition_and_no_position(mode, seconds):
    for frames, tokens in [(9, 50), (21, 127), (49, 173), (40, 31), (8, 48)]:
        video, audio = matching_clocks(frames, tokens)
        here = align.__wrapped__(video, audio, "exact", mode)
        there = align.__wrapped__(video.shifted(seconds), audio.shifted(seconds), "exact", mode)
        for name in ("window", "frame", "groups", "slot"):
            assert torch.equal(getattr(here, name), getattr(there, name)), name
        for name in ("window_offset", "offset"):
            torch.testing.assert_close(getattr(here, name), getattr(there, name), rtol=0, atol=1e-8)


def test_offsets_are_time_differences_in_units_of_video_latents():
    video, audio = LatentClock.causal_video(9, 16.0, 4), LatentClock.at_rate(51, 25.0)
    found = align(video, audio)
    seconds = audio.centres[found.window] - video.centres[:, None]
    inside = found.window_offset.abs() <= 0.5
    lasts = torch.tensor(video.ends).double() - torch.tensor(video.starts).double()
    assert inside.any(1).all()
    torch.testing.assert_close((found.window_offset * lasts[:, None])[inside], seconds[inside])
    assert (found.offset.abs() <= 0.5 + 1e-9).all()


def test_a_group_may_be_longer_than_the_mean():
    """On the causal clock the first latent is short, so others hold more than ceil(A / F) tokens."""
    video, audio = LatentClock.causal_video(3, 16.0, 4), LatentClock.at_rate(15, 25.0)
    assert align(video, audio).groups.shape[1] > math.ceil(15 / 3)


def test_equal_clocks_are_aligned_once():
    assert align(*matching_clocks(5, 30)) is align(*matching_clocks(5, 30))
