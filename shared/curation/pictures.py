"""Pictures of a span of a film one after the other, small, each with its time: a film never fits into memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shared.data.colour import check_colours
from shared.data.containers import check_decoder
from shared.data.media import reading, timed_pictures, upright_picture
from shared.data.media_write import Video
from shared.utils.errors import UserError

EDGE = 1e-6
"""Seconds by which times may differ and be the same."""


class Picture(NamedTuple):
    """A picture RGB [H, W, 3] of a film, on show from `time` for `length` seconds on the film's timeline."""

    time: float
    length: float
    pixels: Video


def small_pictures(path: Path, start: float, end: float, longest: int) -> Iterator[Picture]:
    """Yield the pictures that begin in [start, end), whole and upright, `longest` pixels on their longer side at most.
    UserError for a file without pictures, a broken one, and one of which no picture begins there."""
    with reading(path) as file:
        if file.video is None:
            raise UserError(f"{path}: has no video stream; a file with pictures is needed")
        check_decoder(path, file.video)
        size = None
        for frame, time, length in timed_pictures(file, start):
            if time < -EDGE:
                continue
            if time >= end - start - EDGE:
                break
            if size is None:
                check_colours(path, frame)
                size = _fitted(*upright_size(frame, file.video), longest)
            yield Picture(start + time, length, upright_picture(frame, size, file.video))
    if size is None:
        raise UserError(f"{path}: no pictures between {start:g} s and {end:g} s; its end may be missing")


def upright_size(frame: Any, stream: Any) -> tuple[int, int]:
    """Height and width of a frame as it is shown, with square pixels."""
    wide = round(float(stream.sample_aspect_ratio or 1) * frame.width)
    return (wide, frame.height) if round(frame.rotation / 90) % 2 else (frame.height, wide)


def _fitted(height: int, width: int, longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
