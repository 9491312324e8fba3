"""Media files as browsers, cameras and editors write them: no duration, a wrong one, many channels, several tracks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

TICK = Fraction(1, 90000)
#: Codecs of pictures and sound by container.
CODECS = {
    "mp4": ("libx264", "aac"), "mov": ("libx264", "pcm_s16le"), "matroska": ("libx264", "aac"),
    "webm": ("libvpx", "libopus"), "mpegts": ("libx264", "aac"), "wav": (None, "pcm_s16le"), "flac": (None, "flac"),
    "mp3": (None, "libmp3lame"), "ogg": (None, "libopus"), "adts": (None, "aac"), "avi": ("mpeg4", "libmp3lame"),
}  # fmt: skip
#: What an encoder asks for where that is not yuv420p, and what makes it fast and silent. (x265 breaks its memory with
#: pictures below 64.)
PIXELS = {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p", "dnxhd": "yuv422p", "qtrle": "rgb24"}
FAST = {
    "libx264": {"preset": "ultrafast"}, "libx265": {"x265-params": "log-level=none"},
    **{name: {"deadline": "realtime"} for name in ("libvpx", "libvpx-vp9")}, "libsvtav1": {"preset": "12"},
}  # fmt: skip


class Pipe(io.BytesIO):
    """A target that cannot seek: a muxer never comes back to write the duration into the header."""

    seek = tell = None  # type: ignore[assignment]

    def seekable(self) -> bool:
        return False


def flashes(times: Sequence[float], at: Sequence[float], size: int = 48) -> list[np.ndarray]:
    """A picture for each of `times`: white if its time is among `at`, otherwise dark."""
    white = [any(abs(time - one) < 1e-6 for one in at) for time in times]
    return [np.full((size, size, 3), 235 if flash else 20, np.uint8) for flash in white]


def tone(seconds: float, rate: int = 48000, channels: int = 2, pitch: float = 440.0, level: float = 0.5) -> np.ndarray:
    """float32 [channels, N]: a sine in every channel."""
    time = np.arange(round(seconds * rate)) / rate
    return np.repeat((level * np.sin(2 * np.pi * pitch * time)).astype(np.float32)[None], channels, 0)


def write_odd(
    path: Path, form: str, times: Sequence[float] = (), pictures: Sequence[np.ndarray] = (),
    sounds: Sequence[np.ndarray] = (), rate: int = 48000, layout: str = "stereo", piped: bool = False,
    codecs: tuple[Any, Any] | None = None, options: dict[str, str] | None = None, video: dict[str, Any] | None = None,
    default: int | None = None, languages: Sequence[str] = (), late_sound: float = 0.0,
) -> Path:  # fmt: skip
    """Write `pictures` at `times` and each of `sounds` [channels, N] as a track of its own in the container `form`.

    `piped`: through a target that cannot seek. `default`: number of the sound flagged as default, from 0. `video`:
    options of the encoder.
    """
    codec, sound_codec = codecs or CODECS[form]
    pipe = Pipe() if piped else None
    with av.open(pipe or str(path), "w", format=form, options=options or {}) as container:
        streams: list[tuple[Any, Any]] = []
        if len(pictures):
            stream = container.add_stream(codec, rate=25, options=FAST.get(codec, {}) | (video or {}))
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = PIXELS.get(codec, "yuv420p")
            stream.codec_context.thread_count = 1
            if codec != "mpeg4":
                stream.time_base = stream.codec_context.time_base = TICK
            streams.append((stream, _pictures(times, pictures, stream)))
        for number, sound in enumerate(sounds):
            stream = container.add_stream(sound_codec, rate=rate, layout=layout)
            if number < len(languages):
                stream.metadata["language"] = languages[number]
            if default is not None:
                stream.disposition = Disposition.default if number == default else Disposition(0)
            streams.append((stream, _sounds(sound, rate, layout, stream, late_sound)))
        packets = [packet for stream, frames in streams for frame in (*frames, None) for packet in stream.encode(frame)]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    if pipe is not None:
        path.write_bytes(pipe.getvalue())
    return path


def _pictures(times: Sequence[float], pictures: Sequence[np.ndarray], stream: Any) -> list[Any]:
    base = stream.codec_context.time_base or TICK
    frames = []
    for time, picture in zip(times, pictures, strict=True):
        frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=stream.pix_fmt)
        frame.pts, frame.time_base = round(Fraction(time) / base), base
        frames.append(frame)
    return frames


def _sounds(samples: np.ndarray, rate: int, layout: str, stream: Any, late: float) -> list[Any]:
    form = stream.codec_context.format.name
    size = stream.codec_context.frame_size or 1024
    frames = []
    for first in range(0, samples.shape[1], size):
        piece = samples[:, first : first + size]
        planar = piece if form.endswith("p") else piece.T.reshape(1, -1)
        kind = {"f": np.float32, "d": np.float64}.get(form[0], np.int16 if "16" in form else np.int32)
        full = np.iinfo(kind).max if np.issubdtype(kind, np.integer) else 1
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray((planar * full).astype(kind)), form, layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), first + round(late * rate)
        frames.append(frame)
    return frames


def turn_clockwise(path: Path) -> None:
    """Say in an mp4's header that its pictures are to be shown a quarter turned, as a telephone held upright does."""
    as_is, clockwise = [1 << 16, 0, 0, 0, 1 << 16], [0, 1 << 16, 0, -1 << 16, 0]
    before, after = (np.array(matrix, ">i4").tobytes() for matrix in (as_is, clockwise))
    data = path.read_bytes()
    track = data.index(b"tkhd")
    path.write_bytes(data[:track] + data[track:].replace(before, after, 1))
