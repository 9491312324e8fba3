"""Fréchet distance of two sets of features, each taken for a Gaussian, with its value for endless sets and an interval.

|m1 − m2|² + tr(C1 + C2 − 2 (C1 C2)^½) grows when the sets are small, by about a/n: two draws of one distribution are
always apart. A bootstrap makes it worse, as each resample has fewer different rows, so its interval lies beside the
value. Here FD-infinity is where the line through the value at n rows and the mean value of the two halves, drawn over
1/n, meets 1/n = 0 (Chong and Forsyth, arXiv 1911.07023, with disjoint halves in the place of random subsets); both sets
are halved. Sizes below a half changed neither bias nor spread when that was simulated. The interval comes from a
jackknife that deletes one group of clips after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Array = NDArray[np.float64] | NDArray[np.float32]

GROUPS, LEAST_GROUPS = 20, 10
"""Groups of clips of the jackknife; with fewer clips than LEAST_GROUPS there is no interval."""
LEAST_ROWS, LEAST_CLIPS = 2, 4
"""Rows per dimension, for a half must fill the space, and clips, below which there is no FD-infinity."""


@dataclass(frozen=True)
class Frechet:
    """A distance: at the sets' own sizes (`value`), of endless ones (`infinity`, None for sets that are too small), its
    95 % `interval`, and what it was of. `replicates`: `infinity` without each group of clips."""

    value: float
    infinity: float | None
    interval: list[float] | None
    rows: int
    reference_rows: int
    dimension: int
    replicates: tuple[float, ...] = ()


def frechet_distance(first: Array, second: Array) -> float:
    """Distance of features [N, D] and [M, D], covariances over N − 1, in float64.

    tr (C1 C2)^½ is the sum of the roots of the eigenvalues of C1 C2, and these roots are the singular values of
    X Yᵀ / sqrt((N − 1)(M − 1)), X and Y centred; of X and Y their triangular QR factors are enough. Nothing is squared
    and no matrix root is taken, so sets that do not fill the space are no special case.
    """
    x, y = (np.asarray(side, np.float64) for side in (first, second))
    if min(len(x), len(y)) < 2 or x.shape[1:] != y.shape[1:] or x.ndim != 2:
        raise ValueError(f"features {x.shape} and {y.shape}: [N, D] and [M, D] with N, M >= 2 are needed")
    mean = x.mean(0) - y.mean(0)
    x, y = ((side - side.mean(0)) / np.sqrt(len(side) - 1) for side in (x, y))
    triangles: list[Any] = [np.linalg.qr(side, mode="r") for side in (x, y)]
    roots = np.linalg.svd(triangles[0] @ triangles[1].T, compute_uv=False)
    return float(mean @ mean + np.sum(x * x) + np.sum(y * y) - 2 * roots.sum())


def estimate(generated: Sequence[Array], reference: Sequence[Array], least_rows: int = LEAST_ROWS) -> Frechet:
    """Distance of clips' features, each [rows of the clip, D], in an order that means nothing. A clip is deleted, and
    goes to a half, as a whole, because rows of one clip are alike."""
    x, y = _rows(generated), _rows(reference)
    dimension, value = x.shape[1], frechet_distance(x, y)
    if min(len(x), len(y)) < least_rows * dimension or min(len(generated), len(reference)) < LEAST_CLIPS:
        return Frechet(value, None, None, len(x), len(y), dimension)
    infinity, groups = at_infinity(generated, reference), min(GROUPS, len(generated), len(reference))
    if groups < LEAST_GROUPS:
        return Frechet(value, infinity, None, len(x), len(y), dimension)
    replicates = tuple(
        at_infinity(_without(generated, group, groups), _without(reference, group, groups)) for group in range(groups)
    )
    return Frechet(value, infinity, _interval(infinity, replicates), len(x), len(y), dimension, replicates)


def at_infinity(generated: Sequence[Array], reference: Sequence[Array]) -> float:
    """Twice the distance of all clips minus the mean one of both halves, every other clip: the line over 1/n at 0."""
    whole = frechet_distance(_rows(generated), _rows(reference))
    halves = [frechet_distance(_rows(generated[side::2]), _rows(reference[side::2])) for side in (0, 1)]
    return 2 * whole - float(np.mean(halves))


def _rows(clips: Sequence[Array]) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(clip, np.float64) for clip in clips])


def _without(clips: Sequence[Array], group: int, groups: int) -> list[Array]:
    """All clips but one of so many blocks of neighbours, so that both halves lose about the same."""
    starts = np.arange(groups + 1) * len(clips) // groups
    return [*clips[: starts[group]], *clips[starts[group + 1] :]]


def difference(new: Frechet, old: Frechet) -> tuple[float, list[float] | None] | None:
    """FD-infinity of `new` minus that of `old`, and its interval, where both are of clips in the same order against the
    same reference: what a group does to both cancels. None where one has no FD-infinity."""
    if new.infinity is None or old.infinity is None:
        return None
    apart = new.infinity - old.infinity
    if not new.replicates or len(new.replicates) != len(old.replicates):
        return apart, None
    return apart, _interval(apart, [a - b for a, b in zip(new.replicates, old.replicates, strict=True)])


def _interval(value: float, replicates: Sequence[float]) -> list[float]:
    """Jackknife by groups: (G − 1)/G times the sum of squares of the replicates, Student's t with G − 1 degrees."""
    count, spread = len(replicates), np.asarray(replicates) - np.mean(replicates)
    half = float(student.ppf(0.975, count - 1) * np.sqrt((count - 1) / count * np.sum(spread**2)))
    return [value - half, value + half]
