"""How high a voice is, and where two voices sound at once: signal processing on autocorrelations, without weights.

One voice: the lag at which a window is most like itself, divided by what the window's shape does to it (Boersma 1993,
"Accurate short-term analysis"). Two: the pair of lags whose combs, one after the other, cancel the window (de Cheveigné
1993, JASA 93(6)); where that leaves much less than the best single comb, no one voice explains the sound.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import butter, resample_poly, sosfiltfilt
from scipy.signal.windows import hann

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Sound = NDArray[np.float32]

RATE = 16000
HOP = 160
"""Samples between frames: 10 ms."""
LOWEST, HIGHEST = 70.0, 400.0
"""Hz, of voices that speak."""
OCTAVE_COST = 0.1
"""Of likeness per octave down: every multiple of a period is one too."""
OWN_RATE, WINDOW, BAND = 8000, 512, (60.0, 1500.0)
"""Hz and samples, 64 ms, in which likeness is measured, and the band of the harmonics that carry pitch."""
LEAST_REST, MOST_SHARE, TOGETHER = 0.2, 0.4, 11
"""Two voices: what the best single comb leaves at least, what two leave of that at most, over so many frames."""
BLOCK = 1000  # frames at a time
_SHORTEST, _LONGEST = int(OWN_RATE / HIGHEST), int(OWN_RATE / LOWEST)
_LAGS = np.arange(_SHORTEST, _LONGEST + 1)
_SUMS, _DIFFERENCES = _LAGS[:, None] + _LAGS, np.abs(_LAGS[:, None] - _LAGS)
_TINY = 1e-12


class Pitch(NamedTuple):
    """Per frame [T]: Hz, and how like itself the sound is one period later, up to about 1; 0 where it is silent."""

    hertz: Array
    likeness: Array


def frame_count(samples: int) -> int:
    """Count frames of HOP samples, the last begun."""
    return -(-samples // HOP)


def pitch_of(sound: Sound) -> Pitch:
    """Pitch of mono `sound` [N] at RATE around the middle of each frame of HOP samples."""
    parts = [_highest_peak(alike) for alike in _likeness(sound)]
    return Pitch(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def two_voices(sound: Sound) -> Mask:
    """Frames [T] of mono `sound` [N] at RATE in which two voices sound, neither much louder. Voices an octave
    apart pass for one, whose period is that of the lower one."""
    found = [_needs_two_combs(one) for alike in _likeness(sound) for one in alike]
    smooth: Mask = median_filter(np.array(found, np.uint8), TOGETHER, mode="constant").astype(bool)
    return smooth


def _highest_peak(alike: Array) -> Pitch:
    here = alike[:, _LAGS]
    peak = (here > alike[:, _LAGS - 1]) & (here >= alike[:, _LAGS + 1])
    worth = np.where(peak, here - OCTAVE_COST * np.log2(_LAGS / _SHORTEST), -np.inf)
    rows, lag = np.arange(len(alike)), _LAGS[worth.argmax(1)]
    before, at, after = (alike[rows, lag + by] for by in (-1, 0, 1))
    bend = np.minimum(before - 2 * at + after, -_TINY)
    by = ((before - after) / (2 * bend)).clip(-0.5, 0.5)  # the top of the parabola through three values
    return Pitch(OWN_RATE / (lag + by), np.where(peak.any(1), at, 0.0))


def _needs_two_combs(alike: Array) -> bool:
    """Judge one frame's autocorrelation [lags] by the share of its power that combs leave: one 1 − r(a), two
    E[(x(t) − x(t−a) − x(t−b) + x(t−a−b))²] / 4 E[x²]."""
    here = alike[_LAGS]
    single = 1 - here.max()
    if single <= LEAST_REST or not alike[0]:
        return False
    double = 1 - here[:, None] - here + (alike[_SUMS] + alike[_DIFFERENCES]) / 2
    return bool(double.min() < MOST_SHARE * single)


def _likeness(sound: Sound) -> Iterator[Array]:
    """Yield normalised autocorrelations [BLOCK or fewer, lags] at OWN_RATE around the frames, 1 at lag 0; zeros where
    it is silent. At least one block, which is empty where there is no sound."""
    count, hop = frame_count(len(sound)), HOP * OWN_RATE // RATE
    margin = OWN_RATE // 20
    small = resample_poly(np.pad(np.asarray(sound, np.float64), margin * RATE // OWN_RATE), OWN_RATE, RATE)
    small = sosfiltfilt(butter(4, BAND, "bandpass", fs=OWN_RATE, output="sos"), small)[margin:]
    padded, shape = np.pad(small, (WINDOW // 2 - hop // 2, WINDOW)), hann(WINDOW, sym=False)
    size, lags = 2 * WINDOW, 2 * _LONGEST + 2
    of_shape = np.fft.irfft(np.abs(np.fft.rfft(shape, size)) ** 2)[:lags]
    for first in range(0, max(1, count), BLOCK):
        places = np.arange(first, min(first + BLOCK, count))[:, None] * hop + np.arange(WINDOW)
        spectrum = np.abs(np.fft.rfft(padded[places] * shape, size, axis=1)) ** 2
        products = np.fft.irfft(spectrum, axis=1)[:, :lags]
        power = products[:, :1]
        yield np.where(power > _TINY, products / np.maximum(power, _TINY), 0.0) / (of_shape / of_shape[0])
