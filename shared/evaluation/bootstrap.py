"""Bootstrap over clips: clips drawn with replacement, and the 95 % interval of what is computed from each draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.utils.rng import numpy_generator

Array = NDArray[np.float64]
#: The score of one clip, (numerator, denominator): over clips both are summed, then divided.
Ratio = tuple[float, float]

RESAMPLES = 1000


def resample(generator: np.random.Generator, count: int, resamples: int = RESAMPLES) -> NDArray[np.int_]:
    """Numbers of `count` clips (or seeds) drawn with replacement, [resamples, count]."""
    return generator.integers(count, size=(resamples, count))


def interval(values: Array) -> list[float] | None:
    """95 % interval of a statistic over the resamples, [resamples]; those that are not finite do not count."""
    finite = values[np.isfinite(values)]
    return [float(np.quantile(finite, share)) for share in (0.025, 0.975)] if len(finite) else None


def weighted_mean(pairs: Array) -> Array:
    """Means of (value, weight) over clips, [..., clips, 2] -> [...]; NaN where no weight is above 0."""
    sums, weights = (pairs[..., 0] * pairs[..., 1]).sum(-1), pairs[..., 1].sum(-1)
    return np.divide(sums, weights, out=np.full(np.shape(sums), np.nan), where=weights > 0)


def over_clips(values: Mapping[str, float | None]) -> dict[str, Any]:
    """Mean over clips: "mean", its 95 % bootstrap "interval", and "per_clip", the values as they are given.

    A clip whose value is None does not count; without any that counts, mean and interval are None.
    """
    counted = np.array([value for value in values.values() if value is not None], dtype=np.float64)
    if not len(counted):
        return {"mean": None, "interval": None, "per_clip": dict(values)}
    means = counted[resample(numpy_generator(0, "bootstrap"), len(counted))].mean(1)
    return {"mean": float(counted.mean()), "interval": interval(means), "per_clip": dict(values)}
