"""A clip as a file of its own, exact: the pictures of its span as H.264, without bars, its sound as AAC. Pictures of
H.264 that begin with a key frame and need none from outside the span are copied, without loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from shared.curation.pictures import EDGE, upright_size
from shared.curation.record import Context, Finding, Record
from shared.data.media import probe, read_channels, reading, timed_pictures, upright_picture
from shared.data.media_write import (
    AAC_RATES,
    Source,
    Video,
    add_video_stream,
    encoded,
    sound_source,
    video_frame,
    write_streams,
)
from shared.data.samples import resample

CODEC, COPIED = "H.264 (crf 14) and AAC", "H.264 as it was, and AAC"
FOLDER = "clips"
EVEN = 1e-3
"""Seconds by which the times of pictures of an even rate may be off, as their file rounds them."""


def cut(record: Record, context: Context) -> Finding:
    """Write OUTPUT/clips/KEY.mp4. The pictures keep their times where the film's rate is even; others are brought to
    the film's mean rate."""
    file = context.output / FOLDER / f"{record.key}.mp4"
    info = probe(record.source)
    fps = Fraction(info.fps or 25.0).limit_denominator(1001)
    frames = max(1, round(record.seconds * fps))
    bars = record.figures["technical"]["bars"]
    packets = [] if any(bars) else copyable(record, fps, frames)
    sources = [_copy_source(record, packets) if packets else _picture_source(record, fps, frames, bars)]
    rate = None
    if info.has_audio:
        sound, rate, layout = read_channels(record.source, record.start, record.end)
        if rate not in AAC_RATES:
            sound, rate = resample(sound, rate, 48000), 48000
        sources.append(sound_source(sound, rate, layout, frames / fps))
    write_streams(file, sources, rate)
    codec, size = COPIED if packets else CODEC, file.stat().st_size
    return Finding(figures={"files": [f"{FOLDER}/{file.name}"], "frames": frames, "codec": codec, "bytes": size})


def copyable(record: Record, fps: Fraction, frames: int) -> list[Any]:
    """Read the packets of exactly the pictures of a span, if they can be decoded by themselves; else none."""
    with reading(record.source) as file:
        stream, zero = file.video, file.zero + record.start
        first, _, _ = next(timed_pictures(file, record.start))
        is_plain = not first.rotation and not first.interlaced_frame and stream.sample_aspect_ratio in (None, 0, 1)
        if not is_plain or (stream.codec.name, first.format.name) != ("h264", "yuv420p"):
            return []
        file.container.seek(round(zero / stream.time_base), stream=stream)
        found: list[Any] = []
        for packet in file.container.demux(stream):
            if packet.pts is None:  # the end of the file
                continue
            time = float(packet.pts * stream.time_base) - zero
            if time > record.seconds - EDGE:
                break
            if found or (packet.is_keyframe and abs(time) < EDGE):
                found.append(packet)
        times = sorted(float(one.pts * stream.time_base) - zero for one in found)
    even = [abs(time - number / fps) < EVEN for number, time in enumerate(times)]
    return found if len(found) == len(even) == frames and all(even) else []


def _copy_source(record: Record, packets: list[Any]) -> Source:
    def source(container: Any) -> Iterator[Any]:
        with reading(record.source) as file:
            stream = container.add_stream_from_template(file.video)
        begin = packets[0].pts

        def moved() -> Iterator[Any]:
            for packet in packets:
                packet.pts, packet.dts = packet.pts - begin, packet.dts - begin
                packet.stream = stream
                yield packet

        return moved()

    return source


def _picture_source(record: Record, fps: Fraction, frames: int, bars: list[float]) -> Source:
    def source(container: Any) -> Iterator[Any]:
        pictures = _pictures(record, fps, frames, bars)
        first = next(pictures)
        stream = add_video_stream(container, first.shape[0], first.shape[1], fps)

        def made() -> Iterator[Any]:
            yield video_frame(first, 0, 1 / fps)
            for number, picture in enumerate(pictures, start=1):
                yield video_frame(picture, number, 1 / fps)

        return encoded(stream, made())

    return source


def _pictures(record: Record, fps: Fraction, frames: int, bars: list[float]) -> Iterator[Video]:
    """Yield exactly `frames` pictures, each the last that began by the middle of its time on show."""
    count = 0
    shown = None
    with reading(record.source) as file:
        for frame, time, _ in timed_pictures(file, record.start):
            while shown is not None and count < frames and time > (count + 0.5) / fps:
                yield _picture(shown, file.video, bars)
                count += 1
            if count == frames or time > record.seconds - EDGE:
                break
            shown = frame
        assert shown is not None  # the stage before has seen pictures here
        for _ in range(count, frames):
            yield _picture(shown, file.video, bars)


def _picture(frame: Any, stream: Any, bars: list[float]) -> Video:
    """Pixels of a frame without its bars, and what of them is grey beside each; both sides become even."""
    picture = upright_picture(frame, upright_size(frame, stream), stream)
    spans = []
    for size, (before, after) in zip(picture.shape[:2], (bars[:2], bars[2:]), strict=True):
        first = _margin(before, size)
        length = size - first - _margin(after, size)
        spans.append(slice(first, first + length - length % 2))
    return picture[spans[0], spans[1]]


def _margin(share: float, size: int) -> int:
    return 0 if not share else int(share * size) + 2


def clip_file(output: Path, record: Record) -> Path:
    """Where a clip's file is."""
    return output / FOLDER / f"{record.key}.mp4"
