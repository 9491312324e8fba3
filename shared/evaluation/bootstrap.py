"""Bootstrap over clips, drawn with replacement: 95 % intervals of scores, and of differences clip by clip."""

from collections.abc import Mapping, Sequence
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
    """Mean over the clips that have a value, its 95 % "interval", both None without any, and "per_clip"."""
    counted = np.array([value for value in values.values() if value is not None], dtype=np.float64)
    if not len(counted):
        return {"mean": None, "interval": None, "per_clip": dict(values)}
    means = counted[resample(numpy_generator(0, "bootstrap"), len(counted))].mean(1)
    return {"mean": float(counted.mean()), "interval": interval(means), "per_clip": dict(values)}


def per_clip(names: Sequence[str], scores: Mapping[int, Mapping[str, Ratio]], clips: int) -> dict[str, Any]:
    """Collect what metrics.json keeps of each score: per held-out clip a value and a weight, rounded to 4 digits, whose
    weighted mean is the score over clips; null and 0 where it does not count."""
    by_score = {}
    for name in names:
        pairs = [scores.get(i, {}).get(name, (0.0, 0.0)) for i in range(clips)]
        values = [round(top / bottom, 4) if bottom else None for top, bottom in pairs]
        by_score[name] = {"value": values, "weight": [round(bottom, 4) for _, bottom in pairs]}
    return by_score


def compare_score(new: Mapping[str, Any], old: Mapping[str, Any], seed: int = 0) -> dict[str, Any]:
    """One score of two evaluations, as `per_clip` keeps it, on the clips where it counts in both: "new", "old", their
    "difference" and its 95 % bootstrap "interval", None where no clip counts, and "clips"."""
    pairs = zip(new["value"], new["weight"], old["value"], old["weight"], strict=False)
    rows = np.array([(a, u, b, w) for a, u, b, w in pairs if u and w], dtype=np.float64)
    if not len(rows):
        return {"new": None, "old": None, "difference": None, "interval": None, "clips": 0}
    draws = rows[resample(numpy_generator(seed, "bootstrap"), len(rows))]
    first, second = float(weighted_mean(rows[:, :2])), float(weighted_mean(rows[:, 2:]))
    spread = interval(weighted_mean(draws[..., :2]) - weighted_mean(draws[..., 2:]))
    return {"new": first, "old": second, "difference": first - second, "interval": spread, "clips": len(rows)}


def compare_tasks(new: Mapping[str, Any], old: Mapping[str, Any], seed: int = 0) -> dict[str, dict[str, Any]]:
    """`compare_score` of every score that both results of a task have and that counts somewhere in both."""
    names = [name for name in new["per_clip"] if name in old["per_clip"]]
    compared = {name: compare_score(new["per_clip"][name], old["per_clip"][name], seed) for name in names}
    return {name: values for name, values in compared.items() if values["clips"]}
