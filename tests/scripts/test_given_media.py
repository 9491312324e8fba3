"""Given sounds and pictures through the scripts: the track that is meant, all its channels, every picture's time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sample_joint
import sample_mtv
from recordings import flashes, tone, write_odd
from test_sample_mtv import driven  # noqa: F401  a fixture

from scripts.demix import main as demix
from shared.data.manifest import read_manifest
from shared.data.media import probe, read_audio, reading, timed_pictures
from shared.utils.errors import run_main

TIMES = np.r_[0.0, np.cumsum(np.random.default_rng(1).uniform(0.01, 0.08, 30))]
STEADY = np.arange(38) / 25


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """film.mkv: 1.5 s, a tone of 300 Hz on the first track, of 700 Hz on the second, which is the default."""
    path = tmp_path_factory.mktemp("media") / "film.mkv"
    sounds = [tone(1.5, pitch=pitch) for pitch in (300, 700)]
    return write_odd(path, "matroska", STEADY, flashes(STEADY, []), sounds, default=1, languages=("eng", "fra"))


def joint(checkpoint: Path, out: Path, *argv: object) -> Path:
    words = ["--prompt", "A bell.", "--checkpoint", checkpoint, "--output", out, "--steps", 1, *argv]
    sample_joint.main([str(word) for word in words])
    return out


def pitch(path: Path) -> int:
    return int(np.abs(np.fft.rfft(read_audio(path, 8000)[0, :8000])).argmax())


def test_the_default_track_or_the_chosen_one_is_carried(checkpoint: Path, film: Path, tmp_path: Path) -> None:
    assert pitch(joint(checkpoint, tmp_path / "a.mp4", "--audio", film)) == pytest.approx(700, abs=2)
    chosen = joint(checkpoint, tmp_path / "b.mp4", "--audio", film, "--audio-track", 1)
    assert pitch(chosen) == pytest.approx(300, abs=2)


def test_mtv_hears_and_carries_the_chosen_track(driven: Path, film: Path, tmp_path: Path) -> None:  # noqa: F811
    for number, expected in ((None, 700), (1, 300)):
        words = ["--prompt", "A bell.", "--checkpoint", driven, "--output", tmp_path / "a.mp4", "--steps", 1]
        words += ["--audio", film, *([] if number is None else ["--audio-track", number])]
        sample_mtv.main([str(word) for word in words])
        assert pitch(tmp_path / "a.mp4") == pytest.approx(expected, abs=2)


@pytest.mark.parametrize(
    ("script", "argv", "reason"),
    [
        (sample_joint, ["--audio", "FILM", "--audio-track", "3"], "has no audio track 3; its tracks are 1 (aac"),
        (sample_joint, ["--audio", "FILM", "--audio-track", "0"], "--audio-track 0: Input should be greater"),
        (sample_joint, ["--audio-track", "1"], "--audio-track chooses a track of --audio; give both"),
        (sample_mtv, ["--audio", "FILM", "--audio-track", "3"], "has no audio track 3; its tracks are 1 (aac"),
        (sample_mtv, ["--music", "FILM", "--audio-track", "1"], "--audio-track chooses a track of --audio; give both"),
    ],
)
def test_a_wrong_track_is_one_line(
    script, argv: list[str], reason: str, request: pytest.FixtureRequest, film: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = request.getfixturevalue("checkpoint" if script is sample_joint else "driven")
    words = ["--prompt", "x", "--checkpoint", folder, "--output", tmp_path / "a.mp4"]
    words += [film if word == "FILM" else word for word in argv]
    with pytest.raises(SystemExit) as exit:
        run_main(lambda: script.main([str(word) for word in words]))
    printed = capsys.readouterr().err
    assert exit.value.code == 2 and reason in printed and printed.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_v2a_keeps_the_time_of_every_picture(checkpoint: Path, tmp_path: Path) -> None:
    path = write_odd(tmp_path / "a.mp4", "mp4", TIMES, flashes(TIMES, TIMES[[4, 19]]))

    def shown(file: Path) -> list[tuple[float, bool]]:
        with reading(file) as opened:
            frames = [(time, frame) for frame, time, _ in timed_pictures(opened, 0.0)]
        return [(round(time, 4), bool(frame.to_ndarray(format="gray").mean() > 128)) for time, frame in frames]

    out = joint(checkpoint, tmp_path / "out.mp4", "--video", path)
    assert sum(flash for _, flash in shown(path)) == 2
    assert [picture for picture in shown(out) if picture[1]] == [picture for picture in shown(path) if picture[1]]
    assert shown(out) == shown(path)[: len(shown(out))] and len(shown(out)) >= 30
    info = probe(out)
    assert info.has_audio and abs((info.video_end or 0) - (info.audio_end or 0)) < 1 / 8


def surround(path: Path, channel: int) -> Path:
    samples = np.zeros((6, 72000), np.float32)
    voice = tone(1.5, channels=1, pitch=300, level=0.1)[0]
    samples[channel] = voice * (1 + np.sin(np.arange(72000) / 3000))
    return write_odd(path, "matroska", sounds=[samples], layout="5.1")


def test_a_given_sound_keeps_its_channels(checkpoint: Path, driven: Path, tmp_path: Path) -> None:  # noqa: F811
    path = surround(tmp_path / "a.mkv", 2)
    joint(checkpoint, tmp_path / "a2v.mp4", "--audio", path)
    words = ["--prompt", "A bell.", "--checkpoint", driven, "--output", tmp_path / "mtv.mp4", "--steps", 1]
    sample_mtv.main([str(word) for word in (*words, "--music", path)])
    given = read_audio(path, 48000, mono=False, end=1.4)
    for name in ("a2v.mp4", "mtv.mp4"):
        assert probe(tmp_path / name).layout == "5.1"
        found = read_audio(tmp_path / name, 48000, mono=False, end=1.4)
        assert np.square(found).mean(1) == pytest.approx(np.square(given).mean(1), rel=0.05, abs=1e-6)


def test_channels_that_cancel_are_told(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = tone(1.0, channels=1)[0]
    path = write_odd(tmp_path / "a.wav", "wav", sounds=[np.stack([sound, -sound])])
    out = joint(checkpoint, tmp_path / "out.mp4", "--audio", path)
    assert "warning: " in (told := capsys.readouterr().err) and "its channels cancel each other" in told
    assert np.abs(read_audio(out, 48000, mono=False)).max() > 0.4  # as it was given


def test_demixing_hears_the_centre_and_follows_the_chosen_track(film: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    surround(clips / "centre.mkv", 2)
    (clips / "film.mkv").write_bytes(film.read_bytes())
    lines = [{"id": "centre", "audio": "centre.mkv", "caption": ""}, {"id": "film", "video": "film.mkv", "caption": ""}]
    manifest = clips / "manifest.jsonl"

    def tracks(**chosen: int) -> list[float]:
        manifest.write_text(
            "".join(json.dumps(line | (chosen if line["id"] == "film" else {})) + "\n" for line in lines)
        )
        demix(["--manifest", str(manifest), "--output", str(tmp_path / "out"), "--workers", "1"])
        found = {clip.id: clip for clip in read_manifest(tmp_path / "out")}
        assert found["film"].audio_track == chosen.get("audio_track")
        mixes = [sum(read_audio(path, 8000) for path in found[name].tracks.values()) for name in ("centre", "film")]
        assert 20 * np.log10(np.sqrt(np.square(mixes[0]).mean())) > -26  # 0.1, and up to twice of it
        return [float(np.abs(np.fft.rfft(mix[0, :8000])).argmax()) for mix in mixes]

    assert tracks() == pytest.approx([300, 700], abs=3)
    assert tracks(audio_track=1) == pytest.approx([300, 300], abs=3)  # what was made of the other is made again
    chosen = ["--audio-track", "1", "--manifest", str(manifest), "--output", str(tmp_path / "other"), "--workers", "1"]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines[1:]))
    demix(chosen)
    assert read_manifest(tmp_path / "other")[0].audio_track == 1
