from __future__ import annotations

import numpy as np
import pytest

from mtv.separation_scores import LEAST_DB, MOST_DB, residual_dbfs, si_sdr

DRAW = np.random.default_rng(0)
TRUTH, NOISE = DRAW.standard_normal((2, 2, 4000))
NOISE -= (NOISE * TRUTH).sum() / (TRUTH**2).sum() * TRUTH  # orthogonal: the ratio of energies is then the answer


@pytest.mark.parametrize("decibel", [-7.0, 0.0, 13.0])
def test_orthogonal_noise_gives_the_ratio_of_energies(decibel: float) -> None:
    noise = NOISE * np.sqrt((TRUTH**2).sum() / (NOISE**2).sum()) * 10 ** (-decibel / 20)
    assert si_sdr(TRUTH + noise, TRUTH) == pytest.approx(decibel)
    assert si_sdr(-0.3 * (TRUTH + noise), TRUTH) == pytest.approx(decibel)


def test_bounds() -> None:
    assert si_sdr(2 * TRUTH, TRUTH) == MOST_DB
    assert si_sdr(0 * TRUTH, TRUTH) == LEAST_DB
    assert si_sdr(NOISE, TRUTH) == LEAST_DB


def test_a_silent_truth_is_measured_by_what_is_left() -> None:
    with pytest.raises(ValueError, match="residual_dbfs"):
        si_sdr(NOISE, np.zeros_like(NOISE))
    assert residual_dbfs(np.full((2, 100), 0.01)) == pytest.approx(-40)
    assert residual_dbfs(np.zeros((1, 100))) == LEAST_DB


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        si_sdr(TRUTH[:1], TRUTH)
