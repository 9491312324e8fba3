"""Samples have the shapes that were asked for, in sync; clips that cannot train are refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.data.dataset import ClipDataset, check_clip, own_fps, survey
from shared.data.manifest import Clip
from shared.data.media import write_audio, write_video
from shared.utils.errors import UserError


def tone(seconds: float, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(np.arange(round(seconds * 16000)) / 5))[None].astype(np.float32)


def make_clip(folder: Path, name: str = "a", sound: np.ndarray | None = None, **fields: object) -> Clip:
    """2 s at 30 fps, 48x64, white from 1.0 s to 1.25 s, with a tone; an empty `sound`: no sound track."""
    frames = np.zeros((60, 48, 64, 3), np.uint8)
    frames[30:38] = 255
    sound = tone(2.0) if sound is None else sound
    write_video(folder / f"{name}.mp4", frames, 30, sound if sound.size else None, 16000)
    return Clip(id=name, video=folder / f"{name}.mp4", caption="a tone", **fields)


def dataset(*clips: Clip, duration: float | None = None) -> ClipDataset:
    return ClipDataset(clips, fps=16, size=(32, 32), sample_rate=16000, duration=duration)


def test_a_sample_has_the_shapes_range_and_timing_asked_for(tmp_path: Path) -> None:
    sample = dataset(make_clip(tmp_path, audio_caption="hum"))[0]
    assert sample.video.shape == (3, 32, 32, 32) and sample.video.dtype == torch.float32
    assert sample.audio.shape == (1, 32000) and sample.audio.dtype == torch.float32
    assert sample.video.min() < -0.97 and sample.video.max() > 0.97
    bright = sample.video.mean((0, 2, 3)) > 0
    assert bright.nonzero().flatten().tolist() == [16, 17, 18, 19]
    assert (sample.id, sample.caption, sample.audio_caption) == ("a", "a tone", "hum")
    check_clip(sample, needs_video=True, needs_audio=True)


def test_a_cut_and_a_duration(tmp_path: Path) -> None:
    clip = make_clip(tmp_path, start=0.75, end=1.75)
    assert dataset(clip)[0].video.shape[1] == 16
    sample = dataset(clip, duration=0.5)[0]
    assert sample.video.shape[1] == 8 and sample.audio.shape == (1, 8000)
    assert (sample.video.mean((0, 2, 3)) > 0).nonzero()[0] == 4
    with pytest.raises(UserError, match=r"clip 'a'.*1.5 s wanted"):
        dataset(clip, duration=1.5)[0]
    with pytest.raises(UserError, match=r"clip 'a'.*3.0 s wanted"):
        dataset(clip.model_copy(update={"end": None}), duration=3.0)[0]
    with pytest.raises(UserError, match="duration of 0"):
        dataset(clip, duration=0.0)


@pytest.mark.parametrize(("seconds", "silent_tail"), [(1.8, 0.2), (3.0, 0.0)])
def test_separate_sound_is_fitted_to_the_picture(tmp_path: Path, seconds: float, silent_tail: float) -> None:
    write_audio(tmp_path / "a.wav", tone(seconds), 16000)
    sample = dataset(make_clip(tmp_path, audio=tmp_path / "a.wav"))[0]
    assert sample.audio.shape == (1, 32000)
    filled = sample.audio[0].flip(0).ne(0).int().argmax() / 16000
    assert filled == pytest.approx(silent_tail, abs=0.001)


def test_sound_that_stops_long_before_the_picture_is_refused(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", tone(1.5), 16000)
    with pytest.raises(UserError, match=r"clip 'a': .*a\.wav: sound lasts 1\.50 s, the picture 2\.00 s"):
        dataset(make_clip(tmp_path, audio=tmp_path / "a.wav"))[0]


def test_a_missing_stream_is_flagged_and_refused_where_it_is_needed(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", tone(1.0), 16000)
    mute = make_clip(tmp_path, "mute", sound=np.zeros((1, 0)))
    blind = Clip(id="blind", audio=tmp_path / "a.wav", caption="")
    silent_film, broadcast = (dataset(mute, blind)[i] for i in (0, 1))
    assert silent_film.has_video and not silent_film.has_audio and silent_film.audio.shape == (1, 32000)
    assert broadcast.has_audio and not broadcast.has_video and broadcast.video.shape == (3, 16, 32, 32)
    check_clip(silent_film, needs_video=True, needs_audio=False)
    check_clip(broadcast, needs_video=False, needs_audio=True)
    with pytest.raises(UserError, match="clip 'mute': has no sound track"):
        check_clip(silent_film, needs_video=True, needs_audio=True)
    with pytest.raises(UserError, match="clip 'blind': has no video"):
        check_clip(broadcast, needs_video=True, needs_audio=True)


def test_silence_and_nan_are_refused(tmp_path: Path) -> None:
    sample = dataset(make_clip(tmp_path, sound=tone(2.0, 0.003)))[0]
    with pytest.raises(UserError, match=r"clip 'a': its sound is silent \(-5\d\.\d dBFS"):
        check_clip(sample, needs_video=True, needs_audio=True)
    check_clip(sample, needs_video=True, needs_audio=False)
    with pytest.raises(UserError, match="clip 'a': NaN or infinity in its video"):
        check_clip(replace(sample, video=sample.video * torch.nan), True, False)


def test_a_broken_file_names_its_clip(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no media" * 99)
    with pytest.raises(UserError, match=r"clip 'broken': .*a\.mp4: broken"):
        dataset(Clip(id="broken", video=tmp_path / "a.mp4", caption=""))[0]


def test_survey_counts_and_names_the_clips_that_cannot_be_used(tmp_path: Path) -> None:
    good = make_clip(tmp_path, "good")
    mute = make_clip(tmp_path, "mute", sound=np.zeros((1, 0)))
    gone = Clip(id="gone", video=tmp_path / "gone.mp4", caption="")
    survey([good, mute], needs_video=True, needs_audio=False, duration=2.0)
    with pytest.raises(UserError, match=r"2 of 3 clips.*'mute': .*no audio stream.*'gone': .*no such file"):
        survey([good, mute, gone], needs_video=True, needs_audio=True)
    with pytest.raises(UserError, match=r"1 of 1 clips.*'good': .*lasts 2.00 s, but 2.50 s are needed"):
        survey([good], needs_video=True, needs_audio=True, duration=2.5)
    with pytest.raises(UserError, match=r"27 of 27 clips.*; and 7 more") as error:
        survey([gone] * 27, needs_video=True, needs_audio=True)
    assert str(error.value).count("clip 'gone'") == 20


def test_a_clip_may_keep_its_own_frame_rate(tmp_path: Path) -> None:
    sound = Clip(id="s", audio=write_tone(tmp_path / "s.wav"), caption="")
    clips = ClipDataset([make_clip(tmp_path), sound], 16, (32, 32), 16000, 1.5, keep_fps=True)
    assert clips[0].fps == 30 and clips[0].video.shape[1] == 45 and clips[0].audio.shape[1] == 24_000
    bright = clips[0].video.mean((0, 2, 3)) > 0
    assert bright.nonzero().flatten().tolist() == list(range(30, 38))
    assert clips[1].fps is None and clips[1].video.shape[1] == 24  # no pictures, so no rate of its own
    assert dataset(make_clip(tmp_path))[0].fps is None


@pytest.mark.parametrize(("fps", "own"), [(30000 / 1001, 30), (23.976, 24), (14.6, 15)])
def test_an_own_rate_is_the_next_whole_number(tmp_path: Path, fps: float, own: int) -> None:
    write_video(tmp_path / "a.mp4", np.zeros((30, 16, 16, 3), np.uint8), fps)
    assert own_fps(tmp_path / "a.mp4") == own


def test_a_rate_of_no_moving_pictures_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", np.zeros((3, 16, 16, 3), np.uint8), 0.3)
    with pytest.raises(UserError, match=r"a\.mp4: 0\.3 pictures a second, which cannot be kept; from 1 to 240 are"):
        own_fps(tmp_path / "a.mp4")


def write_tone(path: Path) -> Path:
    write_audio(path, tone(2.0), 16000)
    return path
