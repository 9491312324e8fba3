"""Options of audio-driven video: its sound, its tracks, its pictures; scripts/sample_mtv.py's tests run it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mtv.generate import SCALES, MTVOptions, given_tracks, guidance
from mtv.guidance import TrackGuidance
from shared.utils.cli import parse
from shared.utils.errors import UserError


def wave(pitch: float, rate: int) -> np.ndarray:
    time = np.arange(round(1.5 * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * pitch * time) * np.exp(-time)).astype(np.float32)


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


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--music x.wav --speakers 2", "--speakers tells the voices in --speech, or in a mix as --audio, apart; give"),
        ("--speech a.wav --speech3 b.wav --speakers 2", "--speakers and --speech3: one file of several people, or a"),
        ("--speech a.wav --embedder pitch", "--embedder tells the voices of --speakers apart; give both, or leave it"),
        ("--speech a.wav --speakers 0", "--speakers 0: Input should be greater than or equal to 2"),
        ("--speech a.wav --speakers 10", "--speakers 10: Input should be less than or equal to 9"),
    ],
)
def test_speakers_that_cannot_be_told_apart_are_refused(line: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        parse(MTVOptions, None, ["--prompt", "x", "--output", "x.mp4", *line.split()])
    assert str(error.value).startswith(said)
