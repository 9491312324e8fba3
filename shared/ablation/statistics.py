"""Statistics over seeds and clips: mean and spread, paired t tests over seeds, Holm's correction, power, a verdict.

What decides is Student's t over the differences of the seeds' means: a seed trains anew, its clips do not. A bootstrap
over seeds and clips explains how much of the spread is the clips'. The held-out clips are the same in every run: a draw
takes seeds and clips, each with replacement, and the same clips for every seed and both variants. Drawn anew for each
seed, a clip hard for all would count as several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import nct
from scipy.stats import t as student

from shared.evaluation.bootstrap import interval, resample, weighted_mean
from shared.utils.rng import numpy_generator

Array = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.05  # of a family of contrasts together
HOLDS, REVERSED, UNTOLD = "holds", "the other way round", "cannot be told"


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
    """A variant minus another, by seed. `interval` (95 %) and the two-sided `p` are Student's t over the seeds, None
    for one seed. `bootstrap` (95 %) covers seeds and clips, of which `clips` count in some run; None without values per
    clip."""

    by_seed: Mapping[int, float]
    mean: float
    interval: tuple[float, float] | None
    p: float | None
    bootstrap: list[float] | None = None
    clips: int | None = None


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
    mean, half, p = paired_t(list(by_seed.values()))
    interval = None if half is None else (mean - half, mean + half)
    tables = [[side[s].clips for s in seeds] for side in (new, old)]
    shapes = {None if table is None else table.shape for side in tables for table in side}
    if len(shapes) > 1 or None in shapes:
        return Difference(by_seed, mean, interval, p)
    crossed = np.array(tables)
    clips = int((crossed[..., 1] > 0).any((0, 1)).sum())
    return Difference(by_seed, mean, interval, p, _crossed_interval(crossed, name), clips)


def paired_t(differences: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean of paired differences, half of its 95 % interval by Student's t, and the two-sided p of a mean of 0; None
    and None for one. Differences without any spread leave p at 0, or at 1 if they are 0."""
    values = np.array(differences)
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return mean, None, None
    error = float(values.std(ddof=1) / count**0.5)
    if error <= 1e-12 * max(1.0, abs(mean)):
        return mean, 0.0, float(abs(mean) <= 1e-12)
    p = 2 * float(student.sf(abs(mean) / error, count - 1))
    return mean, float(student.ppf(0.975, count - 1)) * error, p


def holm(p: Sequence[float]) -> list[float]:
    """Correct the p of a family of contrasts by Holm's steps, in the order in which they are given."""
    corrected, last = [0.0] * len(p), 0.0
    for rank, index in enumerate(np.argsort(p, kind="stable").tolist()):
        last = max(last, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = last
    return corrected


def power(effect: float, deviation: float, seeds: int, level: float) -> float:
    """Tell how often a paired t test finds differences of mean `effect` and standard `deviation` over `seeds`."""
    critical, shift = float(student.ppf(1 - level / 2, seeds - 1)), abs(effect) / deviation * seeds**0.5
    wrong_way = np.nan_to_num(nct.cdf(-critical, seeds - 1, shift))  # so small for a large effect that it is lost
    return float(nct.sf(critical, seeds - 1, shift) + wrong_way)


def verdict(effect: float, interval: tuple[float, float], corrected: float, bound: float) -> str:
    """Say whether a claim `holds`, an `effect` above 0 being in its favour, by its corrected p; and whether the effect
    is smaller than `bound`, as the interval says."""
    small = f"smaller than {bound:g}" if max(map(abs, interval)) < bound else ""
    told = (HOLDS if effect > 0 else REVERSED) if corrected < LEVEL else ""
    return ", ".join(filter(None, (told, small))) or UNTOLD


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
