"""Lags between curves."""

from __future__ import annotations

import numpy as np
import pytest

from shared.evaluation.metrics.curves import best_lag


def test_the_lag_is_how_late_the_second_curve_is() -> None:
    curve = np.random.default_rng(0).random(300)
    late = best_lag(curve[20:], curve[:280], 100.0, 0.5)
    assert late.seconds == pytest.approx(0.2) and late.correlation == pytest.approx(1)
    assert late.unshifted < 0.3 and late.curve[late.lags.tolist().index(0.2)] == late.correlation
    assert best_lag(curve[:250], curve[50:], 100.0, 0.5).seconds == pytest.approx(-0.5)


def test_of_equal_lags_the_smallest_counts() -> None:
    beat = np.tile([0.0, 0.0, 1.0, 0.0], 75)
    found = best_lag(beat, beat, 100.0, 0.5)
    assert found.seconds == 0 and found.lags[[0, -1]].tolist() == [-0.5, 0.5]
    assert best_lag(np.zeros(300), beat, 100.0, 0.5).correlation == 0


def test_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1.40 s of curves; 1.5 s are needed"):
        best_lag(np.zeros(140), np.zeros(200), 100.0, 0.5)
