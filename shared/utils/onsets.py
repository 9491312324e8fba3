"""Onsets in a curve that is sampled evenly: peaks that stand out, and where each begins to rise."""

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

Array = NDArray[np.float64]


def onset_peaks(
    curve: Array, floor: float, share: float, distance: int, *, prominent: bool = False, rise: float = 0.0,
    before: tuple[int, int] = (0, 0),
) -> list[int]:  # fmt: skip
    """Frames of the peaks of `curve` [T] that are onsets, ascending.
    They are at least `floor`, and `share` of the highest value, high, and if `prominent` stand out as much; `distance`
    frames apart (the higher counts); `rise` times higher than all from `before[0]` to `before[1]` frames earlier."""
    least = max(floor, share * float(curve.max(initial=0)))
    padded = np.pad(curve, 1)  # a peak may be the first or the last frame
    peaks, _ = find_peaks(padded, height=least, distance=distance, prominence=least if prominent else None)
    onsets = []
    for peak in map(int, peaks - 1):
        earlier = curve[max(0, peak - before[0]) : max(0, peak - before[1])]
        if not earlier.size or curve[peak] >= rise * earlier.max():
            onsets.append(peak)
    return onsets


def half_rise(curve: Array, peak: int) -> float:
    """Frame where `curve` [T], 0 before it begins, passes half of its `peak` on the way up, linear between frames."""
    half, padded = curve[peak] / 2, np.pad(curve, (1, 0))
    first = peak + 1
    while padded[first - 1] > half:
        first -= 1
    return max(0.0, float(first - 2 + (half - padded[first - 1]) / (padded[first] - padded[first - 1])))
