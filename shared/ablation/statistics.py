"""Statistics over seeds and clips: mean and spread, paired differences with intervals, and a verdict.

The held-out clips are the same in every run: a bootstrap draw takes seeds and clips, each with replacement, and the
same clips for every seed and both variants. Drawn anew for each seed, a clip hard for all would count as several.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from shared.evaluation.bootstrap import interval, resample, weighted_mean
from shared.utils.rng import numpy_generator

Array = NDArray[np.float64]

RESAMPLES = 2000
LEAST_SEEDS = 3  # below this number of seeds nothing can be told
UNTOLD = "cannot be told"


class Measured(NamedTuple):
    """A metric of one run: its value and, where it is known, `clips` [n, 2] with a value and a weight per clip."""

    value: float
    clips: Array | None

    @classmethod
    def of_clips(cls, clips: Array) -> Measured:
        """Return the weighted mean of clips [n, 2]."""
        return cls(float(weighted_mean(clips)), clips)


class Spread(NamedTuple):
    """A metric over the seeds of a variant; `std` is that of a sample, None for one seed."""

    seeds: int
    mean: float
    std: float | None
    low: float
    high: float


class Difference(NamedTuple):
    """A variant minus the reference, by seed. `interval` (95 %) covers seeds and clips, of which `clips` count in some
    run; without values per clip seeds alone, by Student's t, and None for one seed."""

    by_seed: Mapping[int, float]
    mean: float
    interval: list[float] | None
    clips: int | None


def spread(measured: Mapping[int, Measured]) -> Spread | None:
    """Mean, standard deviation, least and greatest over seeds; None where nothing was measured."""
    values = np.array([run.value for run in measured.values()])
    if not len(values):
        return None
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    return Spread(len(values), float(values.mean()), std, float(values.min()), float(values.max()))


def difference(new: Mapping[int, Measured], old: Mapping[int, Measured], name: str) -> Difference | None:
    """Return `new` minus `old` on the seeds that both have; None if they share none. `name` names the draws. A seed's
    difference is that of two weighted means over all clips: so is an F1, with weights that differ by run."""
    seeds = sorted(new.keys() & old.keys())
    if not seeds:
        return None
    by_seed = {s: new[s].value - old[s].value for s in seeds}
    values = np.array(list(by_seed.values()))
    mean = float(np.mean(values))
    tables = [[side[s].clips for s in seeds] for side in (new, old)]
    shapes = {None if table is None else table.shape for side in tables for table in side}
    if len(shapes) > 1 or None in shapes:
        if len(seeds) < 2:
            return Difference(by_seed, mean, None, None)
        half = float(student.ppf(0.975, len(seeds) - 1) * values.std(ddof=1) / len(seeds) ** 0.5)
        return Difference(by_seed, mean, [mean - half, mean + half], None)
    crossed = np.array(tables)
    return Difference(by_seed, mean, _crossed_interval(crossed, name), int((crossed[..., 1] > 0).any((0, 1)).sum()))


def verdict(minus: Difference | None, better: str | None) -> str:
    """Say "better" or "worse" (or "higher", "lower") where LEAST_SEEDS agree and the interval excludes zero."""
    if minus is None or minus.interval is None or len(minus.by_seed) < LEAST_SEEDS:
        return UNTOLD
    low, high = minus.interval
    if len({np.sign(value) for value in minus.by_seed.values()}) > 1 or low <= 0 <= high:
        return UNTOLD
    if better is None:
        return "higher" if low > 0 else "lower"
    return "better" if (low > 0) == (better == "higher") else "worse"


def clip_interval(clips: Array, name: str) -> list[float] | None:
    """95 % bootstrap interval over clips [n, 2] of their weighted mean."""
    picks = resample(numpy_generator(0, "ablation", "clips", name), len(clips), RESAMPLES)
    return interval(weighted_mean(clips[picks]))


def _crossed_interval(tables: Array, name: str) -> list[float] | None:
    """Interval of the mean over seeds of new - old, [2, seeds, clips, 2]."""
    draws = numpy_generator(0, "ablation", "difference", name)
    seeds, clips = tables.shape[1:3]
    which = resample(draws, clips, RESAMPLES)
    means = np.stack([[weighted_mean(table[which]) for table in side] for side in tables])  # [2, seeds, draws]
    rows = resample(draws, seeds, RESAMPLES)
    return interval((means[0] - means[1]).T[np.arange(RESAMPLES)[:, None], rows].mean(1))
