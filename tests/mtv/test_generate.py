"""Options of audio-driven video: its sound, its tracks, its pictures; scripts/sample_mtv.py's tests run it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import write_odd

from mtv.generate import SCALES, MTVOptions, Sound, given_tracks, guidance
from mtv.guidance import TrackGuidance
from shared.utils.cli import parse
from shared.utils.errors import UserError


def wave(pitch: float, rate: int) -> np.ndarray:
    time = np.arange(round(1.5 * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * pitch * time) * np.exp(-time)).astype(np.float32)


def test_a_loud_sum_is_turned_down_as_a_whole(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, 3 * wave(300, 16000), 16000)
    argv = ["--prompt", "x", "--output", "x.mp4", "--speech", f"{tmp_path}/a.wav", "--music", f"{tmp_path}/b.wav"]
    sound = Sound.read(parse(MTVOptions, None, argv))
    assert np.abs(sound.samples).max() == pytest.approx(1)
    assert np.corrcoef(sound.samples[0], wave(300, 16000))[0, 1] > 0.999


def test_tracks_are_summed_in_the_layout_of_most_channels(tmp_path: Path) -> None:
    samples = np.zeros((6, 24000), np.float32)
    samples[4] = wave(200, 16000)
    write_odd(tmp_path / "a.wav", "wav", sounds=[samples], rate=16000, layout="5.1")
    soundfile.write(tmp_path / "b.wav", wave(300, 16000), 16000)
    soundfile.write(tmp_path / "c.wav", np.stack([wave(400, 16000), wave(500, 16000)], 1), 16000)
    tracks = [f"--{name}={tmp_path}/{file}.wav" for name, file in (("speech", "b"), ("effects", "a"), ("music", "c"))]
    sound = Sound.read(parse(MTVOptions, None, ["--prompt", "x", "--output", "x.mp4", *tracks]))
    assert sound.layout == "5.1"
    expected = {0: 400, 1: 500, 2: 300, 4: 200}
    for channel, found in enumerate(sound.samples):
        if channel in expected:
            assert found == pytest.approx(wave(expected[channel], 16000), abs=1e-3)
        else:
            assert not found.any()


def test_a_person_without_a_file_before_one_who_has_one_is_silent(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "other.wav", wave(200, 16000), 16000)
    options = parse(MTVOptions, None, ["--prompt", "x", "--output", "x.mp4", "--speech2", str(tmp_path / "other.wav")])
    tracks = given_tracks(options, 16000)
    assert len(tracks.speech) == 2 and not tracks.speech[0].any() and tracks.speech[1].any()


def test_guidance_options() -> None:
    def chosen(*argv: str) -> TrackGuidance | None:
        line = ["--prompt", "x", "--output", "x.mp4", "--music", "x.wav", *argv]
        return guidance(parse(MTVOptions, None, line))

    assert chosen() is None and TrackGuidance() == TrackGuidance(**SCALES)  # the model's own
    assert chosen("--guidance", "separate") == TrackGuidance()
    assert chosen("--text-scale", "3", "--music-scale", "0") == TrackGuidance(text=3, music=0)
    assert chosen("--speech-scale", "1", "--effects-scale", "-1") == TrackGuidance(speech=1, effects=-1)
    assert chosen("--guidance", "joint") == TrackGuidance(form="joint") == TrackGuidance(form="joint", scale=3.5)
    assert chosen("--guidance", "joint", "--guidance-scale", "2") == TrackGuidance(form="joint", scale=2)
    with pytest.raises(UserError, match="--music-scale has no effect with --guidance joint; leave it out"):
        chosen("--guidance", "joint", "--music-scale", "2")
    with pytest.raises(UserError, match="--guidance-scale has no effect with --guidance separate; leave it out"):
        chosen("--guidance-scale", "2")


def test_pictures_have_their_times() -> None:
    base = ["--prompt", "x", "--output", "x.mp4", "--music", "x.wav"]
    options = parse(MTVOptions, None, [*base, "--image", "a.png", "--keyframe", "2.5=b.png", "--keyframe", "6=c=d.png"])
    assert options.pictures == {0.0: Path("a.png"), 2.5: Path("b.png"), 6.0: Path("c=d.png")}
    for text in ("b.png", "nan=b.png", "-1=b.png", "1="):
        with pytest.raises(UserError, match=rf"^--keyframe {text}: SECONDS=IMAGE is needed"):
            parse(MTVOptions, None, [*base, f"--keyframe={text}"])


def test_voices_are_counted_to_the_last_who_has_a_file() -> None:
    words = ["--prompt", "x", "--output", "x.mp4", "--speech2", "b.wav", "--speech4", "d.wav", "--effects", "e.wav"]
    options = parse(MTVOptions, None, words)
    assert options.voices == [None, Path("b.wav"), None, Path("d.wav")]
    assert options.track_files == [Path("b.wav"), Path("d.wav"), Path("e.wav")]
