"""Fingerprints of a clip's pictures and of its sound, that stay as they are when it is encoded, scaled or turned down.

Pictures: the signs of differences of brightness between neighbours on a grid (dHash). Sound: the signs of differences
of energy between neighbouring bands and moments (Haitsma and Kalker, ISMIR 2002).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shared.curation.pictures import small_pictures
from shared.curation.record import Context, Finding, Record
from shared.data.media import read_mono

Bits = NDArray[np.bool_]

MOMENTS, GRID = 5, 16
"""Pictures of a clip, and rows and columns of each."""
LEAST = 1.0
"""Grey levels of 255 by which neighbours differ at least: what an even wall has below them is the encoder's."""
RATE, BAND_EDGES = 8000, np.geomspace(150, 3400, 18)  # Hz: 17 bands, 16 differences
WINDOW, STEP = 0.256, 0.064
"""Seconds of sound that are looked at together, and from one time to the next."""


def take(record: Record, context: Context) -> Finding:
    """Take both; bits are kept as hexadecimal digits."""
    sound, _ = read_mono(record.source, RATE, record.start, record.end)
    return Finding(figures={"pictures": to_hex(_pictures(record)), "sound": to_hex(sound_bits(sound[0]))})


def _pictures(record: Record) -> Bits:
    marks = record.start + record.seconds * (np.arange(MOMENTS) + 0.5) / MOMENTS
    rows: list[Bits] = []
    for picture in small_pictures(record.source, record.start, record.end, 4 * GRID):
        while len(rows) < MOMENTS and picture.time + picture.length > marks[len(rows)]:
            rows.append(picture_bits(picture.pixels))
        if len(rows) == MOMENTS:
            break
    while len(rows) < MOMENTS:  # the last picture is on show until the end
        rows.append(rows[-1] if rows else picture_bits(picture.pixels))
    return np.stack(rows)


def picture_bits(pixels: NDArray[np.uint8]) -> Bits:
    """Bits [GRID * GRID] of a picture [H, W, 3]."""
    grey = pixels.astype(np.float64).mean(-1)
    rows = _means(grey, GRID)
    cells = _means(rows.T, GRID + 1).T
    return (np.diff(cells, axis=1) > LEAST).reshape(-1)


def _means(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Bring the first axis to `count` means of equal spans, with shares of the rows at their edges."""
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, 0)])
    edges = np.linspace(0, len(values), count + 1)
    low = np.floor(edges).astype(int).clip(0, len(values) - 1)
    at = total[low] + (edges - low)[:, None] * values[low]
    return np.diff(at, axis=0) / (len(values) / count)


def sound_bits(sound: NDArray[np.float32]) -> Bits:
    """Bits [moments, 16] of mono sound [N] at RATE."""
    size, step = round(WINDOW * RATE), round(STEP * RATE)
    padded = np.pad(sound.astype(np.float64), (0, max(0, size + step - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::step] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = (BAND_EDGES / RATE * size).round().astype(int)
    energy = np.log(np.stack([power[:, a:b].sum(1) for a, b in pairwise(edges)], 1) + 1e-9)
    return np.diff(np.diff(energy, axis=1), axis=0) > 0


def to_hex(bits: Bits) -> list[str]:
    """Write rows of bits [N, B] as hexadecimal digits, B a multiple of 8."""
    return [np.packbits(row).tobytes().hex() for row in bits]


def from_hex(rows: list[str]) -> Bits:
    """Read what `to_hex` wrote."""
    return np.stack([np.unpackbits(np.frombuffer(bytes.fromhex(row), np.uint8)) for row in rows]).astype(bool)
