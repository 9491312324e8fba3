"""The one door for media: local containers alone, and one line with file and reason for whatever is wrong in them."""

from __future__ import annotations

import ast
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from odd_media import write_frames

from shared.data.containers import CONTAINERS, MOST_PIXELS, check_decoder, open_media
from shared.data.doctor import examine
from shared.data.manifest import Clip
from shared.data.media import probe, read_audio, read_video, write_audio, write_video
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[3]
READERS: list[Callable[[Path], Any]] = [probe, lambda path: read_video(path, 16), lambda path: read_audio(path, 16000)]


def picture(height: int, width: int) -> Any:
    return av.VideoFrame.from_ndarray(np.full((height, width, 3), 99, np.uint8), "rgb24").reformat(format="yuv420p")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A second of grey and noise."""
    sound = np.random.default_rng(0).normal(0, 0.1, (1, 16000)).astype(np.float32)
    write_video(tmp_path / "whole.mp4", np.full((16, 32, 32, 3), 99, np.uint8), 16, sound, 16000)
    return tmp_path / "whole.mp4"


def refused(path: Path, told: str, readers: list[Callable[[Path], Any]] = READERS) -> None:
    for read in readers:
        with pytest.raises(UserError) as error:
            read(path)
        assert str(path) in str(error.value) and told in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nwhole.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile whole.mp4\n",
        "file whole.mp4\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        ";FFMETADATA1\ntitle=x\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>whole.mp4</BaseURL></MPD>',
        "1\n00:00:00,000 --> 00:00:01,000\nhi\n",
        "[playlist]\nFile1=whole.mp4\n",
        "\ufeff#EXTM3U\nwhole.mp4\n",
        "http://127.0.0.1/a.mp4\n",
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.ffconcat", "a.sdp", "a.mkv", "a.wav"])
def test_text_that_names_other_files_is_refused(whole: Path, text: str, name: str) -> None:
    path = whole.with_name(name)
    path.write_text(text, encoding="utf-8")
    refused(path, "it is text, and a playlist is not followed")


def test_no_listed_container_follows_references() -> None:
    assert not {"hls", "concat", "dash", "sdp", "imf", "webm_dash_manifest", "image2", "lavfi", "rtsp"} & set(
        CONTAINERS
    )
    names = {name for form in av.formats_available for name in form.split(",")}
    assert not set(CONTAINERS) - names


def test_any_name_is_a_file_and_no_protocol(whole: Path) -> None:
    for name in ("a:b.mp4", "http:%03d.mp4", "concat:x|y.mp4", "-i.mp4", "ü [1] ?.mp4", "pipe:0.mp4", "a#t=1.mp4"):
        path = whole.rename(whole.with_name(name))
        assert len(read_video(path, 16)) == 16
        path.rename(whole)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (av.error.InvalidDataError(1, "Invalid data found"), "Invalid data found"),
        (av.error.EOFError(2, "End of file"), "End of file"),
        (av.error.PermissionError(13, "Permission denied"), "Permission denied"),
        (av.error.MemoryError(12, "Cannot allocate"), "Cannot allocate"),
        (av.error.DecoderNotFoundError(3, "Decoder not found"), "Decoder not found"),
        (av.error.BugError(4, "Internal bug"), "Internal bug"),
        (av.error.UndefinedError(5, "Undefined"), "Undefined"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "UnicodeDecodeError"),
        (MemoryError(), "MemoryError"),
        (ValueError("all input arrays"), "ValueError: all input"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (EOFError(), "EOFError"),
        (OverflowError("too large"), "OverflowError: too large"),
        (IndexError("out of range"), "IndexError: out of range"),
    ],
)
def test_whatever_is_raised_against_a_file_becomes_one_line(whole: Path, error: Exception, told: str) -> None:
    with pytest.raises(UserError) as refusal, open_media(whole):
        raise error
    assert str(refusal.value).startswith(f"{whole}: broken or not media ({told}") and refusal.value.__cause__ is error


def test_a_bug_stays_a_bug(whole: Path) -> None:
    for error in (TypeError("x"), AttributeError("x"), AssertionError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)), open_media(whole):
            raise error


def test_pictures_that_change_size_are_refused(tmp_path: Path) -> None:
    for name, size in (("large", (64, 64)), ("small", (32, 48))):
        write_frames(tmp_path / f"{name}.h264", [picture(*size) for _ in range(8)], "libx264")
    path = tmp_path / "a.h264"
    path.write_bytes((tmp_path / "large.h264").read_bytes() + (tmp_path / "small.h264").read_bytes())
    told = "its pictures change from 64x64 to 48x32 at "
    refused(path, told, [lambda p: read_video(p, 16), lambda p: read_video(p, 16, (32, 32))])
    assert any(told in reason for reason in examine(Clip(id="a", video=path, caption="x")).refused)
    assert read_video(path, 16, end=0.2).shape == (3, 64, 64, 3)  # before it changes


def test_a_codec_without_a_decoder_is_named(whole: Path) -> None:
    data = whole.read_bytes()
    whole.write_bytes(data.replace(b"avc1", b"zzzz"))
    refused(whole, "its pictures are in a codec that FFmpeg cannot decode here", READERS[:2])
    assert read_audio(whole, 16000).shape == (1, 16000)
    at = data.index(b"\x40\x15", data.index(b"esds"))  # the kind of object in an MPEG-4 descriptor
    whole.write_bytes((data[:at] + b"\xfe" + data[at + 1 :]).replace(b"mp4a", b"zzzz"))
    refused(whole, "its sound is in a codec that FFmpeg cannot decode here", [READERS[0], READERS[2]])
    assert len(read_video(whole, 16)) == 16


def test_a_wav_of_an_unknown_codec_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, np.full((1, 8000), 0.5, np.float32), 16000)
    data = path.read_bytes()
    path.write_bytes(data[:20] + b"\x34\x12" + data[22:])
    refused(path, "its sound is in a codec that FFmpeg cannot decode here", [READERS[0], READERS[2]])


def test_metadata_need_not_be_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w", options={"write_crc32": "0"}) as container:
        container.metadata["title"] = "TITLETITLE"
        stream = container.add_stream("ffv1", rate=16)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.metadata["language"] = "deu"
        stream.metadata["handler_name"] = "HANDLEHANDLE"
        container.mux(stream.encode(picture(32, 32)))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(
        data.replace(b"TITLETITLE", b"\xff\xfe\xe4TLETITLE").replace(b"HANDLEHANDLE", b"\xe4\xf6\xfcDLEHANDLE")
    )
    assert path.read_bytes() != data and len(read_video(path, 16)) == 1 and probe(path).fps == 16


def test_moving_pictures_above_the_size_are_refused_from_the_header(tmp_path: Path) -> None:
    class Stream:
        type, codec_context, width = "video", object(), 16384

        def __init__(self, height: int) -> None:
            self.height = height

    check_decoder(tmp_path, Stream(MOST_PIXELS // 16384))
    with pytest.raises(UserError, match=r"a picture of 16384 x 8192; at most 80 million pixels are read"):
        check_decoder(tmp_path, Stream(8192))


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    refused(tmp_path / "folder.mp4", "no such file")
    refused(tmp_path / "gone.mp4", "no such file")
    refused(tmp_path / ("x" * 5000), "File name too long")
    refused(tmp_path / "a\0b.mp4", "")


def test_sound_files_of_every_usual_container_are_read(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", np.full((1, 8000), 0.5, np.float32), 16000)
    codecs = {"flac": "flac", "mp3": "libmp3lame", "ogg": "flac", "m4a": "aac", "aac": "aac", "ts": "aac"}
    codecs |= dict.fromkeys(("aiff", "au"), "pcm_s16be") | dict.fromkeys(("caf", "w64", "avi"), "pcm_s16le")
    for ending, codec in codecs.items():
        path = tmp_path / f"a.{ending}"
        with av.open(str(tmp_path / "a.wav")) as source, av.open(str(path), "w") as target:
            stream = target.add_stream(codec, rate=16000, layout="mono")
            resampler = av.AudioResampler(stream.format.name, "mono", 16000, stream.codec_context.frame_size or None)
            for frame in [*source.decode(audio=0), None]:
                for part in resampler.resample(frame):
                    target.mux(stream.encode(part))
            target.mux(stream.encode(None))
        sound = read_audio(path, 16000)
        assert abs(sound.shape[1] - 8000) < 2500 and np.abs(sound[0, 3000:5000] - 0.5).max() < 0.05


def test_media_are_opened_through_this_door_alone() -> None:
    calls = []
    for path in (file for room in ("ccl", "mtv", "shared", "scripts") for file in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("av.open", "Image.open"):
                writes = len(node.args) > 1 and ast.unparse(node.args[1]) == "'w'"
                calls += [] if writes else [f"{path.relative_to(ROOT)}: {ast.unparse(node.func)}"]
    # the figure is drawn by ourselves, in memory, and so is the picture that a model is asked about
    assert sorted(calls) == [
        "shared/data/containers.py: av.open",
        "shared/data/images.py: Image.open",
        "shared/evaluation/figures.py: Image.open",
        "shared/perception/captioner.py: Image.open",
    ]
