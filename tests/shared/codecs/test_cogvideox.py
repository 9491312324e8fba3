"""CogVideoX's autoencoder as a codec, from a small random model that diffusers saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX
from torch import Tensor

from shared.codecs import VideoCodec, keyframe_latents
from shared.codecs.cogvideox import CogVideoXVideoCodec
from shared.utils.errors import UserError
from shared.utils.rng import derive, generator

SMALL = {
    "down_block_types": ("CogVideoXDownBlock3D",) * 3,
    "up_block_types": ("CogVideoXUpBlock3D",) * 3,
    "block_out_channels": (4, 4, 8),
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "sample_height": 48,
    "sample_width": 40,
    "scaling_factor": 0.7,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cogvideox") / "vae"
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "test", "cogvideox"))
        AutoencoderKLCogVideoX(**SMALL).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def codec(folder: Path) -> CogVideoXVideoCodec:
    return CogVideoXVideoCodec.from_pretrained(folder)


def clip(frames: int, batch: int = 1) -> Tensor:
    return torch.rand((batch, 3, frames, 8, 16), generator=generator(0, "test", "clip")) * 2 - 1


@torch.no_grad()
def test_it_returns_the_librarys_own_output(folder: Path, codec: CogVideoXVideoCodec) -> None:
    own, video = AutoencoderKLCogVideoX.from_pretrained(folder), clip(17, batch=2)
    latents = own.encode(video).latent_dist.mode() * 0.7
    torch.testing.assert_close(codec.encode(video), latents, atol=1e-5, rtol=0)
    expected = own.decode(latents / 0.7).sample.clamp(-1, 1)
    torch.testing.assert_close(codec.decode(latents, 17), expected, atol=1e-5, rtol=0)
    assert isinstance(codec, VideoCodec)
    assert not codec.train().training and not any(weight.requires_grad for weight in codec.parameters())


@pytest.mark.parametrize(("frames", "count"), [(1, 1), (2, 2), (5, 2), (6, 3), (9, 3), (13, 4)])
def test_the_clock_is_causal_and_every_length_comes_back(codec: CogVideoXVideoCodec, frames: int, count: int) -> None:
    """Even numbers of latents too, which the library alone decodes to too many frames."""
    latents = codec.encode(clip(frames))
    assert latents.shape == (1, 4, count, 2, 4) and latents.dtype == torch.float32
    assert codec.latent_frames(frames) == len(codec.clock(frames, 16.0)) == count
    assert codec.clock(frames, 16.0).ends == tuple((4 * i + 1) / 16 for i in range(count))
    decoded = codec.decode(latents, frames)
    assert decoded.shape == (1, 3, frames, 8, 16) and decoded.abs().max() <= 1
    whole = codec.decode(latents, 1 + 4 * (count - 1))
    assert torch.equal(whole[:, :, :frames], decoded)


def test_a_chunk_does_not_see_the_next(codec: CogVideoXVideoCodec) -> None:
    video, latents = clip(21), codec.encode(clip(21))
    torch.testing.assert_close(codec.encode(video[:, :, :9]), latents[:, :, :3], atol=1e-5, rtol=0)
    torch.testing.assert_close(codec.encode(video[:, :, :17]), latents[:, :, :5], atol=1e-5, rtol=0)
    whole = codec.decode(latents, 21)
    torch.testing.assert_close(codec.decode(latents[:, :, :3], 9), whole[:, :, :9], atol=1e-5, rtol=0)
    changed = torch.cat([video[:, :, :9], -video[:, :, 9:]], 2)
    moved = (codec.encode(changed) - latents).abs().amax((0, 1, 3, 4))
    assert (moved[:3] == 0).all() and (moved[3:] > 0).all()


def test_a_keyframe_is_one_latent(codec: CogVideoXVideoCodec) -> None:
    images = clip(2, batch=2)[:, :, 0]
    for first in (True, False):
        assert keyframe_latents(codec, images, first).shape == (2, 4, 1, 2, 4)


def test_low_memory_encodes_large_frames_in_tiles(folder: Path) -> None:
    codec = CogVideoXVideoCodec.from_pretrained(folder)
    video = torch.nn.functional.interpolate(clip(5), size=(5, 28, 24))
    plain = codec.encode(video)
    codec.low_memory()
    tiled = codec.encode(video)
    assert codec.model.use_tiling and tiled.shape == plain.shape and not torch.equal(tiled, plain)
    codec.low_memory(False)
    assert torch.equal(codec.encode(video), plain)


def test_what_does_not_fit_is_refused(folder: Path, codec: CogVideoXVideoCodec, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="4x5 pixels; both sides must be multiples of 4"):
        codec.encode(torch.zeros(1, 3, 1, 4, 5))
    with pytest.raises(UserError, match="2 video latents cannot be decoded to 6 frames"):
        codec.decode(torch.zeros(1, 4, 2, 1, 1), 6)
    shutil.copytree(folder, tmp_path / "vae")
    told = json.loads((folder / "config.json").read_text())
    for changes, message in (
        ({"temporal_compression_ratio": 8}, "vae: temporal_compression_ratio is 8; it must be 4"),
        ({"scaling_factor": 0.0}, "vae: scaling_factor is 0.0; a positive"),
        ({"_class_name": "AutoencoderKLWan"}, "holds AutoencoderKLWan, not AutoencoderKLCogVideoX"),
    ):
        (tmp_path / "vae/config.json").write_text(json.dumps(told | changes))
        with pytest.raises(UserError, match=message):
            CogVideoXVideoCodec.from_pretrained(tmp_path / "vae")


def test_full_size() -> None:
    """The autoencoder of CogVideoX 1.0, 2b and 5b."""
    with torch.device("meta"):
        model = AutoencoderKLCogVideoX()
    codec = CogVideoXVideoCodec(model)
    assert (codec.latent_channels, codec.temporal_stride, codec.spatial_stride) == (16, 4, 8)
    assert codec.num_parameters() / 1e6 == pytest.approx(215.6, abs=0.1)
