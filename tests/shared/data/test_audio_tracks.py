"""Which of several sound tracks is read: the default, or the one that is asked for; the doctor lists them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recordings import flashes, tone, write_odd

from shared.data.dataset import ClipDataset, survey
from shared.data.doctor import examine
from shared.data.manifest import Clip, read_manifest, write_manifest
from shared.data.media import probe, read_audio
from shared.utils.errors import UserError

TIMES = np.arange(25) / 25
PITCHES = (300, 600, 1200)


def film(path: Path, form: str, default: int | None) -> Path:
    sounds = [tone(1.0, pitch=pitch) for pitch in PITCHES]
    languages = ("eng", "fra", "deu")
    return write_odd(path, form, TIMES, flashes(TIMES, []), sounds, default=default, languages=languages)


def pitch_of(sound: np.ndarray, rate: int = 16000) -> float:
    return float(np.abs(np.fft.rfft(sound[0, :rate])).argmax() * rate / len(sound[0, :rate]))


@pytest.mark.parametrize(("name", "form"), [("a.mkv", "matroska"), ("a.mp4", "mp4"), ("a.mov", "mov")])
@pytest.mark.parametrize("default", [0, 1, 2])
def test_the_default_track_is_read(tmp_path: Path, name: str, form: str, default: int) -> None:
    path = film(tmp_path / name, form, default)
    assert pitch_of(read_audio(path, 16000)) == pytest.approx(PITCHES[default], abs=2)
    assert probe(path).track == default + 1
    for track, pitch in enumerate(PITCHES, start=1):
        assert pitch_of(read_audio(path, 16000, track=track)) == pytest.approx(pitch, abs=2)
        assert probe(path, track).track == track


def test_a_track_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", "matroska", 1)
    there = r"1 \(aac, stereo, 48000 Hz, eng\), 2 \(aac, stereo, 48000 Hz, fra, default\), 3 \("
    for read in (lambda: read_audio(path, 16000, track=4), lambda: probe(path, 4)):
        with pytest.raises(UserError, match=rf"a\.mkv: has no audio track 4; its tracks are {there}"):
            read()


def test_a_manifest_chooses_and_keeps_its_choice(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", "matroska", 1)
    clip = Clip(id="a", video=path, caption="", audio_track=3)
    write_manifest(tmp_path / "manifest.jsonl", [clip])
    (read,) = read_manifest(tmp_path)
    assert read.audio_track == 3
    sample = ClipDataset([read], 25.0, (16, 16), 16000)[0]
    assert pitch_of(sample.audio.numpy()) == pytest.approx(1200, abs=2)
    with pytest.raises(UserError, match=r"1 of 1 clips cannot be used: clip 'a': .*has no audio track 4; its tracks"):
        survey([read.model_copy(update={"audio_track": 4})], True, True)
    (tmp_path / "manifest.jsonl").write_text('{"id": "a", "video": "a.mkv", "caption": "", "audio_track": 0}\n')
    with pytest.raises(UserError, match=r"manifest\.jsonl:1: clip 'a': audio_track: .*greater than or equal to 1"):
        read_manifest(tmp_path)


def test_the_doctor_lists_tracks_until_one_is_chosen(tmp_path: Path) -> None:
    clip = Clip(id="a", video=film(tmp_path / "a.mkv", "matroska", 1), caption="A tone.")
    finding = examine(clip)
    assert any(reason.startswith("has 3 audio tracks, 1 (aac") for reason in finding.warnings)
    assert finding.facts["audio_track"] == 2 and len(finding.facts["audio_tracks"]) == 3
    chosen = examine(clip.model_copy(update={"audio_track": 1}))
    assert chosen.facts["audio_track"] == 1 and not any("audio tracks" in reason for reason in chosen.reasons)
