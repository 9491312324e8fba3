"""LTX-2's audio autoencoder and vocoder as a codec, from small random models that diffusers saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLLTX2Audio, DiffusionPipeline
from diffusers.models.transformers.transformer_ltx2 import LTX2AudioVideoRotaryPosEmbed
from diffusers.modular_pipelines.echo.encoders import _encode_audio
from diffusers.pipelines.ltx2 import LTX2Pipeline, LTX2Vocoder, LTX2VocoderWithBWE
from torch import Tensor
from torchaudio.functional import resample

from shared.checkpoint.folder import load_checkpoint, save_checkpoint
from shared.codecs import AudioCodec
from shared.codecs.ltx2_audio import LTX2AudioCodec
from shared.utils.errors import UserError
from shared.utils.rng import derive, generator

RATE = 24000
SMALL: dict[str, Any] = {"base_channels": 8, "num_res_blocks": 1, "latent_channels": 2, "mel_bins": 16}
UPSAMPLING = {
    "upsample_factors": [10, 24],
    "upsample_kernel_sizes": [20, 48],
    "resnet_kernel_sizes": [3],
    "resnet_dilations": [[1]],
}
VOCODER: dict[str, Any] = {"in_channels": 32, "hidden_channels": 8, **UPSAMPLING}


class Player(DiffusionPipeline):
    """The least pipeline that holds an audio codec."""

    def __init__(self, audio_codec: LTX2AudioCodec) -> None:
        super().__init__()
        self.register_modules(audio_codec=audio_codec)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a public pipeline has them: audio_vae/ and vocoder/, with statistics that are not trivial."""
    path = tmp_path_factory.mktemp("ltx2")
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "test", "ltx2"))
        model = AutoencoderKLLTX2Audio(**SMALL)
        model.latents_mean.normal_()
        model.latents_std.uniform_(0.5, 2)
        model.save_pretrained(path / "audio_vae")
        LTX2Vocoder(**VOCODER).save_pretrained(path / "vocoder")
    return path


@pytest.fixture(scope="module")
def codec(folder: Path) -> LTX2AudioCodec:
    return LTX2AudioCodec.from_pretrained(folder)


def sound(samples: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, 1, samples, generator=generator(0, "test", "sound")) - 0.5


@torch.no_grad()
@pytest.mark.parametrize("samples", [24000, 9600, 600])
def test_latents_are_those_of_diffusers(folder: Path, codec: LTX2AudioCodec, samples: int) -> None:
    """Its one front end is Echo's; lengths whose last token is whole for both, and one below a window."""
    own, audio = AutoencoderKLLTX2Audio.from_pretrained(folder / "audio_vae"), sound(samples)
    inside = resample(audio[0], RATE, 16000).repeat(2, 1)
    unpacked = _encode_audio(own, own.latents_mean, own.latents_std, inside, 16000, torch.device("cpu"))
    expected = LTX2Pipeline._pack_audio_latents(unpacked)
    found = codec.encode(audio)
    torch.testing.assert_close(found, expected[:, : found.shape[1]], atol=1e-5, rtol=0)
    assert found.shape[1] == codec.latent_tokens(samples)


@torch.no_grad()
def test_samples_are_those_of_diffusers(folder: Path, codec: LTX2AudioCodec) -> None:
    own = AutoencoderKLLTX2Audio.from_pretrained(folder / "audio_vae")
    vocoder = LTX2Vocoder.from_pretrained(folder / "vocoder")
    latents = torch.randn(2, 26, 8, generator=generator(0, "test", "latents"))
    raw = LTX2Pipeline._denormalize_audio_latents(latents, own.latents_mean, own.latents_std)
    stereo = vocoder(own.decode(LTX2Pipeline._unpack_audio_latents(raw, 26, num_mel_bins=4)).sample)
    assert stereo.shape == (2, 2, 101 * 240)
    found = codec.decode(latents, RATE)
    torch.testing.assert_close(found, stereo.mean(1, keepdim=True)[..., :RATE], atol=1e-5, rtol=0)
    assert torch.equal(found, codec.decode(latents, RATE))
    assert isinstance(codec, AudioCodec)


def test_the_clock_is_that_of_ltx2(codec: LTX2AudioCodec) -> None:
    clock = codec.clock(3 * RATE)
    rotary = LTX2AudioVideoRotaryPosEmbed(dim=12, modality="audio", scale_factors=(4,), causal_offset=1)
    bounds = rotary.prepare_audio_coords(1, len(clock), torch.device("cpu"))[0, 0]
    torch.testing.assert_close(torch.tensor([clock.starts, clock.ends]).T, bounds)
    assert codec.latent_rate == 25.0 and codec.latent_channels == 8 and codec.sample_rate == RATE


@pytest.mark.parametrize(
    ("samples", "tokens"), [(1, 1), (240, 1), (241, 2), (5 * 240, 2), (5 * 240 + 1, 3), (98 * 240, 26), (RATE, 26)]
)
def test_tokens_cover_the_sound(codec: LTX2AudioCodec, samples: int, tokens: int) -> None:
    latents = codec.encode(sound(samples, batch=2))
    assert latents.shape == (2, tokens, 8) and latents.dtype == torch.float32
    assert codec.latent_tokens(samples) == len(codec.clock(samples)) == tokens
    assert codec.clock(samples).duration >= samples / RATE - 1e-9
    assert codec.decode(latents, samples).shape == (2, 1, samples)
    most = (4 * tokens - 3) * 240
    with pytest.raises(UserError, match=f"{tokens} audio tokens cannot be decoded to {most + 1} samples"):
        codec.decode(latents, most + 1)


def test_latents_hear_nothing_later(codec: LTX2AudioCodec) -> None:
    """A window of the spectrogram reaches 32 ms ahead, its steps are 10 ms; then the autoencoder is causal."""
    audio = sound(RATE)
    changed = audio.clone()
    changed[..., RATE // 2 :] = 0
    moved = (codec.encode(audio) - codec.encode(changed)).abs().amax((0, 2))
    reach = torch.tensor(codec.clock(RATE).ends) + 0.032
    assert (moved[reach < 0.5] == 0).all() and moved[13] > 0


def test_the_folders_are_the_librarys_own(folder: Path, codec: LTX2AudioCodec, tmp_path: Path) -> None:
    codec.save_pretrained(tmp_path)
    audio = sound(2400)
    for kind, ours, theirs in ((AutoencoderKLLTX2Audio, "", "audio_vae"), (LTX2Vocoder, "vocoder", "vocoder")):
        own, first = kind.from_pretrained(tmp_path / ours), kind.from_pretrained(folder / theirs)
        assert all(torch.equal(weight, first.state_dict()[name]) for name, weight in own.state_dict().items())
    latents = codec.encode(audio)
    loaded = LTX2AudioCodec.from_pretrained(tmp_path)
    assert torch.equal(loaded.encode(audio), latents)
    assert torch.equal(loaded.decode(latents, 2400), codec.decode(latents, 2400))
    save_checkpoint(Player(codec), tmp_path / "checkpoint", "a card")
    half = load_checkpoint(Player, tmp_path / "checkpoint", torch.bfloat16).audio_codec
    assert half.model.dtype == half.vocoder.dtype == torch.bfloat16
    assert half.encode(audio).dtype == half.decode(latents, 2400).dtype == torch.float32
    torch.testing.assert_close(half.encode(audio), latents, atol=0.1, rtol=0.1)
    half.low_memory()
    assert half.model.use_slicing


def test_bandwidth_extension_doubles_the_rate(folder: Path, tmp_path: Path) -> None:
    """LTX-2.3's vocoder: the same codec at 48 kHz; equal to the vocoder's own output."""
    shutil.copytree(folder / "audio_vae", tmp_path / "audio_vae")
    parts = {f"bwe_{name}": value for name, value in UPSAMPLING.items()}
    parts |= {"bwe_upsample_factors": [10, 16], "bwe_upsample_kernel_sizes": [20, 32]}
    options = {**VOCODER, **parts, "act_fn": "leaky_relu", "antialias": False, "bwe_act_fn": "leaky_relu"}
    options |= {"bwe_antialias": False, "bwe_in_channels": 32, "bwe_hidden_channels": 8, "num_mel_channels": 16}
    options |= {"input_sampling_rate": RATE, "output_sampling_rate": 2 * RATE}
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "test", "bwe"))
        own = LTX2VocoderWithBWE(**options).eval()
        own.save_pretrained(tmp_path / "vocoder")
    codec = LTX2AudioCodec.from_pretrained(tmp_path)
    assert codec.sample_rate == 48000 and codec.latent_tokens(48000) == 26
    latents = torch.randn(1, 6, 8, generator=generator(0, "test", "latents"))
    heard = codec.decode(latents, 21 * 480)
    mel = codec.model.decode(
        (latents * codec.model.latents_std + codec.model.latents_mean).unflatten(2, (2, 4)).transpose(1, 2)
    ).sample
    with torch.no_grad():
        torch.testing.assert_close(heard, own(mel).mean(1, keepdim=True), atol=1e-5, rtol=0)


def test_full_size() -> None:
    with torch.device("meta"):
        codec = LTX2AudioCodec(AutoencoderKLLTX2Audio(), LTX2Vocoder())
    assert (codec.sample_rate, codec.latent_channels, codec.latent_rate) == (24000, 128, 25.0)
    assert codec.samples_per_frame == 240


def test_parts_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no LTX2Vocoder or LTX2VocoderWithBWE"):
        LTX2AudioCodec.from_pretrained(folder / "audio_vae")
    shutil.copytree(folder, tmp_path / "ltx2")

    def refused(part: str, changes: dict[str, Any], match: str) -> None:
        config = tmp_path / "ltx2" / part / "config.json"
        before = config.read_text()
        config.write_text(json.dumps(json.loads(before) | changes))
        with pytest.raises(UserError, match=match):
            LTX2AudioCodec.from_pretrained(tmp_path / "ltx2")
        config.write_text(before)

    refused("audio_vae", {"causality_axis": "none"}, "ltx2: causality_axis is 'none' with 3 values of ch_mult")
    refused("audio_vae", {"mel_bins": 32}, "2 latent_channels of 32 mel_bins do not pack into the 8 values")
    refused("audio_vae", {"mel_hop_length": 320}, "240 samples of a mel frame at 24000 Hz; .* 50 frames a second")
    wide = AutoencoderKLLTX2Audio(**SMALL | {"base_channels": 16, "mel_bins": 32})
    with pytest.raises(UserError, match="the vocoder reads 32 channels; the autoencoder makes 2 x 32"):
        LTX2AudioCodec(wide, LTX2Vocoder(**VOCODER))
