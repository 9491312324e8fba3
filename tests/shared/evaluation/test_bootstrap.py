"""One bootstrap: what it draws, its interval, and a mean over clips."""

from __future__ import annotations

import numpy as np
import pytest

from shared.evaluation.bootstrap import RESAMPLES, interval, over_clips, resample, weighted_mean
from shared.utils.rng import numpy_generator


def test_draws_are_of_all_clips_with_replacement() -> None:
    picks = resample(numpy_generator(0, "bootstrap"), 7)
    assert picks.shape == (RESAMPLES, 7) and set(picks.flat) == set(range(7))
    assert any(len(set(row)) < 7 for row in picks)
    assert np.array_equal(picks, resample(numpy_generator(0, "bootstrap"), 7))


def test_the_interval_holds_95_percent_of_what_is_finite() -> None:
    values = np.append(np.arange(1001.0), np.nan)
    assert interval(values) == [25.0, 975.0]
    assert interval(np.array([np.nan, np.inf])) is None


def test_a_weighted_mean_counts_no_clip_of_weight_zero() -> None:
    pairs = np.array([[1.0, 1.0], [4.0, 2.0], [np.pi, 0.0]])
    assert weighted_mean(pairs) == pytest.approx(3.0)
    assert np.isnan(weighted_mean(np.array([[1.0, 0.0]])))


def test_the_mean_over_clips_lies_in_its_interval() -> None:
    values = {f"clip{i}": float(i) for i in range(20)} | {"silent": None}
    found = over_clips(values)
    assert found["mean"] == 9.5 and found["per_clip"] == values
    assert 6 < found["interval"][0] < 9.5 < found["interval"][1] < 13
    assert over_clips({"silent": None}) == {"mean": None, "interval": None, "per_clip": {"silent": None}}
