"""The frame rate in a video stream: Wan's output to the bit until it is trained, and what a clock tells when it is."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from shared.nn.clock import LatentClock
from shared.nn.dit import DiTStream, StreamConfig
from shared.nn.frame_rate import rate_features
from shared.utils.rng import generator

SIZES = {
    "in_channels": 4, "num_attention_heads": 2, "attention_head_dim": 24, "num_layers": 2, "ffn_dim": 64,
    "text_dim": 12, "freq_dim": 32,
}  # fmt: skip
RATE = "condition_embedder.rate_embedder.weight"


def pair() -> tuple[DiTStream, DiTStream]:
    """A stream with random weights throughout, and one with them that has a frame rate, too."""
    plain, told = DiTStream(StreamConfig(**SIZES)), DiTStream(StreamConfig(**SIZES, frame_rate=True))
    for name, parameter in plain.named_parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator(0, "weights", name))
    assert told.load_state_dict(plain.state_dict(), strict=False).missing_keys == [RATE]
    return plain.eval(), told.eval()


def given(frames: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = generator(0, "tests", "frame rate")
    latents, text = (torch.randn(shape, generator=draw) for shape in ((2, 4, frames, 4, 4), (2, 5, 12)))
    return latents, torch.rand(2, frames, generator=draw), text


def clock(fps: float, frames: int = 3) -> LatentClock:
    return LatentClock.causal_video(frames, fps, 4)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fps", [12.0, 16.0, 29.97])
def test_untrained_it_is_the_stream_without_to_the_bit(dtype, fps):
    plain, told = (stream.to(dtype) for stream in pair())
    latents, sigma, text = (value.to(dtype) for value in given())
    for level in (sigma, sigma[:, 0]):
        expected = plain(latents, level, text)
        assert expected.std() > 0.1 and torch.equal(told(latents, level, text, clock(fps)), expected)


@torch.no_grad()
def test_trained_it_hears_the_rate_and_nothing_else_of_the_clock():
    _, told = pair()
    nn.init.normal_(told.get_parameter(RATE), std=0.3, generator=generator(0, "weights", "rate"))
    latents, sigma, text = given()
    at_16 = told(latents, sigma, text, clock(16))
    assert torch.equal(told(latents, sigma, text, clock(16).shifted(7.3)), at_16)
    assert torch.equal(told(latents, sigma, text, LatentClock.at_rate(3, 4.0)), at_16)
    for fps in (12, 15, 24, 30):
        assert not torch.allclose(told(latents, sigma, text, clock(fps)), at_16, atol=1e-2), fps
    # a still picture, too: its only latent lasts one frame, and its clock knows the codec's rate all the same
    still = latents[:, :, :1], sigma[:, :1], text
    assert not torch.allclose(told(*still, clock(16, 1)), told(*still, clock(24, 1)), atol=1e-2)


def test_its_weights_learn_though_they_are_zero():
    _, told = pair()
    latents, sigma, text = given()
    told(latents, sigma, text, clock(24)).square().mean().backward()
    grad = told.get_parameter(RATE).grad
    assert grad is not None and grad.abs().amax(0).min() > 0


def test_rates_are_told_apart_in_their_order():
    """What is trained at some rates serves between them: nearer rates have nearer features, and ratios count."""
    features = {fps: torch.tensor(rate_features(fps / 4)).double() for fps in (12, 15, 16, 20, 24, 25, 29.97, 30, 60)}
    far = [float((features[12] - found).norm()) for found in features.values()]
    assert far[0] == 0 and all(later > sooner for sooner, later in pairwise(far[:-1]))
    steps = [float((features[2 * fps] - features[fps]).norm()) for fps in (12, 15, 30)]
    assert steps[0] > 1 and steps == pytest.approx([steps[0]] * 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"frame_rate": 24}, "frame_rate is 24; true or false"), ({"frame_rate": True, "grid": "time"}, "grid 'video'")],
)
def test_a_number_and_an_audio_stream_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        StreamConfig(**SIZES, **changes)


def test_it_needs_the_clock():
    with pytest.raises(ValueError, match="needs the clock"):
        pair()[1](*given())
