"""The Fréchet distance: scipy's numbers, what leaves it as it is, endless sets, and how often the interval holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from shared.evaluation.frechet import difference, estimate, frechet_distance

Array = NDArray[np.float64]


def by_scipy(x: Array, y: Array) -> float:
    c, d = np.cov(x.T), np.cov(y.T)
    apart = x.mean(0) - y.mean(0)
    return float(apart @ apart + np.trace(c) + np.trace(d) - 2 * np.trace(sqrtm(c @ d).real))


def pair(rows: int, dimension: int, seed: int = 0) -> tuple[Array, Array]:
    draw = np.random.default_rng(seed)
    mix = draw.normal(size=(dimension, dimension))
    return draw.normal(size=(rows, dimension)), draw.normal(0.3, 1.0, (rows + 7, dimension)) @ mix


@pytest.mark.parametrize("dimension", [1, 3, 16, 48])
def test_it_equals_scipy_where_the_sets_fill_the_space(dimension: int) -> None:
    x, y = pair(4 * dimension + 20, dimension, dimension)
    flat = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    wanted = flat if dimension == 1 else by_scipy(x, y)
    assert frechet_distance(x, y) == pytest.approx(wanted, rel=1e-6)


def test_what_leaves_it_as_it_is_and_what_does_not() -> None:
    x, y = pair(60, 12)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))
    value = frechet_distance(x, y)
    assert frechet_distance(y, x) == pytest.approx(value)
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(value)
    assert frechet_distance(x + 5, y + 5) == pytest.approx(value)
    assert frechet_distance(x[::-1], y) == pytest.approx(value)
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * value)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + 2) == pytest.approx(12 * 4)


def test_sets_that_do_not_fill_the_space_are_no_special_case() -> None:
    """Fewer rows than dimensions, copied columns, and no spread at all: finite, and by hand where that is possible."""
    x, y = pair(10, 40)
    assert np.isfinite(frechet_distance(x, y)) and frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    a, b = pair(50, 4)
    twice = frechet_distance(np.hstack([a, a]), np.hstack([b, b]))
    assert twice == pytest.approx(2 * frechet_distance(a, b))
    still = np.ones((5, 4))
    assert frechet_distance(still, a) == pytest.approx(np.sum((1 - a.mean(0)) ** 2) + np.trace(np.cov(a.T)))
    with pytest.raises(ValueError, match="N, M >= 2 are needed"):
        frechet_distance(a[:1], b)


def clips(rows: Array, per_clip: int = 1) -> list[Array]:
    return [rows[start : start + per_clip] for start in range(0, len(rows), per_clip)]


def draws(seed: int, rows: int, dimension: int, shift: float, per_clip: int) -> tuple[list[Array], list[Array]]:
    """Two Gaussians, one shifted and wider, whose true distance is D (shift² + (1 − sqrt(1 + shift))²); the rows of a
    clip share half of their variance."""
    draw = np.random.default_rng(seed)

    def rows_of(count: int) -> Array:
        own, common = draw.normal(size=(count, dimension)), draw.normal(size=(count // per_clip, dimension))
        return np.sqrt(0.5) * (own + np.repeat(common, per_clip, 0)) if per_clip > 1 else own

    return clips(rows_of(rows), per_clip), clips(shift + np.sqrt(1 + shift) * rows_of(rows), per_clip)


@pytest.mark.parametrize(("rows", "shift", "per_clip"), [(16, 0.0, 1), (16, 0.6, 1), (64, 0.6, 1), (240, 0.6, 4)])
def test_the_interval_holds_as_often_as_it_says_and_the_small_sets_bias_is_gone(
    rows: int, shift: float, per_clip: int
) -> None:
    dimension, truth = 8, 8 * (shift**2 + (1 - np.sqrt(1 + shift)) ** 2)
    found = [estimate(*draws(seed, rows, dimension, shift, per_clip)) for seed in range(60)]
    held = np.mean([one.interval[0] <= truth <= one.interval[1] for one in found if one.interval])
    assert held >= 0.88 and all(one.interval for one in found)  # 95 %, less three deviations of 60 draws
    values, endless = (np.array([getattr(one, name) for one in found]) for name in ("value", "infinity"))
    assert abs(endless.mean() - truth) < 0.3 * (values.mean() - truth)


def test_of_two_models_against_one_reference_the_difference_is_surer_than_its_parts() -> None:
    generated, reference = draws(0, 120, 6, 0.5, 1)
    draw = np.random.default_rng(5)
    other = [clip + 0.3 + 0.05 * draw.normal(size=clip.shape) for clip in generated]
    one, two = estimate(generated, reference), estimate(other, reference)
    found = difference(two, one)
    assert found is not None and found[1] is not None and one.interval and two.interval
    assert found[0] == pytest.approx((two.infinity or 0) - (one.infinity or 0))
    assert found[1][1] - found[1][0] < two.interval[1] - two.interval[0]
    assert found[1][0] <= found[0] <= found[1][1]


def test_sets_that_are_too_small_have_no_value_at_infinity() -> None:
    def shapes(rows: int, dimension: int) -> tuple[Sequence[Array], Sequence[Array]]:
        x, y = pair(rows, dimension)
        return clips(x), clips(y)

    assert estimate(*shapes(15, 8)).infinity is None and estimate(*shapes(16, 8)).infinity is not None
    few = estimate(*shapes(8, 2))
    assert few.infinity is not None and few.interval is None
    assert difference(few, few) == (0.0, None) and difference(estimate(*shapes(4, 8)), few) is None
