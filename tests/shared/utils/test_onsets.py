"""Onsets of curves whose peaks are known."""

from __future__ import annotations

import numpy as np
import pytest

from shared.utils.onsets import half_rise, onset_peaks

CURVE = np.array([0, 0, 1.0, 0.5, 0.2, 0, 0.15, 0, 0, 0.6, 0.9, 0.8, 0])


def test_peaks_are_high_enough_and_far_enough_apart() -> None:
    assert onset_peaks(CURVE, 0.1, 0.0, 1) == [2, 6, 10]
    assert onset_peaks(CURVE, 0.2, 0.0, 1) == onset_peaks(CURVE, 0.1, 0.2, 1) == [2, 10]
    assert onset_peaks(CURVE, 0.1, 0.0, 9) == [2]
    assert onset_peaks(np.zeros(4), 0.1, 0.5, 1) == []


def test_a_peak_must_rise_over_what_was_before() -> None:
    assert onset_peaks(CURVE, 0.1, 0.0, 1, rise=2.0, before=(4, 1)) == [2, 10]
    assert onset_peaks(CURVE + 0.5, 0.1, 0.0, 1, rise=2.0, before=(4, 1)) == [2, 10]
    assert onset_peaks(CURVE + 1.0, 0.1, 0.0, 1, rise=2.0, before=(4, 1)) == [2]
    assert onset_peaks(CURVE + 0.5, 0.1, 0.0, 1, prominent=True) == [2, 6, 10]
    assert onset_peaks(CURVE + 0.5, 0.3, 0.0, 1, prominent=True) == [2, 10]


@pytest.mark.parametrize(("curve", "peak", "where"), [([1.0], 0, 0.0), ([0, 0, 1.0], 2, 1.5), ([0, 0.4, 0.8], 2, 1.0)])
def test_the_onset_is_where_half_of_the_peak_is_passed(curve: list[float], peak: int, where: float) -> None:
    assert half_rise(np.array(curve), peak) == pytest.approx(where)
