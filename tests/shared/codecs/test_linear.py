"""The linear codecs on synthetic clips: shapes, clocks, fidelity, levels, onsets, save and load."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from shared.codecs import (
    AudioCodec,
    LinearAudioCodec,
    LinearVideoCodec,
    VideoCodec,
    frames_to_tensor,
    tensor_to_frames,
)
from shared.utils.errors import UserError
from shared.utils.rng import generator

RATE = 16000


def make_video(index: int, frames: int = 13) -> Tensor:
    """[1, 3, frames, 32, 32]: a disc moving over a plain ground."""
    draw = torch.rand(9, generator=generator(0, "video", index))
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    video = (2 * draw[:3] - 1)[:, None, None, None].repeat(1, frames, 32, 32)
    for frame in range(frames):
        y = 16 + 10 * math.sin(0.4 * frame + 6 * float(draw[6]))
        inside = (rows - y) ** 2 + (columns - 8 - 16 * draw[7]) ** 2 < (4 + 4 * draw[8]) ** 2
        video[:, frame, inside] = (2 * draw[3:6] - 1)[:, None]
    return video[None]


def make_sound(index: int, samples: int = RATE) -> Tensor:
    """[1, 1, samples]: three decaying tones on silence."""
    draw = torch.rand(3, 2, generator=generator(0, "sound", index)).tolist()
    time = torch.arange(samples) / RATE
    sound = torch.zeros(samples)
    for onset, pitch in draw:
        since = time - 0.8 * onset
        tone = torch.sin(2 * math.pi * (200 + 1500 * pitch) * since) * torch.exp(-15 * since)
        sound += torch.where(since >= 0, 0.25 * tone, 0.0)
    return sound[None, None]


@pytest.fixture(scope="module")
def video_codec() -> LinearVideoCodec:
    return LinearVideoCodec.fit(map(make_video, range(40)), latent_channels=48)


@pytest.fixture(scope="module")
def audio_codec() -> LinearAudioCodec:
    return LinearAudioCodec.fit(map(make_sound, range(60)), latent_channels=64)


def envelope(sound: Tensor) -> Tensor:
    """RMS in windows of 10 ms, every 2 ms."""
    return sound.square().unfold(-1, 160, 32).mean(-1).sqrt()


def test_protocols(video_codec: LinearVideoCodec, audio_codec: LinearAudioCodec) -> None:
    assert isinstance(video_codec, VideoCodec)
    assert isinstance(audio_codec, AudioCodec)


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (2, 2), (5, 2), (6, 3), (13, 4)])
def test_video_shapes_and_clock(video_codec: LinearVideoCodec, frames: int, latents: int) -> None:
    encoded = video_codec.encode(make_video(99)[:, :, :frames])
    clock = video_codec.clock(frames, fps=16)
    assert encoded.shape == (1, 48, latents, 4, 4)
    assert video_codec.latent_frames(frames) == len(clock) == latents
    assert video_codec.decode(encoded, frames).shape == (1, 3, frames, 32, 32)
    assert clock.ends[0] == pytest.approx(1 / 16)


def test_video_is_causal_and_pads_with_the_last_frame(video_codec: LinearVideoCodec) -> None:
    video = make_video(99)
    padded = torch.cat([video[:, :, :6], video[:, :, 5:6].repeat(1, 1, 3, 1, 1)], 2)
    assert torch.equal(video_codec.encode(video[:, :, :6]), video_codec.encode(padded))
    changed = video.clone()
    changed[:, :, 5:] = 0
    moved = (video_codec.encode(video) - video_codec.encode(changed)).abs().amax((0, 1, 3, 4))
    assert (moved[:2] == 0).all()
    assert (moved[2:] > 0).all()


def test_video_fidelity_on_held_out_clips(video_codec: LinearVideoCodec) -> None:
    held_out = torch.cat([make_video(i) for i in range(100, 110)])
    error = video_codec.decode(video_codec.encode(held_out), 13) - held_out
    assert 10 * torch.log10(4 / error.square().mean()) > 24


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_latents_have_unit_variance_and_whitening_evens_them_out(whitening: float) -> None:
    clips = [make_video(i) for i in range(20)]
    codec = LinearVideoCodec.fit(clips, latent_channels=16, whitening=whitening)
    latents = codec.encode(torch.cat(clips))
    channels = latents.var((0, 2, 3, 4), correction=0)
    assert latents.mean().abs() < 1e-3
    assert channels.mean() == pytest.approx(1.0, abs=1e-3)
    first, last = codec.basis[:, 0], codec.basis[:, -1]
    assert first.dot(first) == pytest.approx(1.0, abs=1e-4)
    assert abs(float(first.dot(last))) < 1e-4
    if whitening == 1.0:
        torch.testing.assert_close(channels, torch.ones(16), atol=1e-2, rtol=0)
    else:
        assert channels[0] > 4 * channels[-1]


@pytest.mark.parametrize(("samples", "tokens"), [(RATE, 25), (640, 1), (641, 2), (16000 + 7, 26)])
def test_audio_shapes_and_clock(audio_codec: LinearAudioCodec, samples: int, tokens: int) -> None:
    encoded = audio_codec.encode(make_sound(99, samples))
    clock = audio_codec.clock(samples)
    assert encoded.shape == (1, tokens, 64)
    assert audio_codec.latent_tokens(samples) == len(clock) == tokens
    assert clock.starts[-1] == pytest.approx((tokens - 1) / 25)
    assert audio_codec.decode(encoded, samples).shape == (1, 1, samples)


def test_a_token_hears_its_own_interval(audio_codec: LinearAudioCodec) -> None:
    """A click in the middle of token j is loudest in token j, symmetrically, and no token but its
    neighbours hears it."""
    sound = torch.zeros(1, 1, RATE)
    sound[..., 10 * 640 + 310 : 10 * 640 + 331] = 0.5
    moved = audio_codec.levels(sound).amax(1)[0].unflatten(0, (25, 4))
    assert moved[10].max() == moved.max()
    torch.testing.assert_close(moved[10], moved[10].flip(0), atol=1e-3, rtol=0)
    assert (moved[[0, 8, 12, 24]] == -1).all()


def test_audio_keeps_level_envelope_and_onsets(audio_codec: LinearAudioCodec) -> None:
    sounds = torch.cat([make_sound(i) for i in range(100, 108)])
    before = envelope(sounds)
    after = envelope(audio_codec.decode(audio_codec.encode(sounds), RATE))
    assert abs(20 * torch.log10(after.mean() / before.mean())) < 1.0
    assert torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1] > 0.9
    burst = torch.zeros(6, 1, RATE)
    for row, start in enumerate(range(2000, 14000, 2023)):
        burst[row, 0, start:] = make_tone(RATE - start)
    lag = envelope(audio_codec.decode(audio_codec.encode(burst), RATE)).argmax(-1) - envelope(burst).argmax(-1)
    assert lag.abs().max() * 0.002 <= 0.015


def make_tone(samples: int) -> Tensor:
    time = torch.arange(samples) / RATE
    return 0.4 * torch.sin(2 * math.pi * 900 * time) * torch.exp(-40 * time)


def test_silence_comes_back_silent_and_quiet_sound_stays_quiet(audio_codec: LinearAudioCodec) -> None:
    quiet = torch.cat([torch.zeros(1, 1, RATE), 0.01 * make_sound(99), make_sound(99)])
    out = audio_codec.decode(audio_codec.encode(quiet), RATE)
    again = audio_codec.decode(audio_codec.encode(quiet), RATE)
    assert torch.equal(out, again)
    decibels = 10 * out.square().mean((1, 2)).clamp_min(1e-12).log10()
    assert decibels[0] < -55
    assert decibels[1] < decibels[2] - 20


def test_save_and_load_inside_a_pipeline_keep_every_bit(video_codec, audio_codec, tmp_path) -> None:
    pipeline = CodecPair(video_codec=video_codec, audio_codec=audio_codec)
    pipeline.save_pretrained(tmp_path)
    assert (tmp_path / "video_codec" / "diffusion_pytorch_model.safetensors").is_file()
    loaded = CodecPair.from_pretrained(tmp_path, dtype=torch.bfloat16)
    video, sound = make_video(7), make_sound(7)
    assert torch.equal(loaded.video_codec.encode(video), video_codec.encode(video))
    latents = audio_codec.encode(sound)
    assert torch.equal(loaded.audio_codec.encode(sound), latents)
    assert torch.equal(loaded.audio_codec.decode(latents, RATE), audio_codec.decode(latents, RATE))


class CodecPair(DiffusionPipeline):
    """The least pipeline that holds both codecs."""

    def __init__(self, video_codec: LinearVideoCodec, audio_codec: LinearAudioCodec) -> None:
        super().__init__()
        self.register_modules(video_codec=video_codec, audio_codec=audio_codec)


def test_bad_input_names_the_value(video_codec: LinearVideoCodec, audio_codec: LinearAudioCodec) -> None:
    with pytest.raises(UserError, match="30x32"):
        video_codec.encode(torch.zeros(1, 3, 5, 30, 32))
    with pytest.raises(UserError, match="9 frames"):
        video_codec.decode(torch.zeros(1, 48, 2, 4, 4), 9)
    with pytest.raises(UserError, match="641 samples"):
        audio_codec.decode(torch.zeros(1, 1, 64), 641)
    with pytest.raises(UserError, match="whitening is 2"):
        LinearVideoCodec(whitening=2.0)
    with pytest.raises(UserError, match="no clips"):
        LinearAudioCodec.fit([])


def test_frames_and_tensors_are_inverse() -> None:
    frames = torch.randint(0, 256, (2, 3, 4, 5, 3), generator=generator(0, "frames"), dtype=torch.uint8)
    assert frames_to_tensor(frames).shape == (2, 3, 3, 4, 5)
    assert torch.equal(tensor_to_frames(frames_to_tensor(frames)), frames)
