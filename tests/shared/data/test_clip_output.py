"""What a call returns, in diffusers' forms, and the files of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from shared.data.clip_output import ClipOutput
from shared.data.media import probe, read_audio, read_video
from shared.utils.errors import UserError

RNG = np.random.default_rng(0)
VIDEO = RNG.integers(0, 256, (2, 9, 16, 32, 3), np.uint8)
AUDIO = (0.1 * RNG.standard_normal((2, 9000))).astype(np.float32)


def output(**options) -> ClipOutput:
    return ClipOutput(**({"video": VIDEO, "audio": AUDIO, "fps": 16.0, "sample_rate": 16000} | options))


def test_frames_are_those_of_diffusers() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16, 1).repeat(3, -1)
    frames = output(video=values, audio=AUDIO[:1]).frames
    assert frames.dtype == np.float32 and frames.min() == 0 and frames.max() == 1
    assert np.array_equal((frames * 255).astype(np.uint8), values)  # as diffusers' export_to_video counts
    assert np.array_equal((frames * 255).round().astype(np.uint8), values)
    tensor = output(output_type="pt").frames
    assert tensor.shape == (2, 9, 3, 16, 32)
    assert torch.equal(tensor.movedim(2, -1), torch.from_numpy(output().frames))
    pictures = output(output_type="pil").frames
    assert [len(clip) for clip in pictures] == [9, 9] and pictures[1][4].size == (32, 16)
    assert output(video=None).frames is None
    latents = {"video": torch.ones(1)}
    assert output(video=None, audio=None, latents=latents, output_type="latent").frames is latents["video"]


def test_save_writes_each_clip_with_its_sound(tmp_path: Path) -> None:
    files = output().save(tmp_path / "clip.mp4")
    assert [file.name for file in files] == ["clip_000.mp4", "clip_001.mp4"]
    assert all(probe(file).has_video and probe(file).has_audio for file in files)
    (single,) = output(video=VIDEO[:1], audio=AUDIO[:1]).save(tmp_path / "one.mkv")
    assert np.array_equal(read_video(single, 16), VIDEO[0])
    np.testing.assert_allclose(read_audio(single, 16000)[0], AUDIO[0], atol=1e-4)
    (sound,) = output(video=None, audio=AUDIO[:1]).save(tmp_path / "one.wav")
    assert not probe(sound).has_video
    (driven,) = output(video=VIDEO[:1], audio=None, given={"audio": AUDIO[:1]}).save(tmp_path / "driven.mp4")
    assert probe(driven).has_audio  # the given sound goes along
    (mute,) = output(video=VIDEO[:1], audio=None).save(tmp_path / "mute.mp4")
    assert not probe(mute).has_audio


def test_names_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for made, name, told in (
        (output(), "x.wav", "pictures and sound are written as .mp4 or .mkv"),
        (output(audio=None), "x.mkv", "pictures are written as .mp4"),
        (output(video=None), "x.mp4", "sound alone are written as .wav"),
        (output(video=None, audio=None), "x.mp4", "there are latents alone"),
    ):
        with pytest.raises(UserError, match=told):
            made.save(tmp_path / name)
    assert not list(tmp_path.iterdir())
