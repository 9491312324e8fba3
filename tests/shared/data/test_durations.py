"""Durations that a header lacks or lies about: whole files are read, files cut off are refused."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from recordings import flashes, tone, write_odd

from shared.data import durations
from shared.data.media import probe, read_audio, read_video
from shared.utils.errors import UserError

TIMES = np.arange(50) / 25  # 2 s
CLIP = {"times": TIMES, "pictures": flashes(TIMES, [1.0]), "sounds": [tone(2.0)]}
FILM = ("mp4", "mov", "matroska", "webm", "mpegts", "avi")
SOUND = ("wav", "flac", "mp3", "ogg", "adts")


def written(path: Path, form: str, **more: object) -> Path:
    return write_odd(path / f"a.{form}", form, **((CLIP if form in FILM else {"sounds": CLIP["sounds"]}) | more))


def lengths(path: Path, form: str) -> list[float]:
    """Seconds of the pictures, if there are any, and of the sound: as told, and as read."""
    info = probe(path)
    found = [info.audio_end, read_audio(path, 16000).shape[1] / 16000]
    return found + ([info.video_end, len(read_video(path, 25)) / 25] if form in FILM else [])


@pytest.mark.parametrize(
    ("form", "how"),
    [
        *((form, {"piped": True}) for form in ("matroska", "webm", "mpegts", "wav", "flac", "ogg")),
        *((form, {"options": {"live": "1"}}) for form in ("matroska", "webm")),
        ("mp4", {"piped": True, "options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}}),
        ("mp3", {"options": {"write_xing": "0", "id3v2_version": "0"}}),
        *((form, {}) for form in (*FILM, *SOUND)),
    ],
)
def test_whole_files_are_read_whatever_their_header_says(tmp_path: Path, form: str, how: dict) -> None:
    assert lengths(written(tmp_path, form, **how), form) == pytest.approx([2.0] * (4 if form in FILM else 2), abs=0.06)


def test_streams_of_a_file_without_durations_end_at_their_own_times(tmp_path: Path) -> None:
    for seconds in (1.0, 3.0):
        path = written(tmp_path, "webm", sounds=[tone(seconds)], piped=True)
        assert lengths(path, "webm") == pytest.approx([seconds, seconds, 2.0, 2.0], abs=0.03)
    path = written(tmp_path, "matroska", sounds=[tone(1.0)])  # its header has one duration for both
    assert probe(path).audio_end == pytest.approx(1.0, abs=0.03)
    path = write_odd(tmp_path / "late.mkv", "matroska", **(CLIP | {"times": TIMES + 5}), late_sound=5.0)
    assert lengths(path, "matroska") == pytest.approx([2.0] * 4, abs=0.03)


@pytest.mark.parametrize("form", ["matroska", "webm", "wav", "flac", "mp3", "avi"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_file_that_ends_before_its_header_says_so_is_refused(tmp_path: Path, form: str, share: float) -> None:
    path = written(tmp_path, form)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    for read in (probe, lambda p: read_audio(p, 16000), lambda p: read_audio(p, 16000, end=0.1)):
        with pytest.raises(UserError, match=r"a\.\w+: ends at [01]\.\d\d s, its header says 2\.0\d s; a whole file"):
            read(path)


@pytest.mark.parametrize(("form", "options"), [("w64", {}), ("caf", {}), ("wav", {"rf64": "always"})])
def test_sound_of_large_files_is_compared_with_its_stated_size(tmp_path: Path, form: str, options: dict) -> None:
    path = write_odd(tmp_path / f"a.{form}", form, sounds=[tone(2.0)], codecs=(None, "pcm_s16le"), options=options)
    assert lengths(path, form) == [2.0, 2.0]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"ends at 1\.00 s, its header says 2\.00 s"):
        probe(path)


@pytest.mark.parametrize(("form", "codec"), [("h264", "libx264"), ("ivf", "libvpx"), ("avi", "mpeg4")])
def test_streams_without_times_or_with_a_header_left_open_are_read(tmp_path: Path, form: str, codec: str) -> None:
    pictures = {"times": TIMES, "pictures": CLIP["pictures"], "codecs": (codec, None)}
    path = write_odd(tmp_path / f"a.{form}", form, **pictures, piped=True)
    assert probe(path).video_end == pytest.approx(2.0, abs=0.05)
    assert len(read_video(path, 25)) == pytest.approx(50, abs=1)


def test_a_fragment_cut_off_is_refused(tmp_path: Path) -> None:
    how = {"options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}, "video": {"g": "10"}}
    path = written(tmp_path, "mp4", **how)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"a\.mp4: ends at 0\.\d\d s, its header says 1\.\d\d s"):
        probe(path)


def lie(path: Path, form: str, factor: float) -> None:
    """Multiply the duration in the file's header."""
    data = bytearray(path.read_bytes())
    if form in ("matroska", "webm"):
        at = data.index(b"\x44\x89\x88") + 3
        struct.pack_into(">d", data, at, struct.unpack_from(">d", data, at)[0] * factor)
    elif form == "mp4":
        at = 0
        while (at := data.find(b"mdhd", at + 1)) > 0:
            struct.pack_into(">I", data, at + 20, int(struct.unpack_from(">I", data, at + 20)[0] * factor))
    elif form == "flac":
        count = int.from_bytes(data[22:26], "big")
        data[22:26] = int(count * factor).to_bytes(4, "big")
    else:
        at = data.index(b"data") + 4
        struct.pack_into("<I", data, at, int(struct.unpack_from("<I", data, at)[0] * factor) if factor else 0xFFFFFFFF)
    path.write_bytes(data)


@pytest.mark.parametrize("form", ["matroska", "webm", "mp4", "flac"])
def test_a_header_that_says_less_than_there_is_gives_way_to_the_packets(tmp_path: Path, form: str) -> None:
    for factor in (0.25, 0.0) if form == "flac" else (0.25,):
        path = written(tmp_path, form)
        lie(path, form, factor)
        assert lengths(path, form) == pytest.approx([2.0] * (4 if form in FILM else 2), abs=0.03)


@pytest.mark.parametrize("form", ["matroska", "webm", "flac", "wav"])
def test_a_header_that_says_more_than_there_is_is_refused(tmp_path: Path, form: str) -> None:
    path = written(tmp_path, form)
    lie(path, form, 2.0)
    with pytest.raises(UserError, match=r"ends at 2\.00 s, its header says 4\.0\d s"):
        probe(path)


def test_a_wav_that_counts_too_little_is_refused_and_one_from_a_pipe_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "wav")
    lie(path, "wav", 0.25)
    with pytest.raises(UserError, match=r"a\.wav: goes on for 1\.50 s after the 0\.50 s that its header says"):
        read_audio(path, 16000)
    lie(written(tmp_path, "wav"), "wav", 0)
    assert lengths(path, "wav") == [2.0, 2.0]
    with path.open("ab") as file:  # a chunk behind the sound is no sound
        file.write(b"LIST" + struct.pack("<I", 8) + b"INFOISFT")
    lie(path, "wav", 384000 / 0xFFFFFFFF)
    assert lengths(path, "wav") == pytest.approx([2.0, 2.0])


def test_what_a_header_says_rightly_costs_no_packet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [written(tmp_path, form) for form in ("mp4", "mov", "wav", "mpegts", "ogg")]
    monkeypatch.setattr(durations, "_walk", lambda container: pytest.fail("read packets"))
    assert [probe(path).audio_end for path in paths] == pytest.approx([2.0] * 5, abs=0.03)


def test_a_long_matroska_is_read_at_its_end_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = np.arange(250) / 25
    path = write_odd(
        tmp_path / "a.mkv", "matroska", times, flashes(times, []), [tone(10.0)], video={"g": "25"}, piped=False
    )
    read = []
    walk = durations._walk
    monkeypatch.setattr(durations, "_walk", lambda container: read.append(walk(container)) or read[-1])
    assert probe(path).duration == pytest.approx(10.0, abs=0.03)
    assert len(read) == 1
    with av.open(str(path)) as container:
        assert read[0][0].keys() == {stream.index for stream in container.streams}


def test_pictures_that_stand_still_at_the_end_are_no_cut_off_file(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 2.0]
    path = write_odd(tmp_path / "a.mkv", "matroska", times, flashes(times, [0.2]), [tone(4.0)])
    assert probe(path).audio_end == pytest.approx(4.0, abs=0.03)
    assert probe(path).video_end == pytest.approx(2.04, abs=0.01)


def test_a_wmv_of_a_variable_frame_rate_is_whole(tmp_path: Path) -> None:
    """FFmpeg tells the clock's 1000 ticks for its rate; its header counts the last picture longer than that."""
    draw = np.random.default_rng(1)
    times = np.r_[0.0, np.cumsum(draw.uniform(0.01, 0.08, 30))]
    pictures = list(draw.integers(0, 256, (31, 48, 48, 3), dtype=np.uint8))
    path = write_odd(tmp_path / "a.wmv", "asf", times, pictures, codecs=("wmv2", None))
    assert probe(path).video_end == pytest.approx(times[-1], abs=0.05)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="a whole file is needed"):
        probe(path)
