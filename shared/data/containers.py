"""The one door for media files: which containers are opened, and what becomes of all that FFmpeg says against one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from shared.data.clip_files import existing
from shared.utils.errors import UserError

#: Demuxers of files that hold their media themselves. Playlists and scripts (hls, concat, dash, sdp ...), which name
#: other files or addresses, are none of them.
CONTAINERS = (
    "mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "mxf", "nut", "ivf", "dv", "gif", "apng",
    "yuv4mpegpipe", "h264", "hevc", "m4v", "mpegvideo", "mjpeg", "obu", "av1",
    "wav", "w64", "aiff", "au", "caf", "flac", "mp3", "aac", "ac3", "eac3", "dts", "amr", "wv", "ape", "tta",
)  # fmt: skip
MOST_PIXELS = 80_000_000  # of one picture, moving or still; less than Pillow warns of
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders of them drop it
#: What damaged files raise in PyAV and numpy besides FFmpeg's own errors. Others are bugs, and stay what they are.
_DAMAGE = (OSError, EOFError, ValueError, LookupError, ArithmeticError, MemoryError)


@contextmanager
def open_media(path: Path) -> Iterator[Any]:
    """Open a local file, its name in any Unicode composition, as an `av` container of `CONTAINERS`.

    Whatever is raised against the file, here or while it is read in the block, becomes a UserError with its reason.
    """
    try:
        path = existing(path)
        check_file(path)
        options = {"protocol_whitelist": "file", "format_whitelist": ",".join(CONTAINERS)}
        # file: or a colon in the name would be read as a protocol; metadata is shown to nobody
        with av.open(f"file:{path}", options=options, metadata_errors="replace") as container:
            yield container
    except UserError:
        raise
    except (av.FFmpegError, *_DAMAGE) as error:
        wanted = "a whole mp4, mov, mkv, webm or wav file is expected"
        raise UserError(f"{path}: broken or not media ({_reason(path, error)}); {wanted}") from error


def check_decoder(path: Path, stream: Any) -> None:
    """Raise UserError if the pictures or the sound of `stream` cannot be decoded, or if its pictures are too large."""
    if stream.codec_context is None:
        what = "pictures are" if stream.type == "video" else "sound is"
        raise UserError(f"{path}: its {what} in a codec that FFmpeg cannot decode here; convert it to mp4 or wav")
    if stream.type == "video":
        check_pixels(path, stream.width, stream.height)


def decode(container: Any, stream: Any) -> Iterator[Any]:
    """Frames of `stream` from where the container stands, transparent ones with their alpha."""
    codec = stream.codec_context.name
    if codec in _WITH_ALPHA and stream.metadata.get("alpha_mode") == "1":
        decoder = av.CodecContext.create(_WITH_ALPHA[codec], "r")
        for packet in container.demux(stream):
            yield from decoder.decode(packet)
    else:
        yield from container.decode(stream)


def check_pixels(path: Path, width: int, height: int) -> None:
    """Raise UserError for pictures above `MOST_PIXELS`, known from the header: nothing is decoded for it."""
    if width * height > MOST_PIXELS:
        most = f"at most {MOST_PIXELS // 10**6} million pixels are read"
        raise UserError(f"{path}: a picture of {width} x {height}; {most}, scale it down")


def check_file(path: Path) -> None:
    """Raise UserError unless there is a file with something in it."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; the path of an existing file is needed")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes); write or copy it again")


def _reason(path: Path, error: BaseException) -> str:
    if isinstance(error, (av.error.InvalidDataError, av.error.ArgumentError)) and _is_text(path):
        return "it is text, and a playlist is not followed"
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}".removesuffix(": ")


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(256)
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
