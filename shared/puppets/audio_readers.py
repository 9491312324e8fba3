"""Readers of the puppets' audio that know nothing of its script.

Bands (Hz), which the puppets keep apart: onsets click in 4500-7500, voices alone reach 2300-3800, music is looked for
in 120-330, its roots.
"""

from __future__ import annotations

from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from shared.puppets.sound import beat
from shared.utils.onsets import half_rise, onset_peaks

Array = NDArray[np.float64]
Sound = NDArray[np.float32] | Array

CLICK_BAND, SPEECH_BAND, MUSIC_BAND = (4500.0, 7500.0), (2300.0, 3800.0), (120.0, 330.0)
HOP = 0.005
"""Seconds between two frames of the analysis."""
WINDOW = 0.016
CLICK_FLOOR = 10 ** (-44 / 20)
"""RMS of the click band below which nothing is an onset."""
CLICK_RISE, CLICK_SHARE = 2.0, 0.2
"""How many times louder than just BEFORE, and which share of the clip's loudest click, an onset has to be."""
BEFORE = (round(0.06 / HOP), round(0.02 / HOP))
"""Frames before an onset, from and to, that are compared with it."""
LEAST_GAP = 0.15
"""Seconds between two onsets that are kept apart; the scripts have 0.35."""
LAST = 0.03
"""Seconds before the end in which nothing is an onset: codecs put a step there."""
MUSIC_FLOOR, PACE_STEP, PACE_SPREAD = 1e-4, 4, 0.3
"""RMS below which there is no music; frames per step of the beat's fit; relative deviation that counts as a misfit."""


def band_level(sound: Sound, rate: int, band: tuple[float, float], window: float = WINDOW) -> Array:
    """RMS amplitude of `sound` [N] inside `band` every HOP seconds, [1 + N / (rate * HOP)]; frame k is at k * HOP."""
    size, hop = round(window * rate), round(HOP * rate)
    padded = np.pad(np.asarray(sound, np.float64), (size // 2, size))
    count = len(sound) // hop + 1
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[: count * hop : hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames)) ** 2
    frequency = np.fft.rfftfreq(size, 1 / rate)
    inside = (frequency >= band[0]) & (frequency <= band[1])
    return np.sqrt(2 * power[:, inside].sum(1) / size / (np.hanning(size) ** 2).sum())


def read_onsets(sound: Sound, rate: int) -> Array:
    """Onset times in seconds, ascending: peaks of the log spectral flux of CLICK_BAND.

    The flux is the rise of the band's level over the loudest of the 15-45 ms before; the onset stands where the level
    passes half of the peak that follows.
    """
    level = band_level(sound, rate, CLICK_BAND)
    peaks = onset_peaks(level, CLICK_FLOOR, CLICK_SHARE, round(LEAST_GAP / HOP), rise=CLICK_RISE, before=BEFORE)
    return np.array([half_rise(level, peak) * HOP for peak in peaks if peak * HOP <= len(sound) / rate - LAST])


def read_loudness(sound: Sound, rate: int) -> Array:
    """Loudness of speech every HOP seconds: RMS in SPEECH_BAND, Gaussian-smoothed by 25 ms."""
    return gaussian_filter1d(band_level(sound, rate, SPEECH_BAND), 0.025 / HOP)


def read_pace(sound: Sound, rate: int) -> str:
    """Pace of the music: "bright" (fast) or "dark" (slow), "" where there is none.

    The level of MUSIC_BAND is fitted by the puppets' beat at every tempo and phase of a grid. Frames with speech or
    just after a click weigh little; what is louder than the beat explains is taken as something else on top of it. Of
    the music's mode nothing is read: thirds are 6 Hz apart, and codecs on mel bands do not carry that.
    """
    level, loudness, click = (
        band_level(sound, rate, band, window)[::PACE_STEP]
        for band, window in ((MUSIC_BAND, 0.05), (SPEECH_BAND, 0.03), (CLICK_BAND, 0.03))
    )
    if np.median(level) < MUSIC_FLOOR:
        return ""
    loudness = maximum_filter1d(loudness, 3)
    fade = np.exp(-HOP * PACE_STEP / 0.2)  # a hit rings on, by 1/e in 0.2 s
    ringing = np.array(list(accumulate(click[1:], lambda last, hit: max(last * fade, hit), initial=0.0)))
    clean = (level > MUSIC_FLOOR) / (1 + (loudness / 0.002) ** 2 + (ringing / 0.005) ** 2)
    beats, fast = _beats(len(level))
    weights = np.broadcast_to(clean, beats.shape)
    for _ in range(4):
        gain = (weights * beats * level).sum(1) / np.maximum((weights * beats**2).sum(1), 1e-12)
        music = np.maximum(gain[:, None] * beats, 1e-6)
        weights = clean / (1 + np.maximum(0, (level - music) / (PACE_SPREAD * music)) ** 2)
    misfit = (clean * np.log1p(((level - music) / (PACE_SPREAD * music)) ** 2)).sum(1)
    return "bright" if fast[np.argmin(misfit)] else "dark"


@cache
def _beats(count: int) -> tuple[Array, NDArray[np.bool_]]:
    """Loudness of the puppets' music at tempi and phases of a grid, [grid, count], and which of them are fast."""
    times = np.arange(count, dtype=np.float64) * HOP * PACE_STEP
    grid = [(bpm, phase) for bpm in (*range(64, 81, 4), *range(132, 153, 5)) for phase in np.arange(0, 1, 0.125)]
    swing = np.array([beat(times, bpm, phase) for bpm, phase in grid])
    return 0.35 + 0.65 * swing, np.array([bpm > 100 for bpm, _ in grid])
