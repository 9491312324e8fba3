"""The convolutional codec: what it begins as, its clock, its past, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shared.checkpoint.registry import find_component, load_component
from shared.codecs import LinearVideoCodec, VideoCodec
from shared.codecs.convolutional import ConvVideoCodec
from shared.utils.errors import UserError
from shared.utils.rng import generator
from tests.shared.codecs.test_linear import make_video

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def linear() -> LinearVideoCodec:
    return LinearVideoCodec.fit(map(make_video, range(12)), latent_channels=12)


@pytest.fixture
def codec(linear: LinearVideoCodec) -> ConvVideoCodec:
    """With random weights in every layer, as after training."""
    codec = ConvVideoCodec.around(linear, channels=(8, 8), blocks=1)
    with torch.no_grad():
        for weights in codec.parameters():
            weights.add_(0.05 * torch.randn(weights.shape, generator=generator(0, "weights", *weights.shape)))
    return codec


def test_begins_as_the_linear_codec(linear: LinearVideoCodec) -> None:
    codec, video = ConvVideoCodec.around(linear, channels=(8, 8), blocks=1), make_video(99)
    assert isinstance(codec, VideoCodec)
    latents = codec.encode(video)
    torch.testing.assert_close(latents, linear.encode(video), atol=1e-4, rtol=0)
    torch.testing.assert_close(codec.decode(latents, 13), linear.decode(latents, 13), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (2, 2), (5, 2), (6, 3), (13, 4)])
def test_shapes(codec: ConvVideoCodec, frames: int, latents: int) -> None:
    encoded = codec.encode(make_video(99)[:, :, :frames])
    assert encoded.shape == (1, 12, latents, 4, 4)
    assert codec.decode(encoded, frames).shape == (1, 3, frames, 32, 32)


def test_sees_the_past_and_never_the_future(codec: ConvVideoCodec) -> None:
    video = make_video(99)
    later, earlier = video.clone(), video.clone()
    later[:, :, 5:] = 0
    earlier[:, :, :1] = 0
    latents = codec.encode(video)
    by_later = (codec.encode(later) - latents).abs().amax((0, 1, 3, 4))
    assert (by_later[:2] == 0).all()
    assert (by_later[2:] > 0).all()
    assert (codec.encode(earlier) - latents)[:, :, 1:].abs().amax() > 0
    whole = codec.decode(latents, 13)
    assert torch.equal(codec.decode(latents, 6), whole[:, :, :6])
    changed = latents.clone()
    changed[:, :, 0] += 1
    assert (codec.decode(changed, 13) - whole)[:, :, 1:5].abs().amax() > 0


def test_bfloat16_comes_near() -> None:
    """Of patches of 8x8, where a convolution of oneDNN's is wrong by more than its result on some processors."""
    codec, video = ConvVideoCodec(16, 4, 8, (32, 32), 1), make_video(99)
    exact = codec.coefficients(video)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = codec.coefficients(video)
    assert (rounded - exact).norm() < 0.02 * exact.norm()


def test_clips_of_a_batch_do_not_meet(codec: ConvVideoCodec) -> None:
    clips = torch.cat([make_video(5), make_video(6)])
    alone = codec.encode(clips[1:])
    torch.testing.assert_close(codec.encode(clips)[1:], alone, atol=1e-5, rtol=0)


def test_normalised_latents_are_decoded_as_raw_ones(codec: ConvVideoCodec) -> None:
    video = make_video(99)
    raw = codec.decode(codec.encode(video), 13)
    codec.normalise(torch.linspace(-1, 1, 12), torch.tensor(2.5))
    latents = codec.encode(video)
    torch.testing.assert_close(codec.decode(latents, 13), raw, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        latents * 2.5 + torch.linspace(-1, 1, 12).view(1, -1, 1, 1, 1), codec.coefficients(video), atol=1e-4, rtol=0
    )


def test_saved_and_found_by_its_class(codec: ConvVideoCodec, tmp_path: Path) -> None:
    codec.save_pretrained(tmp_path / "video_codec")
    source = find_component("video_codec", tmp_path)
    assert source.width == 12
    loaded, video = load_component(source), make_video(7)
    torch.testing.assert_close(loaded.encode(video), codec.encode(video), atol=1e-5, rtol=0)
    half = ConvVideoCodec.from_pretrained(tmp_path / "video_codec", torch_dtype=torch.bfloat16)
    assert torch.equal(half.encode(video), loaded.encode(video))


def test_rounded_weights_are_written_as_what_they_are(codec: ConvVideoCodec, tmp_path: Path) -> None:
    codec.save_pretrained(tmp_path / "whole")
    rounded = copy.deepcopy(codec)
    rounded.load_state_dict({name: value.half() for name, value in codec.state_dict().items()})
    rounded.save_pretrained(tmp_path / "rounded")
    assert all(value.dtype == torch.float32 for value in rounded.state_dict().values())  # it goes on as it was
    whole, half = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "rounded"))
    assert {value.dtype for value in whole.values()} == {torch.float32}
    assert {value.dtype for value in half.values()} == {torch.float16}
    again = ConvVideoCodec.from_pretrained(tmp_path / "rounded").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in rounded.state_dict().items())


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"spatial_stride": 6, "channels": (8, 8, 8)}, "channels are .8, 8, 8. with spatial_stride 6"),
        ({"channels": ()}, "channels are"),
        ({"channels": (8, 0)}, "channels are .8, 0."),
        ({"blocks": 0}, "blocks is 0"),
        ({"latent_channels": 0}, "latent_channels is 0"),
    ],
)
def test_refuses(config: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        ConvVideoCodec(**config)  # type: ignore[arg-type]


def test_refuses_sides_and_frames(codec: ConvVideoCodec) -> None:
    with pytest.raises(UserError, match="30x32 pixels"):
        codec.encode(torch.zeros(1, 3, 5, 30, 32))
    with pytest.raises(UserError, match="cannot be decoded to 6 frames"):
        codec.decode(torch.zeros(1, 12, 2, 4, 4), 6)
    with pytest.raises(UserError, match="video codec"):
        codec.decode(torch.full((1, 12, 2, 4, 4), torch.nan), 5)
