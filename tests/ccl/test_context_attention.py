"""CCA: gathered attention against a dense mask, context tokens, and the zero start."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import randomise
from torch import Tensor

from ccl import context_attention
from ccl.context_attention import AudioContextAttention, ContextAttention, VideoContextAttention
from ccl.tarp import Alignment, align
from shared.nn.clock import LatentClock
from shared.nn.rope import rotate, time_rotary

SPACE, HEADS, DIM, LCT = 3, 2, 16, 4
PAIRS = np.random.default_rng(0).integers((1, 1), (70, 400), (100, 2)).tolist()


def attention(kind: type[ContextAttention], query_dim: int = 10, context_dim: int = 14) -> ContextAttention:
    torch.manual_seed(0)
    cca = kind(query_dim, context_dim, HEADS, DIM, LCT)
    randomise(cca)
    return cca.eval()


def clocks(frames: int, tokens: int) -> tuple[LatentClock, LatentClock]:
    return LatentClock.causal_video(frames, (4 * frames - 3) * 25 / tokens, 4), LatentClock.at_rate(tokens, 25.0)


def turned(x: Tensor, positions: Tensor) -> Tensor:
    return rotate(x, time_rotary(positions, DIM))


def dense(cca: ContextAttention, x: Tensor, y: Tensor, mask: Tensor, logits: Tensor) -> Tensor:
    """The update from `logits` [B, h, N, M] of all pairs and a mask [N, M], with the context tokens in front."""
    k, v = cca._key_value(cca.context_tokens)
    context = torch.einsum("bnhd,lhd->bhnl", cca.queries(x), k)
    logits = torch.cat([context, logits.masked_fill(~mask, -torch.inf)], -1) / DIM**0.5
    values = torch.cat([v.expand(len(x), -1, -1, -1), cca.key_value(y)[1]], 1)
    return cca.to_out(torch.einsum("bhnm,bmhd->bnhd", logits.softmax(-1), values).flatten(2))


def dense_video(cca: ContextAttention, x: Tensor, y: Tensor, found: Alignment, position: Tensor) -> Tensor:
    frames = len(found.window)
    q, k = cca.queries(x).unflatten(1, (frames, SPACE)), cca.key_value(y)[0]
    difference = position[None] - torch.arange(frames)[:, None]
    keys = turned(k[:, None].expand(-1, frames, -1, -1, -1), difference)
    logits = torch.einsum("bfshd,bfahd->bhfsa", q, keys).flatten(2, 3)
    return dense(cca, x, y, found.video_reads(y.shape[1]).repeat_interleave(SPACE, 0), logits)


def dense_audio(cca: ContextAttention, x: Tensor, y: Tensor, found: Alignment, position: Tensor) -> Tensor:
    frames = len(found.window)
    q, k = cca.queries(x), cca.key_value(y)[0].unflatten(1, (frames, SPACE))
    difference = position[:, None] - torch.arange(frames)[None]
    queries = turned(q[:, :, None].expand(-1, -1, frames, -1, -1), difference)
    logits = torch.einsum("bafhd,bfshd->bhafs", queries, k).flatten(3, 4)
    return dense(cca, x, y, found.audio_reads().repeat_interleave(SPACE, 1), logits)


def gathered(cca: ContextAttention, x: Tensor, y: Tensor, found: Alignment, direction: str) -> Tensor:
    if direction == "audio to video":
        return cca(x, cca.key_value(y), alignment=found, rotary=time_rotary(found.window_offset, DIM))
    return cca(x, cca.key_value(y), alignment=found, rotary=time_rotary(found.offset, DIM))


def case(frames: int, tokens: int, direction: str) -> tuple[ContextAttention, Tensor, Tensor]:
    video, audio = torch.randn(2, frames * SPACE, 10), torch.randn(2, tokens, 14)
    if direction == "audio to video":
        return attention(VideoContextAttention), video, audio
    return attention(AudioContextAttention, 14, 10), audio, video


@torch.no_grad()
@pytest.mark.parametrize("direction", ["audio to video", "video to audio"])
def test_gathered_attention_is_dense_attention_under_the_mask(direction):
    forms = [(centre, mode) for centre in ("exact", "paper") for mode in ("causal", "uniform")]
    for number, (frames, tokens) in enumerate(PAIRS):
        cca, x, y = case(frames, tokens, direction)
        video, audio = clocks(frames, tokens)
        centre, mode = forms[number % 4]
        found = align.__wrapped__(video, audio, centre, mode)
        if mode == "uniform":
            video = LatentClock.uniform(frames, audio.duration)
        reference = dense_video if direction == "audio to video" else dense_audio
        expected = reference(cca, x, y, found, video.position(audio.centres))
        assert expected.std() > 0.05
        torch.testing.assert_close(gathered(cca, x, y, found, direction), expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("direction", ["audio to video", "video to audio"])
@pytest.mark.parametrize("seconds", [0.125, 1 / 3, 777.7])
def test_a_shift_of_both_clocks_changes_no_output(direction, seconds):
    cca, x, y = case(9, 50, direction)
    video, audio = clocks(9, 50)
    here, there = align.__wrapped__(video, audio), align.__wrapped__(video.shifted(seconds), audio.shifted(seconds))
    torch.testing.assert_close(
        gathered(cca, x, y, there, direction), gathered(cca, x, y, here, direction), rtol=0, atol=1e-6
    )


@torch.no_grad()
@pytest.mark.parametrize("direction", ["audio to video", "video to audio"])
def test_a_shift_of_one_clock_does_change_the_output(direction):
    cca, x, y = case(9, 50, direction)
    video, audio = clocks(9, 50)
    here, there = align.__wrapped__(video, audio), align.__wrapped__(video, audio.shifted(0.25))
    assert not torch.allclose(gathered(cca, x, y, there, direction), gathered(cca, x, y, here, direction), atol=1e-3)


@torch.no_grad()
def test_what_no_window_holds_changes_nothing_and_what_it_holds_does():
    cca, x, y = case(9, 50, "audio to video")
    found = align(*clocks(9, 50))
    before = gathered(cca, x, y, found, "audio to video").unflatten(1, (9, SPACE))
    y[:, 49] += 1
    moved = (gathered(cca, x, y, found, "audio to video").unflatten(1, (9, SPACE)) - before).abs().amax((0, 2, 3)) > 0
    assert torch.equal(moved, found.video_reads(50)[:, 49])


def test_an_untrained_cca_adds_nothing():
    cca, found = VideoContextAttention(10, 14, HEADS, DIM, LCT), align(*clocks(4, 20))
    x, y = torch.randn(1, 4 * SPACE, 10), torch.randn(1, 20, 14)
    assert not cca.unconditional(x).any() and not gathered(cca, x, y, found, "audio to video").any()


@torch.no_grad()
def test_unconditional_is_attention_over_the_context_tokens():
    cca, x = attention(VideoContextAttention), torch.randn(2, 6, 10)
    nothing = torch.zeros(2, 0, 14)
    expected = dense(cca, x, nothing, torch.ones(6, 0, dtype=torch.bool), torch.zeros(2, HEADS, 6, 0))
    torch.testing.assert_close(cca.unconditional(x), expected, rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("direction", ["audio to video", "video to audio"])
def test_context_tokens_are_read_while_forward_runs_and_only_then(direction: str):
    """ZeRO-3 gathers a module's own parameters before its forward and lets go of them behind it."""
    (cca, x, y), found = case(4, 20, direction), align(*clocks(4, 20))
    expected = cca.unconditional(x), gathered(cca, x, y, found, direction)
    whole = cca.context_tokens.data

    def hold(values: Tensor) -> None:
        cca.context_tokens.data = values

    cca.register_forward_pre_hook(lambda *_: hold(whole))
    cca.register_forward_hook(lambda *_: hold(whole[:0]))
    hold(whole[:0])
    for one, other in zip(expected, (cca.unconditional(x), gathered(cca, x, y, found, direction)), strict=True):
        assert torch.equal(one, other)
    assert not len(cca.context_tokens)


def test_a_fused_kernel_gets_both_queries_side_by_side(monkeypatch) -> None:
    """On a GPU, another backend or in a compiled block: the same in value and gradient."""
    cca, x, y = case(7, 33, "video to audio")
    found = align(*clocks(7, 33))
    x.requires_grad_()
    y.requires_grad_()
    learned = [x, y, *cca.parameters()]
    results = []
    for faster in (True, False):
        monkeypatch.setattr(context_attention, "products_are_faster", lambda x, faster=faster: faster)
        out = gathered(cca, x, y, found, "video to audio")
        results.append(
            [out, *torch.autograd.grad((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum(), learned)]
        )
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
