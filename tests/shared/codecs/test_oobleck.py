"""Oobleck as a codec, from a small random model that diffusers saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderOobleck
from torch import Tensor
from torch.nn import functional

from shared.codecs import AudioCodec
from shared.codecs.oobleck import OobleckAudioCodec
from shared.utils.errors import UserError
from shared.utils.rng import derive, generator

SMALL = {
    "encoder_hidden_size": 8,
    "downsampling_ratios": [2, 4],
    "channel_multiples": [1, 2],
    "decoder_channels": 4,
    "decoder_input_channels": 4,
}
HOP = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("oobleck") / "vae"
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "test", "oobleck"))
        AutoencoderOobleck(**SMALL).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def codec(folder: Path) -> OobleckAudioCodec:
    return OobleckAudioCodec.from_pretrained(folder)


def sound(samples: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, 1, samples, generator=generator(0, "test", "sound")) - 0.5


@torch.no_grad()
def test_it_returns_the_librarys_own_output(folder: Path, codec: OobleckAudioCodec) -> None:
    own, audio = AutoencoderOobleck.from_pretrained(folder), sound(99, batch=2)
    padded = functional.pad(audio, (0, 104 - 99)).repeat(1, 2, 1)
    latents = own.encode(padded).latent_dist.mode()
    torch.testing.assert_close(codec.encode(audio), latents.transpose(1, 2), atol=1e-5, rtol=0)
    stereo = own.decode(latents).sample
    assert not torch.allclose(stereo[:, 0], stereo[:, 1], atol=1e-3)
    mono = stereo.mean(1, keepdim=True)[..., :99].clamp(-1, 1)
    found = codec.decode(latents.transpose(1, 2), 99)
    torch.testing.assert_close(found, mono, atol=1e-5, rtol=0)
    assert torch.equal(found, codec.decode(latents.transpose(1, 2), 99))
    assert isinstance(codec, AudioCodec)


@pytest.mark.parametrize(("samples", "tokens"), [(1, 1), (8, 1), (9, 2), (441, 56)])
def test_shapes_and_clock(codec: OobleckAudioCodec, samples: int, tokens: int) -> None:
    latents, clock = codec.encode(sound(samples)), codec.clock(samples)
    assert latents.shape == (1, tokens, 4) and latents.dtype == torch.float32
    assert codec.latent_tokens(samples) == len(clock) == tokens
    assert clock.ends[-1] == pytest.approx(tokens * HOP / 44100)
    assert codec.decode(latents, samples).shape == (1, 1, samples)
    with pytest.raises(UserError, match=f"{tokens} audio tokens cannot be decoded to {8 * tokens + 1} samples"):
        codec.decode(latents, 8 * tokens + 1)


@torch.no_grad()
def test_tiles_equal_the_whole(folder: Path, codec: OobleckAudioCodec) -> None:
    """Tiles begin on tokens, and overlap by more than the network sees: nothing changes."""
    tiled, audio = OobleckAudioCodec.from_pretrained(folder), sound(1603 * HOP - 3, batch=2)
    tiled.low_memory()
    lengths: list[int] = []
    for part in (tiled.model.encoder, tiled.model.decoder):
        part.register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[-1]))
    latents = codec.encode(audio)
    torch.testing.assert_close(tiled.encode(audio), latents, atol=1e-5, rtol=0)
    encoded = lengths.copy()
    samples = audio.shape[-1]
    torch.testing.assert_close(tiled.decode(latents, samples), codec.decode(latents, samples), atol=1e-5, rtol=0)
    assert len(encoded) == 8 and max(encoded) == 640 * HOP  # two clips of four tiles
    assert max(lengths[8:]) == 640


def test_its_folder_is_the_librarys_own(folder: Path, codec: OobleckAudioCodec, tmp_path: Path) -> None:
    codec.save_pretrained(tmp_path)
    first, own = AutoencoderOobleck.from_pretrained(folder), AutoencoderOobleck.from_pretrained(tmp_path)
    assert all(torch.equal(weight, first.state_dict()[name]) for name, weight in own.state_dict().items())


@torch.no_grad()
def test_in_bfloat16_it_is_the_librarys_own_in_bfloat16(codec: OobleckAudioCodec, tmp_path: Path) -> None:
    """To the bit; how far that is from float32 depends on the processor."""
    codec.save_pretrained(tmp_path)
    half = OobleckAudioCodec.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    own = AutoencoderOobleck.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert half.dtype == own.dtype == torch.bfloat16
    weights = codec.state_dict()
    assert all(torch.equal(value, weights[name].bfloat16()) for name, value in half.state_dict().items())
    padded = functional.pad(sound(99), (0, 104 - 99)).repeat(1, 2, 1)
    latents = own.encode(padded.bfloat16()).latent_dist.mode()
    encoded = half.encode(sound(99))
    assert encoded.dtype == torch.float32 and torch.equal(encoded, latents.float().transpose(1, 2))
    mono = own.decode(latents).sample[..., :99].float().mean(1, keepdim=True).clamp(-1, 1)
    decoded = half.decode(encoded, 99)
    assert decoded.dtype == torch.float32 and torch.equal(decoded, mono)


def test_full_size() -> None:
    with torch.device("meta"):
        codec = OobleckAudioCodec(AutoencoderOobleck())
    assert (codec.sample_rate, codec.latent_channels, codec.samples_per_token) == (44100, 64, 2048)
    assert codec.latent_rate == pytest.approx(21.533, abs=1e-3)
    assert codec.latent_tokens(44100 * 8) == 173


def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"downsampling_ratios are \[2, 5\]; even ones are needed"):
        OobleckAudioCodec(AutoencoderOobleck(**SMALL | {"downsampling_ratios": [2, 5]}))
    with pytest.raises(UserError, match="no AutoencoderOobleck"):
        OobleckAudioCodec.from_pretrained(tmp_path)
