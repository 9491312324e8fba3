"""The sound that a driven video carries: sums of tracks, their level and their layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import write_odd

from mtv.sound import Sound
from shared.data.media import read_channels
from shared.utils.errors import UserError


def wave(pitch: float, rate: int) -> np.ndarray:
    time = np.arange(round(1.5 * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * pitch * time) * np.exp(-time)).astype(np.float32)


def test_a_loud_sum_is_turned_down_as_a_whole(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, 3 * wave(300, 16000), 16000)
    sound = Sound.read([tmp_path / "a.wav", tmp_path / "b.wav"], None, None)
    assert np.abs(sound.samples).max() == pytest.approx(1)
    assert np.corrcoef(sound.samples[0], wave(300, 16000))[0, 1] > 0.999


def test_tracks_are_summed_in_the_layout_of_most_channels(tmp_path: Path) -> None:
    samples = np.zeros((6, 24000), np.float32)
    samples[4] = wave(200, 16000)
    write_odd(tmp_path / "a.wav", "wav", sounds=[samples], rate=16000, layout="5.1")
    soundfile.write(tmp_path / "b.wav", wave(300, 16000), 16000)
    soundfile.write(tmp_path / "c.wav", np.stack([wave(400, 16000), wave(500, 16000)], 1), 16000)
    sound = Sound.read([tmp_path / f"{file}.wav" for file in "bac"], None, None)
    assert sound.layout == "5.1"
    expected = {0: 400, 1: 500, 2: 300, 4: 200}
    for channel, found in enumerate(sound.samples):
        if channel in expected:
            assert found == pytest.approx(wave(expected[channel], 16000), abs=1e-3)
        else:
            assert not found.any()


def test_lossless_sound_keeps_all_channels_of_a_file_and_of_a_sum(tmp_path: Path) -> None:
    rng, frames = np.random.default_rng(0), np.zeros((12, 16, 16, 3), np.uint8)
    samples = (rng.integers(-(2**15), 2**15, (6, 24000)) / 2**16).astype(np.float32)
    write_odd(tmp_path / "a.wav", "wav", sounds=[samples], rate=16000, layout="5.1")
    soundfile.write(tmp_path / "b.wav", wave(300, 16000), 16000)
    one = Sound.read([tmp_path / "a.wav"], None, None)
    one.write(tmp_path / "one.mkv", frames, 8, lossless=True)
    assert np.array_equal(read_channels(tmp_path / "one.mkv")[0], read_channels(tmp_path / "a.wav")[0])
    both = Sound.read([tmp_path / "a.wav", tmp_path / "b.wav"], None, None)
    both.write(tmp_path / "both.mkv", frames, 8, lossless=True)
    heard, rate, layout = read_channels(tmp_path / "both.mkv")
    assert (rate, layout) == (16000, "5.1") and heard == pytest.approx(both.samples, abs=2**-23)


def test_lossless_sound_of_too_many_channels_is_told_before_anything_is_made(tmp_path: Path) -> None:
    sound = Sound(np.zeros((9, 100), np.float32), 16000, "octagonal", 1.0)
    with pytest.raises(UserError, match="the tracks: 9 channels; --lossless takes up to 8 with names"):
        sound.exact()
