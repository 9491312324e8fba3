"""Two curves on one time axis: how alike they are at each lag, and which lag fits best."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.scores import correlation

Array = NDArray[np.float64]

LEAST_OVERLAP = 1.0
"""Seconds that both curves have in common at every lag that is tried."""


class Lag(NamedTuple):
    """Best lag in seconds, above 0 where the second curve is late, the correlation there, the one without a lag, and
    the whole `curve` [L] of correlations at `lags` [L]."""

    seconds: float
    correlation: float
    unshifted: float
    lags: Array
    curve: Array


def best_lag(first: Array, second: Array, rate: float, most: float) -> Lag:
    """Correlate two curves [T] of `rate` values per second at lags of -`most` to `most` seconds, each over what both
    have then. Of equal lags the smallest counts. ValueError if less than LEAST_OVERLAP would be left."""
    reach = round(most * rate)
    count = min(len(first), len(second))
    if count - reach < round(LEAST_OVERLAP * rate):
        raise ValueError(f"{count / rate:.2f} s of curves; {most + LEAST_OVERLAP:g} s are needed")
    first, second = first[:count], second[:count]
    shifts = range(-reach, reach + 1)
    pairs = [(first[max(0, -s) : count - max(0, s)], second[max(0, s) : count - max(0, -s)]) for s in shifts]
    curve = np.array([correlation(a, b) for a, b in pairs])
    best = min(range(len(shifts)), key=lambda i: (-curve[i], abs(shifts[i])))
    lags = np.array(shifts) / rate
    return Lag(float(lags[best]), float(curve[best]), float(curve[reach]), lags, curve)
