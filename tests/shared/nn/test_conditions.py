"""What a stream is told beside noise level and text: Wan's output to the bit until it is trained, and then more."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.nn.clock import LatentClock
from shared.nn.dit import DiTStream, StreamConfig
from shared.utils.rng import generator

SIZES = {
    "in_channels": 4, "num_attention_heads": 2, "attention_head_dim": 24, "num_layers": 1, "ffn_dim": 64,
    "text_dim": 12, "freq_dim": 32,
}  # fmt: skip
CLOCK = LatentClock.causal_video(3, 24.0, 4)
UNTIL = "condition_embedder.until_embedder."


def given() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = generator(0, "tests", "conditions")
    latents, text = (torch.randn(shape, generator=draw) for shape in ((2, 4, 3, 4, 4), (2, 5, 12)))
    return latents, torch.rand(2, 3, generator=draw), text


def pair(frame_rate: bool) -> tuple[DiTStream, DiTStream]:
    """A stream with random weights throughout, and one with them that has averages, too."""
    sizes = SIZES | {"frame_rate": frame_rate}
    plain, told = DiTStream(StreamConfig(**sizes)), DiTStream(StreamConfig(**sizes, average=True))
    for name, parameter in plain.named_parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator(0, "weights", name))
    missing = told.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing and all(name.startswith(UNTIL) for name in missing)
    return plain.eval(), told.eval()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("frame_rate", [False, True])
def test_untrained_it_is_the_stream_without_to_the_bit(dtype: torch.dtype, frame_rate: bool) -> None:
    plain, told = (stream.to(dtype) for stream in pair(frame_rate))
    latents, sigma, text = (value.to(dtype) for value in given())
    for level in (sigma, sigma[:, 0]):
        expected = plain.run(plain.embed(latents, level, text, CLOCK))
        for until in (None, level, level / 2):
            found = told.run(told.embed(latents, level, text, CLOCK, until))
            assert expected.std() > 0.1 and torch.equal(found, expected)


@torch.no_grad()
def test_trained_it_hears_until_when_and_at_its_own_level_by_default() -> None:
    _, told = pair(False)
    nn.init.normal_(told.get_parameter(UNTIL + "linear_2.weight"), generator=generator(0, "weights", "until"))
    latents, sigma, text = given()
    at, same, below = (told.run(told.embed(latents, sigma, text, None, until)) for until in (None, sigma, sigma / 2))
    assert torch.equal(at, same) and (at - below).abs().max() > 1e-2
    one = torch.where(torch.arange(3) == 1, sigma / 2, sigma)  # of the second latent frame alone
    assert not torch.equal(told.run(told.embed(latents, sigma, text, None, one)), below)


def test_only_a_stream_of_averages_is_told() -> None:
    plain, _ = pair(False)
    latents, sigma, text = given()
    with pytest.raises(ValueError, match="without average"):
        plain.embed(latents, sigma, text, None, sigma)
    with pytest.raises(ValueError, match=r"average is 0\.5"):
        StreamConfig(**SIZES, average=0.5)  # type: ignore[arg-type]
