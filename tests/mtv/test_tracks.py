"""Tracks: any wav becomes aligned mono tracks; features per frame, of files and of clips."""

from __future__ import annotations

import warnings
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mtv.tracks import (
    TRACKS,
    Tracks,
    clip_features,
    clip_parts,
    clip_tracks,
    features,
    frames_of,
    read_tracks,
)
from shared.data.manifest import Clip
from shared.encoders.audio import LogMel
from shared.utils.errors import UserError


def tone(seconds: float, rate: int, gain: float = 0.5) -> np.ndarray:
    return (gain * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples.T, rate, subtype=subtype)
    return path


def test_any_rate_channels_and_sample_format_become_equal_mono_tracks(tmp_path) -> None:
    stereo = np.stack([tone(1.0, 44100), np.zeros(44100, np.float32)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracks = read_tracks(
            [write(tmp_path / "a.wav", stereo, 44100), write(tmp_path / "b.wav", tone(1.0, 8000), 8000, "PCM_U8")],
            effects=write(tmp_path / "c.wav", tone(1.0, 48000), 48000, "FLOAT"),
            fps=24,
        )
    assert [track.shape for track in (*tracks.speech, tracks.effects)] == [(1, 16000)] * 3
    assert tracks.music is None
    expected = torch.from_numpy(tone(1.0, 16000))[500:-500]
    for track, gain, tolerance in zip((*tracks.speech, tracks.effects), (0.5, 1, 1), (2e-3, 2e-2, 2e-3), strict=True):
        torch.testing.assert_close(track[0, 500:-500], gain * expected, atol=tolerance, rtol=0)


def test_ten_seconds_at_24_fps_are_240_frames(tmp_path) -> None:
    for rate in (16000, 44100, 48000):
        path = write(tmp_path / f"{rate}.wav", tone(10.0, rate), rate)
        assert frames_of(read_tracks([path], fps=24), 24) == 240
    assert frames_of(Tracks([torch.zeros(1, 20)]), 24) == 1


def test_up_to_a_frame_shorter_is_filled_with_a_warning(tmp_path) -> None:
    long = write(tmp_path / "long.wav", tone(1.0, 16000), 16000)
    short = write(tmp_path / "short.wav", tone(0.96, 16000), 16000)
    with pytest.warns(UserWarning, match=r"short\.wav lasts 0\.960 s, .*long\.wav 1\.000 s"):
        tracks = read_tracks([short], music=long, fps=25)
    assert tracks.speech[0].shape[1] == 16000
    assert (tracks.speech[0][:, 15360:] == 0).all()
    assert tracks.speech[0][:, 15300:15360].abs().max() > 0.1


def test_more_than_a_frame_shorter_is_refused_naming_both(tmp_path) -> None:
    long = write(tmp_path / "long.wav", tone(1.0, 16000), 16000)
    short = write(tmp_path / "short.wav", tone(0.96, 16000), 16000)
    with pytest.raises(UserError, match=r"short\.wav lasts 0\.960 s, .*long\.wav 1\.000 s; .* a frame of 0\.033 s"):
        read_tracks([short], effects=long, fps=30)


def test_a_part_of_longer_tracks(tmp_path) -> None:
    path = write(tmp_path / "a.wav", np.concatenate([tone(1.0, 16000), tone(1.0, 16000, 0.1)]), 16000)
    tracks = read_tracks([path], music=path, fps=24, start=1.25, end=1.75)
    assert tracks.seconds == 0.5
    assert tracks.speech[0].abs().max() == pytest.approx(0.1, abs=2e-3)


def test_without_speech_there_is_one_silent_speaker(tmp_path) -> None:
    tracks = read_tracks([], music=write(tmp_path / "m.wav", tone(0.5, 16000), 16000), fps=24)
    assert len(tracks.speech) == 1
    assert torch.equal(tracks.speech[0], torch.zeros(1, 8000))
    assert tracks.effects is None
    with pytest.raises(UserError, match="no track is given"):
        read_tracks([], fps=24)


def test_bad_files_are_named(tmp_path) -> None:
    broken = tone(0.5, 16000)
    broken[100] = np.nan
    write(tmp_path / "nan.wav", broken, 16000, "FLOAT")
    (tmp_path / "zero_bytes.wav").touch()
    with wave.open(str(tmp_path / "no_samples.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
    for name in ("nan.wav", "zero_bytes.wav", "no_samples.wav", "missing.wav"):
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            read_tracks([tmp_path / name], fps=24)


def test_tracks_of_unequal_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="one N"):
        Tracks([torch.zeros(1, 10)], effects=torch.zeros(1, 11))
    with pytest.raises(ValueError, match="one N"):
        Tracks([torch.zeros(2, 10)])
    with pytest.raises(ValueError, match="no speech track"):
        Tracks([])


def test_features_per_speaker_and_track_and_zeros_for_what_is_silent() -> None:
    sound = torch.from_numpy(tone(1.0, 16000))[None]
    small, large = LogMel(), LogMel(n_mels=32)
    tracks = Tracks([sound, torch.zeros_like(sound), 0.5 * sound], effects=sound)
    found = features(tracks, {"speech": small, "effects": large, "music": large}, 24, 24.0)
    assert found["speech"].shape == (3, 24, 5, 1, 256)
    assert found["effects"].shape == found["music"].shape == (24, 5, 1, 128)
    assert torch.equal(found["speech"][2], small.encode(0.5 * sound[None], 24, 24.0)[0])
    assert torch.equal(found["effects"], large.encode(sound[None], 24, 24.0)[0])
    assert found["effects"].abs().sum() > 0
    assert (found["speech"][1] == 0).all()
    assert (found["music"] == 0).all()


def test_features_want_the_encoders_rate() -> None:
    with pytest.raises(UserError, match="the tracks have 8000 Hz, the speech encoder needs 16000 Hz"):
        features(
            Tracks([torch.zeros(1, 800)], rate=8000), dict.fromkeys(("speech", "effects", "music"), LogMel()), 2, 24
        )


def clip_with(tmp_path: Path, tracks: list[str]) -> Clip:
    files = {name: write(tmp_path / f"{name}.wav", tone(1.0, 16000), 16000) for name in tracks}
    return Clip(id="a", video=tmp_path / "a.mp4", caption="", tracks=files, start=0.25)


def test_a_clips_features_are_those_of_its_cut_without_neighbours(tmp_path: Path) -> None:
    clip = clip_with(tmp_path, ["speech2", "speech1", "effects"])
    encoders = dict.fromkeys(TRACKS, LogMel(n_mels=4))
    found = clip_features(clip, 4, 8.0, encoders)
    voices, others = clip_tracks(clip)
    assert (voices, others) == ([clip.tracks["speech1"], clip.tracks["speech2"]], [clip.tracks["effects"], None])
    assert found["speech"].shape == (2, 4, 1, 16) and found["effects"].shape == found["music"].shape == (4, 1, 16)
    read = read_tracks(voices, *others, fps=8.0, start=0.25, end=0.75)
    direct = features(read, encoders, 4, 8.0)
    assert torch.equal(found["speech"], direct["speech"][:, :, 2]) and found["speech"].any()
    assert not found["music"].any()


def test_the_parts_of_a_clip_are_its_speakers_together_and_its_effects_where_they_sound(tmp_path: Path) -> None:
    clip = clip_with(tmp_path, ["speech2", "speech1", "effects", "music"])
    soundfile.write(clip.tracks["speech2"], tone(1.0, 16000, 0.1), 16000)
    parts = clip_parts(clip, 4, 8.0, 8000)
    assert set(parts) == {"speech", "effects"} and all(sound.shape == (1, 4000) for sound in parts.values())
    torch.testing.assert_close(parts["speech"], 1.2 * parts["effects"], rtol=0, atol=2e-3)  # 0.5 and 0.1 of a tone
    soundfile.write(clip.tracks["effects"], tone(1.0, 16000, 0.001), 16000)
    assert set(clip_parts(clip, 4, 8.0, 8000)) == {"speech"}
    longer = clip_parts(clip, 6, 8.0, 8000)["speech"]
    assert longer.shape == (1, 6000) and torch.equal(longer[:, :3900], parts["speech"][:, :3900])
    assert clip_parts(clip_with(tmp_path, ["music"]), 4, 8.0, 8000) == {}


def test_a_part_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    clip = clip_with(tmp_path, ["effects"])
    clip.tracks["effects"].write_bytes(b"no sound")
    with pytest.raises(UserError, match=r"clip 'a': .*effects\.wav"):
        clip_parts(clip, 4, 8.0, 16000)


def test_a_broken_track_is_refused_by_name(tmp_path: Path) -> None:
    clip = clip_with(tmp_path, ["music"])
    clip.tracks["music"].write_bytes(b"no sound")
    with pytest.raises(UserError, match=r"clip 'a': .*music\.wav"):
        clip_features(clip, 4, 8.0, dict.fromkeys(TRACKS, LogMel()))


def test_speakers_are_completed_by_silent_ones() -> None:
    given = Tracks([torch.ones(1, 8)], effects=torch.ones(1, 8))
    two = given.with_speakers(2)
    assert len(two.speech) == 2 and torch.equal(two.speech[0], given.speech[0]) and not two.speech[1].any()
    assert two.effects is given.effects and len(two.with_speakers(1).speech) == 2
