"""A clip as a file of its own: the pictures of its span without bars as H.264, its sound as AAC, both exact."""

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

CODEC = "H.264 (crf 14) and AAC"
FOLDER = "clips"


def cut(record: Record, context: Context) -> Finding:
    """Write OUTPUT/clips/KEY.mp4. The pictures keep their times where the film's rate is even; others are brought to
    the film's mean rate."""
    file = context.output / FOLDER / f"{record.key}.mp4"
    info = probe(record.source)
    fps = Fraction(info.fps or 25.0).limit_denominator(1001)
    frames = max(1, round(record.seconds * fps))
    sources = [_picture_source(record, fps, frames, record.figures["technical"]["bars"])]
    rate = None
    if info.has_audio:
        sound, rate, layout = read_channels(record.source, record.start, record.end)
        if rate not in AAC_RATES:
            sound, rate = resample(sound, rate, 48000), 48000
        sources.append(sound_source(sound, rate, layout, frames / fps))
    write_streams(file, sources, rate)
    figures = {"files": [f"{FOLDER}/{file.name}"], "frames": frames, "codec": CODEC, "bytes": file.stat().st_size}
    return Finding(figures=figures)


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
