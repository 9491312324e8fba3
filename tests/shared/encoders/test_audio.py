"""Log-mel features: time in its place, silence exactly zero, batches independent, saved with a checkpoint."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from shared.encoders.audio import AudioFeatures, LogMel, audio_features, interpolate_features
from shared.utils.errors import UserError
from shared.utils.rng import generator

RATE = 16000


def noise(seconds: float, dbfs: float = -20.0, name: str = "noise") -> Tensor:
    """[1, 1, N] white noise of that RMS level."""
    samples = torch.randn(1, 1, round(seconds * RATE), generator=generator(0, "test", name))
    return samples * 10 ** (dbfs / 20)


def click(time: float, seconds: float) -> Tensor:
    """[1, 1, N]: 5 ms of loud noise from `time` on."""
    sound = torch.zeros(1, 1, round(seconds * RATE))
    first = round(time * RATE)
    sound[..., first : first + 80] = noise(0.005, -3.0)
    return sound


@pytest.mark.parametrize("fps", [8.0, 16.0, 24.0, 25.0, 30000 / 1001, 30.0])
def test_shape_for_any_rate_and_length(fps: float) -> None:
    encoder = LogMel()
    assert isinstance(encoder, AudioFeatures)
    for frames, samples in ((1, 100), (17, 12345), (33, 30001)):
        out = encoder.encode(torch.ones(2, 1, samples) * 0.1, frames, fps)
        assert out.shape == (2, frames, encoder.window, encoder.layers, encoder.dim) == (2, frames, 5, 1, 256)
        assert out.dtype == torch.float32


def test_silence_is_exact_zeros_and_a_batch_equals_its_clips_alone() -> None:
    encoder = LogMel()
    batch = torch.cat([noise(1.0), torch.zeros(1, 1, RATE), noise(1.0, -60.0), noise(1.0, -30.0, "other")])
    out = encoder.encode(batch, 24, 24.0)
    assert (out[1:3] == 0).all()
    assert (out[0] > 0.2).any() and (out[3] > 0.2).any()
    for clip, row in zip(batch, out, strict=True):
        torch.testing.assert_close(row, encoder.encode(clip[None], 24, 24.0)[0], atol=1e-5, rtol=0)


def test_the_silent_stretch_of_a_sounding_track_is_exact_zeros() -> None:
    sound = noise(2.0)
    sound[..., RATE // 2 : RATE] = 0
    out = LogMel().encode(sound, 32, 16.0)[0, :, 2]
    assert (out[10:15] == 0).all()
    assert (out[:7] > 0.2).any(-1).all() and (out[18:] > 0.2).any(-1).all()


@pytest.mark.parametrize("fps", [8.0, 16.0, 24.0, 30.0])
def test_an_onset_shows_in_its_quarter_of_a_frame(fps: float) -> None:
    encoder = LogMel()
    for quarter in range(4):
        time = (10 + (quarter - 1.5) / 4) / fps  # the middle of that quarter of frame 10
        levels = encoder.encode(click(time - 0.0025, 20 / fps), 20, fps)[0, :, 2]
        power = (levels.reshape(-1, 64) * 7).pow(3).sum(-1)
        assert power.argmax() == 40 + quarter


@pytest.mark.parametrize("fps", [8.0, 16.0])
def test_no_moment_goes_unheard(fps: float) -> None:
    encoder = LogMel()
    loudest = [
        encoder.encode(click((5 + step / 40) / fps - 0.0025, 10 / fps), 10, fps)[0, :, 2].max() for step in range(40)
    ]
    assert min(loudest) > max(loudest) - 12 / 70  # within 12 dB


def test_the_window_holds_the_rows_of_the_neighbours_and_zeros_outside() -> None:
    out = LogMel().encode(noise(1.0), 16, 16.0)[0]
    rows = out[:, 2]
    assert (rows > 0.2).any((1, 2)).all()
    for offset in range(-2, 3):
        for frame in range(16):
            other = frame + offset
            expected = rows[other] if 0 <= other < 16 else torch.zeros_like(rows[0])
            assert torch.equal(out[frame, offset + 2], expected)


def test_levels_are_decibels_from_the_floor_to_full_scale() -> None:
    mel_centre = 700 * (10 ** (32 * 2595 * math.log10(1 + 8000 / 700) / 65 / 2595) - 1)
    sine = torch.sin(2 * math.pi * mel_centre * torch.arange(RATE) / RATE)[None, None]
    for decibels, level in ((0, 1.0), (-20, 1 - 20 / 70), (-35, 0.5)):
        out = LogMel().encode(sine * 10 ** (decibels / 20), 16, 16.0)[0, 8, 2].reshape(4, 64)
        torch.testing.assert_close(out[:, 31], torch.full((4,), level), atol=0.03, rtol=0)
        assert (out.argmax(-1) == 31).all()


def test_sound_is_cut_or_followed_by_silence_to_the_frames() -> None:
    encoder, sound = LogMel(), noise(2.0)
    assert torch.equal(encoder.encode(sound, 16, 16.0), encoder.encode(sound[..., :RATE], 16, 16.0))
    longer = encoder.encode(sound[..., :RATE], 20, 16.0)[0, :, 2]
    assert (longer[18:] == 0).all()
    torch.testing.assert_close(longer[:15], encoder.encode(sound, 16, 16.0)[0, :15, 2])


def test_long_sound_is_encoded_as_short_sound_is() -> None:
    sound = noise(70.0)
    whole = LogMel().encode(sound, 16 * 70, 16.0)[0, :, 2]
    part = LogMel().encode(sound[..., 40 * RATE : 42 * RATE], 32, 16.0)[0, :, 2]
    torch.testing.assert_close(whole[641:670], part[1:30], atol=1e-4, rtol=0)


@pytest.mark.parametrize("audio", [torch.zeros(1, 2, 100), torch.zeros(1, 100), torch.full((1, 1, 100), math.nan)])
def test_wrong_sound_is_refused(audio: Tensor) -> None:
    with pytest.raises(ValueError, match=r"\[B, 1, N\]|NaN"):
        LogMel().encode(audio, 2, 24.0)


def test_wrong_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="0 frames at 24"):
        LogMel().encode(torch.zeros(1, 1, 100), 0, 24.0)


def test_interpolation_is_linear_and_keeps_the_ends() -> None:
    rows = torch.tensor([0.0, 10.0, 40.0]).reshape(1, 3, 1)
    found = interpolate_features(rows, torch.tensor([-3.0, 0.0, 0.5, 1.25, 2.0, 9.0], dtype=torch.float64))
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 0.0, 5.0, 17.5, 40.0, 40.0]))


def test_save_and_load(tmp_path) -> None:
    encoder = LogMel(n_mels=40, parts_per_frame=2)
    encoder.save_pretrained(tmp_path)
    loaded = LogMel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.filters.dtype == torch.float32
    assert loaded.dim == 80
    assert torch.equal(loaded.encode(noise(0.5), 12, 24.0), encoder.encode(noise(0.5), 12, 24.0))


def test_the_factory_knows_log_mel_and_names_what_it_knows() -> None:
    assert isinstance(audio_features("log-mel"), LogMel)
    for spec in ("beats", "log-mel:x", "wav2vec2", "wav2vec2:", "ast:"):
        with pytest.raises(UserError, match="known are log-mel, wav2vec2:PATH_OR_ID, ast:PATH_OR_ID"):
            audio_features(spec)
