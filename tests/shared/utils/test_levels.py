"""How loud sound is, and from where on it counts as silence."""

from __future__ import annotations

import numpy as np
import pytest

from shared.utils.levels import SILENCE_DBFS, is_silent, rms_dbfs


def test_levels_are_root_mean_squares_in_decibels_of_full_scale() -> None:
    assert rms_dbfs(np.ones((2, 8))) == 0 and rms_dbfs(0.1 * np.ones(5)) == pytest.approx(-20)
    assert rms_dbfs(np.sin(np.arange(48_000))) == pytest.approx(-3.01, abs=0.01)
    assert rms_dbfs(np.zeros((1, 0))) == rms_dbfs(np.zeros(5)) == -np.inf


def test_silence_begins_at_its_threshold() -> None:
    assert SILENCE_DBFS == -45
    assert not is_silent(np.full(9, 10 ** (-44.9 / 20))) and is_silent(np.full(9, 10 ** (-45.1 / 20)))
