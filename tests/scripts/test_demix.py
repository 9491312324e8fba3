"""scripts/demix.py on clips of the stage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scripts.demix import DEMIXERS, main
from scripts.make_puppets import main as make_puppets
from shared.data.manifest import read_manifest, write_manifest
from shared.data.media import probe, read_audio
from shared.utils.errors import UserError

NAMES = ("effects", "music", "speech")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips, the second without a readable video."""
    folder = tmp_path_factory.mktemp("clips")
    make_puppets(["--clips", "3", "--output", str(folder), "--seed", "5", "--size", "32", "--workers", "1"])
    broken = read_manifest(folder)[1].video
    assert broken is not None
    broken.rename(broken.with_suffix(".whole"))
    broken.write_bytes(b"not a video")
    return folder


def demix(stage: Path, output: Path, *more: str) -> None:
    main(["--manifest", str(stage), "--output", str(output), "--workers", "1", *more])


def stamps(output: Path) -> dict[str, int]:
    return {str(path.relative_to(output)): path.stat().st_mtime_ns for path in output.rglob("*.wav")}


def test_one_broken_clip_costs_only_itself(stage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    clips = read_manifest(stage)
    with pytest.raises(SystemExit) as exit:
        demix(stage, output, "--workers", "2", "--measure")
    assert exit.value.code == 1
    printed = capsys.readouterr()
    assert f"failed: clip '{clips[1].id}': {clips[1].video}: broken" in printed.err
    assert "1 of 3 clips failed" in printed.err
    found = read_manifest(output)
    assert [clip.id for clip in found] == [clips[0].id, clips[2].id]
    for old, new in zip((clips[0], clips[2]), found, strict=True):
        assert new.video is not None and old.video is not None and new.video.samefile(old.video)
        assert new.truth is not None and new.caption == old.caption
        assert sorted(new.tracks) == sorted(NAMES)
        assert all(path.resolve().is_relative_to(output.resolve()) for path in new.tracks.values())
        mix = read_audio(new.video, 16000)
        total = sum(read_audio(path, 16000) for path in new.tracks.values())
        assert total.shape == mix.shape
        # a track below -45 dBFS is left out
        assert np.sqrt(((total - mix) ** 2).mean()) < 10 ** (-40 / 20)
    assert '"tracks": {"speech": "tracks/' in (output / "manifest.jsonl").read_text()
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in printed.out.splitlines() if "|" in line}
    for name in NAMES:
        count, estimate, floor, silent, left = (cell.strip() for cell in rows[name])
        assert int(count) + int(silent) == 2
        assert estimate == "-" or float(estimate.split()[0]) > float(floor) + 1
        assert left == "-" or float(left) < -40


def test_goes_on_where_it_stopped(stage: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(SystemExit):
        demix(stage, output)
    before = stamps(output)
    assert len(before) == 6
    first, last = read_manifest(output)
    first.tracks["music"].unlink()  # as if it had stopped inside this clip
    broken = read_manifest(stage)[1].video
    assert broken is not None
    garbage = broken.read_bytes()
    broken.with_suffix(".whole").rename(broken)
    try:
        demix(stage, output)
    finally:
        broken.rename(broken.with_suffix(".whole"))
        broken.write_bytes(garbage)
    after = stamps(output)
    assert len(after) == 9 and len((output / "manifest.jsonl").read_text().splitlines()) == 3
    changed = {Path(name).parent.name for name, stamp in before.items() if after[name] != stamp}
    assert changed == {first.id} and last.id not in changed
    assert not list(output.rglob("*.part*"))


@pytest.mark.parametrize(("name", "content"), [("speech.wav", b""), ("music.wav", b"RIFF"), ("mix.key", b"\xff\0")])
def test_a_track_that_is_no_whole_file_is_made_again(stage: Path, tmp_path: Path, name: str, content: bytes) -> None:
    write_manifest(tmp_path / "one.jsonl", read_manifest(stage)[:1])
    demix(tmp_path / "one.jsonl", tmp_path / "out")
    (clip,) = read_manifest(tmp_path / "out")
    before = {track: read_audio(file, 16000) for track, file in clip.tracks.items()}
    (tmp_path / "out/tracks" / clip.id / name).write_bytes(content)
    demix(tmp_path / "one.jsonl", tmp_path / "out")
    assert all(np.array_equal(read_audio(file, 16000), before[track]) for track, file in clip.tracks.items())


def test_a_cut_clip_keeps_its_place(stage: Path, tmp_path: Path) -> None:
    events = [(clip, json.loads(clip.truth.read_text())["events"]) for clip in read_manifest(stage) if clip.truth]
    clip, onset = next((clip, found[0]["time"]) for clip, found in events if found)
    effects = clip.tracks["effects"]
    start, end = round(onset - 0.15, 2), round(min(2.0, onset + 0.5), 2)
    cut = {"video": None, "audio": effects, "start": start, "end": end, "tracks": {"effects": effects}}
    write_manifest(tmp_path / "cut" / "manifest.jsonl", [clip.model_copy(update=cut)])
    demix(tmp_path / "cut", tmp_path / "out", "--measure")
    (found,) = read_manifest(tmp_path / "out")
    assert (found.start, found.end) == (start, end)
    assert probe(found.tracks["effects"]).duration == pytest.approx(end, abs=1e-3)
    got, true = (read_audio(path, 16000, True, start, end)[0] for path in (found.tracks["effects"], effects))
    assert np.corrcoef(got, true)[0, 1] > 0.8


def test_a_silent_track_is_exact_zeros(stage: Path, tmp_path: Path) -> None:
    clip = next(clip for clip in read_manifest(stage) if read_audio(clip.tracks["music"], 16000).any())
    alone = clip.model_copy(update={"video": None, "audio": clip.tracks["music"]})
    write_manifest(tmp_path / "alone" / "manifest.jsonl", [alone])
    demix(tmp_path / "alone", tmp_path / "out")
    (found,) = read_manifest(tmp_path / "out")
    heard = {name: bool(read_audio(path, 16000).any()) for name, path in found.tracks.items()}
    assert heard == {"speech": False, "effects": False, "music": True}


def test_nothing_is_written_over(stage: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds other files"):
        demix(stage, stage)
    with pytest.raises(SystemExit):
        demix(stage, tmp_path / "out")
    with pytest.raises(UserError, match="clips of other settings"):
        demix(stage / "manifest.jsonl", tmp_path / "out")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--demixer", "stems"], f"give one of {', '.join(DEMIXERS)}"),
        (["--demixer", "demucs-cdx23"], "no checkpoint"),
        (["--checkpoint", "a.th"], "has no checkpoint"),
        (["--workers", "0"], "--workers 0: Input should be greater than or equal to 1"),
        (["--demixer", "demucs-cdx23", "--device", "cuda", "--workers", "2"], "one process is needed"),
    ],
)
def test_bad_arguments_write_nothing(stage: Path, tmp_path: Path, more: list[str], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        demix(stage, tmp_path / "out", *more)
    assert not (tmp_path / "out").exists()


def test_measure_needs_tracks(stage: Path, tmp_path: Path) -> None:
    clips = [clip.model_copy(update={"tracks": {}}) for clip in read_manifest(stage)]
    write_manifest(tmp_path / "bare" / "manifest.jsonl", clips)
    with pytest.raises(UserError, match="no clip has tracks"):
        demix(tmp_path / "bare", tmp_path / "out", "--measure")
