"""What can be heard: readers of the stage's sound that know nothing of its script.

Bands (Hz), which the stage keeps apart: onsets click in 4500-7500, voices alone reach 2300-3800, music is 130-600.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from scipy.signal import find_peaks

Array = NDArray[np.float64]

CLICK_BAND, SPEECH_BAND, MUSIC_BAND = (4500.0, 7500.0), (2300.0, 3800.0), (100.0, 600.0)
HOP = 0.005
"""Seconds between two frames of the analysis."""
WINDOW = 0.016
CLICK_FLOOR = 10 ** (-44 / 20)
"""RMS of the click band below which nothing is heard as an onset."""
CLICK_RISE, CLICK_SHARE = 2.0, 0.2
"""How many times louder than just before, and which share of the clip's loudest click, an onset has to be."""
LEAST_GAP = 0.15
"""Seconds between two onsets that are told apart; the stage keeps 0.35."""


def band_level(sound: Array, rate: int, band: tuple[float, float], window: float = WINDOW) -> Array:
    """RMS amplitude of `sound` [N] inside `band` every HOP seconds, [1 + N / (rate * HOP)]; frame k is at k * HOP."""
    size, hop = round(window * rate), round(HOP * rate)
    padded = np.pad(np.asarray(sound, np.float64), (size // 2, size))
    count = len(sound) // hop + 1
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[: count * hop : hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames)) ** 2
    frequency = np.fft.rfftfreq(size, 1 / rate)
    inside = (frequency >= band[0]) & (frequency <= band[1])
    return np.sqrt(2 * power[:, inside].sum(1) / size / (np.hanning(size) ** 2).sum())


def read_onsets(sound: Array, rate: int) -> Array:
    """Onset times in seconds, ascending: peaks of the log spectral flux of CLICK_BAND.

    The flux is the rise of the band's level over the loudest of the 15-45 ms before; the onset stands where the level
    passes half of the peak that follows.
    """
    level = band_level(sound, rate, CLICK_BAND)
    floor = max(CLICK_FLOOR, CLICK_SHARE * float(level.max()))
    peaks, _ = find_peaks(np.pad(level, 1), height=floor, distance=round(LEAST_GAP / HOP))
    onsets = []
    for peak in peaks - 1:
        before = level[max(0, peak - round(0.06 / HOP)) : max(0, peak - round(0.02 / HOP))]
        if len(before) and level[peak] < CLICK_RISE * before.max():
            continue
        k = peak
        while k > 0 and level[k - 1] > level[peak] / 2:
            k -= 1
        share = (level[peak] / 2 - level[k - 1]) / (level[k] - level[k - 1]) if k else 1.0
        onsets.append((k - 1 + share) * HOP)
    return np.array(onsets)


def read_loudness(sound: Array, rate: int, times: Array) -> Array:
    """Loudness of speech at `times` (seconds), [len(times)]: RMS in SPEECH_BAND, Gaussian-smoothed by 25 ms."""
    level = gaussian_filter1d(band_level(sound, rate, SPEECH_BAND), 0.025 / HOP)
    return np.interp(times, np.arange(len(level)) * HOP, level)
