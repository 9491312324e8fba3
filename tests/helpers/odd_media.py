"""Files as cameras, editors and other programs write them: any codec, pixel format and colours, written by PyAV."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

UNTAGGED = 2
_OPTIONS = {
    "libx264": {"preset": "ultrafast", "crf": "5"}, "libx265": {"x265-params": "log-level=none"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}  # fmt: skip


def write_frames(
    path: Path, frames: Iterable[Any], codec: str, tags: tuple[int, int, int, int] | None = None, extra: str = ""
) -> None:
    """Encode av frames at 16 a second; `tags`: matrix, range, transfer and primaries; `extra`: parameters of x265."""
    options = {name: extra + value if extra else value for name, value in _OPTIONS.get(codec, {}).items()}
    with av.open(str(path), "w") as container:
        stream = None
        for number, frame in enumerate(frames):
            if stream is None:
                stream = container.add_stream(codec, rate=16, options=options)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
                context = stream.codec_context
                context.thread_count = 1
                if tags is not None:
                    context.colorspace, context.color_range, context.color_trc, context.color_primaries = tags
            frame.pts, frame.time_base = number, Fraction(1, 16)
            container.mux(stream.encode(frame))
        assert stream is not None, "there are frames"
        container.mux(stream.encode(None))


def patch(rgb: tuple[int, int, int], height: int, width: int, matrix: int, full: bool, tagged: bool = True) -> Any:
    """One colour as yuv420p by `matrix`, in full or limited range."""
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), rgb, np.uint8), "rgb24")
    chosen = ColorRange.JPEG if full else ColorRange.MPEG
    frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace(matrix), dst_color_range=chosen)
    frame.colorspace = matrix if tagged else UNTAGGED
    return frame


def greys(signals: Iterable[float], transfer: int) -> Any:
    """Columns of 32 pixels of BT.2020 yuv420p10le whose luma are these signals in [0, 1]."""
    luma = np.repeat([round(876 * signal + 64) for signal in signals], 32)
    frame = av.VideoFrame(len(luma), 32, "yuv420p10le")
    for plane, values in zip(
        frame.planes, (np.tile(luma, (32, 1)), *2 * [np.full((16, len(luma) // 2), 512)]), strict=True
    ):
        rows = np.zeros((len(values), plane.line_size // 2), "<u2")
        rows[:, : values.shape[1]] = values
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries = 9, 1, transfer, 9
    return frame


def png(rows: np.ndarray, colour_type: int) -> bytes:
    """A 16-bit PNG of uint16 [H, W, channels]; Pillow writes none with several channels."""
    height, width = rows.shape[:2]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
