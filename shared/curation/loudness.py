"""Loudness as broadcasters measure it: ITU-R BS.1770-4, in LUFS."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Array = NDArray[np.float64]

BLOCK, STEP = 0.4, 0.1
"""Seconds of a block, and from one to the next."""
OFFSET = -0.691  # dB, by which a sine of 997 Hz at full scale in one channel reads -3.01 LUFS
SILENT, QUIET = -70.0, -10.0
"""LUFS below which a block never counts, and LU below the mean of the others."""


def loudness_lufs(mono: NDArray[np.floating], rate: int) -> float | None:
    """Integrated loudness of mono sound [N]; None for less than a block, and for silence."""
    size, step = round(BLOCK * rate), round(STEP * rate)
    if len(mono) < size:
        return None
    weighted = np.asarray(mono, np.float64)
    for b, a in (_shelf(rate), _high_pass(rate)):
        weighted = lfilter(b, a, weighted)
    power = np.lib.stride_tricks.sliding_window_view(weighted**2, size)[::step].mean(1)
    loud = power[_lufs(power) > SILENT]
    if not len(loud):
        return None
    loud = loud[_lufs(loud) > float(_lufs(loud.mean())) + QUIET]
    return float(_lufs(loud.mean()))


def _lufs(power: Array | float) -> Array:
    return np.asarray(OFFSET + 10 * np.log10(np.maximum(power, 1e-12)))


def _shelf(rate: int) -> tuple[Array, Array]:
    """First filter of the standard, that of the head, at any sample rate: its values at 48 kHz, redesigned."""
    k, q = math.tan(math.pi * 1681.974450955533 / rate), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    a0 = 1 + k / q + k * k
    b = np.array([high + band * k / q + k * k, 2 * (k * k - high), high - band * k / q + k * k]) / a0
    return b, np.array([1, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0])


def _high_pass(rate: int) -> tuple[Array, Array]:
    """Second filter, which takes away what is too low to be loud."""
    k, q = math.tan(math.pi * 38.13547087602444 / rate), 0.5003270373238773
    a0 = 1 + k / q + k * k
    return np.array([1.0, -2.0, 1.0]), np.array([1, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0])
