"""scripts/demix.py on clips of the stage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mtv.demix import _demixer as made
from mtv.separation import TRACKS, Audio
from scripts.demix import DEMIXERS, main
from scripts.make_puppets import main as make_puppets
from shared.data.manifest import Clip, read_manifest, write_manifest
from shared.data.media import probe, read_audio, write_audio
from shared.perception import installed, spleeter
from shared.puppets.script import sample_spec
from shared.puppets.sound import synthesise
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


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip in which a man and a woman speak in turns, one in which one person speaks, and one without speech; by
    their speech alone."""
    folder = tmp_path_factory.mktemp("talk")
    clips, wanted = [], {("man", "woman"): 2, ("man",): 1, (): 0}
    for index in range(400):
        spec = sample_spec(9, index, "full")
        people = [c.kind for c in spec.characters if c.syllables]
        if (count := wanted.pop(tuple(sorted(people)), None)) is None:
            continue
        stems = {name: sound for name, sound in synthesise(spec).items() if name != "effects"}
        stems["music"] = np.zeros_like(stems["music"])
        files = {name: folder / f"{count}.{name}.wav" for name in stems}
        for name, file in files.items():
            write_audio(file, stems[name][None], spec.rate)
        mix = sum(stems.values()) if count else 0.1 * np.sin(np.arange(32000) / 9).astype(np.float32)
        write_audio(folder / f"{count}.wav", mix[None], spec.rate)
        clips.append(Clip(id=str(count), audio=folder / f"{count}.wav", caption="", tracks=files))
        if not wanted:
            break
    write_manifest(folder / "manifest.jsonl", clips)
    return folder


def test_people_who_speak_have_tracks_of_their_own(
    talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    demix(talk, output, "--speakers", "2", "--embedder", "pitch", "--measure")
    printed = capsys.readouterr().out
    assert "people who speak: 0 in 1 clips, 1 in 1 clips, 2 in 1 clips" in printed
    table = [line.split("|")[1:-1] for line in printed.splitlines() if line.startswith("| ") and "%" in line]
    assert [[cell.strip() for cell in row[:3]] for row in table] == [["1", "1", "1"], ["2", "1", "1"]]
    assert all(float(row[4].strip().rstrip("%")) < 10 for row in table)
    found = {clip.id: clip for clip in read_manifest(output)}
    names = {name: sorted(clip.tracks) for name, clip in found.items()}
    assert names == {"0": [*NAMES], "1": [*NAMES], "2": ["effects", "music", "speech1", "speech2"]}
    true = {clip.id: clip for clip in read_manifest(talk)}["2"]
    stems = [read_audio(true.tracks[name], 16000)[0] for name in ("speech1", "speech2")]
    stems.sort(key=lambda stem: int(np.flatnonzero(stem)[0]))  # in the order of the first words
    for stem, name in zip(stems, ("speech1", "speech2"), strict=True):
        assert np.corrcoef(stem, read_audio(found["2"].tracks[name], 16000)[0])[0, 1] > 0.9
    heard = json.loads((output / "tracks/2/turns.json").read_text())
    assert sorted(heard) == ["overlap", "speech1", "speech2"] and heard["speech1"][0][0] < heard["speech2"][0][0]
    before = stamps(output)
    demix(talk, output, "--speakers", "2", "--embedder", "pitch", "--measure")
    assert stamps(output) == before and capsys.readouterr().out == printed
    with pytest.raises(UserError, match="clips of other settings"):
        demix(talk, output)


def test_two_voices_at_once_are_told(talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both people of a clip, one after the other, and then once more at the same time."""
    clip = next(clip for clip in read_manifest(talk) if clip.id == "2")
    stems = [read_audio(clip.tracks[name], 16000)[0] for name in ("speech1", "speech2")]
    first, second = (stem[np.flatnonzero(stem)[0] : np.flatnonzero(stem)[-1]] for stem in stems)
    count = min(len(first), len(second))
    sound = np.concatenate([first, second, first[:count] + second[:count]])
    write_audio(tmp_path / "both.wav", sound[None], 16000)
    write_manifest(tmp_path / "one.jsonl", [clip.model_copy(update={"audio": tmp_path / "both.wav", "tracks": {}})])
    demix(tmp_path / "one.jsonl", tmp_path / "out", "--speakers", "2", "--embedder", "pitch")
    printed = capsys.readouterr().out
    assert "people who speak: 2 in 1 clips" in printed and "s in 1 clips (2)" in printed
    spans = json.loads((tmp_path / "out/tracks/2/turns.json").read_text())["overlap"]
    both = sum(end - start for start, end in spans if start > (len(first) + len(second)) / 16000 - 0.1)
    assert both > 0.2 * count / 16000 and both == pytest.approx(sum(end - start for start, end in spans))


def test_a_second_demixer_is_measured_beside_the_first(
    stage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that calls half of everything speech: that track is as far from the true one as the mix is."""

    def halves(mix: Audio, rate: int, device: str) -> dict[str, Audio]:
        return {"speech": mix / 2, "others": mix / 2}

    monkeypatch.setattr(spleeter, "check", lambda: None)
    monkeypatch.setattr(spleeter, "two_tracks", halves)
    clips = read_manifest(stage)[::2]
    write_manifest(tmp_path / "two.jsonl", clips)
    demix(tmp_path / "two.jsonl", tmp_path / "out", "--measure", "--second", "spleeter")
    lines = capsys.readouterr().out.splitlines()[3:]
    rows = {name.strip(): [cell.strip() for cell in cells] for _, name, *cells, _ in (one.split("|") for one in lines)}
    assert list(rows) == [*TRACKS, *(f"{name}, spleeter" for name in TRACKS)]
    for name in NAMES:
        count, ours, mix, silent, _ = rows[f"{name}, spleeter"]
        assert int(count) + int(silent) == 2 and mix == rows[name][2]
        assert name != "speech" or ours.split()[0] == mix
    assert all(sorted(clip.tracks) == [*NAMES] for clip in read_manifest(tmp_path / "out"))


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
        (["--checkpoint", "a.th"], "dsp: takes no checkpoint"),
        (["--speakers", "0"], "--speakers 0: Input should be greater than or equal to 2"),
        (["--embedder", "pitch"], "--embedder tells the voices of --speakers apart"),
        (["--speakers", "2", "--embedder", "nowhere"], "embedder nowhere: is unknown; give pitch, resemblyzer, or a"),
        (["--second", "spleeter"], "--second spleeter: is measured and makes no tracks; give --measure"),
        (["--second", "dsp", "--measure"], "--second dsp: beside dsp, give another of dsp, spleeter"),
        (["--second", "spleeter", "--measure"], "spleeter: its weights .* are not installed; run `make perception`"),
        (["--workers", "0"], "--workers 0: Input should be greater than or equal to 1"),
        (["--demixer", "demucs-cdx23", "--device", "cuda", "--workers", "2"], "one process is needed"),
    ],
)
def test_bad_arguments_write_nothing(
    stage: Path, tmp_path: Path, more: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.cache_clear()  # of another test
    monkeypatch.setattr(installed, "folders", lambda: (tmp_path,))
    with pytest.raises(UserError, match=reason):
        demix(stage, tmp_path / "out", *more)
    assert not (tmp_path / "out").exists()


def test_measure_needs_tracks(stage: Path, tmp_path: Path) -> None:
    clips = [clip.model_copy(update={"tracks": {}}) for clip in read_manifest(stage)]
    write_manifest(tmp_path / "bare" / "manifest.jsonl", clips)
    with pytest.raises(UserError, match="no clip has tracks"):
        demix(tmp_path / "bare", tmp_path / "out", "--measure")
