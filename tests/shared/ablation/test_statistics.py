"""Statistics of ablations against cases worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from shared.ablation.results import read_results
from shared.ablation.statistics import (
    Measured,
    clip_interval,
    difference,
    holm,
    paired_t,
    power,
    spread,
    verdict,
)


def of_clips(values: list[float], weights: list[float] | None = None) -> Measured:
    return Measured.of_clips(np.array([values, weights or [1.0] * len(values)]).T)


def test_mean_and_spread_over_seeds() -> None:
    found = spread({0: Measured(1.0, None), 1: Measured(2.0, None), 2: Measured(6.0, None)})
    assert found is not None
    assert (found.seeds, found.mean, found.low, found.high) == (3, 3.0, 1.0, 6.0)
    assert found.std == pytest.approx(7**0.5)  # (4 + 1 + 9) / 2
    alone = spread({4: Measured(2.0, None)})
    assert alone is not None and alone.std is None and spread({}) is None


def test_the_value_of_clips_is_their_weighted_mean() -> None:
    # an F1: (2·1 + 0·... ) hits over totals, 0.5·4 + 1·2 of 6
    assert of_clips([0.5, 1.0, 9.0], [4.0, 2.0, 0.0]).value == pytest.approx(4 / 6)


def test_differences_are_paired_by_seed_and_clip() -> None:
    hard = np.array([0.0, 1.0, 2.0, 3.0, 40.0])  # clips differ far more than the variants
    old = {s: of_clips(list(hard + s)) for s in range(3)}
    new = {s: of_clips(list(hard + s + 0.1)) for s in range(3)}
    found = difference(new, old, "x")
    assert found is not None and found.interval is not None and found.bootstrap is not None
    assert found.by_seed == pytest.approx({0: 0.1, 1: 0.1, 2: 0.1}) and found.clips == 5
    assert found.interval == pytest.approx((0.1, 0.1)) and found.bootstrap == pytest.approx([0.1, 0.1])
    assert difference(new, {}, "x") is None
    only = difference({1: new[1], 7: new[0]}, old, "x")
    assert only is not None and list(only.by_seed) == [1]


def test_the_bootstrap_covers_both_clips_and_seeds() -> None:
    """Two seeds that differ by ±1 in all clips: draws of seeds are -1, 0, 0, 1. And two clips, one seed: the same."""
    base = {s: of_clips([0.0] * 4) for s in range(2)}
    seeds = difference({0: of_clips([1.0] * 4), 1: of_clips([-1.0] * 4)}, base, "x")
    clips = difference({0: of_clips([1.0, -1.0])}, {0: of_clips([0.0, 0.0])}, "x")
    assert seeds is not None and seeds.bootstrap == [-1.0, 1.0] and seeds.mean == 0
    assert clips is not None and clips.bootstrap == [-1.0, 1.0] and clips.interval is None


def test_a_clip_hard_in_every_seed_is_one_clip() -> None:
    """Clips are crossed with seeds: more seeds of the same clips do not narrow what the clips leave open."""
    values = list(np.linspace(-1, 1, 10))
    few, many = (
        difference({s: of_clips(values) for s in range(n)}, {s: of_clips([0.0] * 10) for s in range(n)}, "x")
        for n in (1, 12)
    )
    assert few is not None and many is not None and few.bootstrap is not None and many.bootstrap is not None
    assert many.bootstrap == pytest.approx(few.bootstrap, abs=0.05) and few.bootstrap[1] > 0.3


def test_the_interval_is_students_t_over_seeds() -> None:
    new = {s: Measured(v, None) for s, v in enumerate((1.0, 2.0, 3.0))}
    found = difference(new, {s: Measured(0.0, None) for s in range(3)}, "x")
    assert found is not None and found.clips is found.bootstrap is None and found.interval is not None
    half = 4.302653 / 3**0.5  # t(0.975, 2) · sd 1 / √3
    assert found.interval == pytest.approx((2 - half, 2 + half), abs=1e-5)
    one = difference({0: Measured(1.0, None)}, {0: Measured(0.0, None)}, "x")
    assert one is not None and one.interval is None


@pytest.mark.parametrize(
    ("p", "corrected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # R: p.adjust(c(.01, .04, .03, .005), "holm")
        ([0.01, 0.01, 0.01], [0.03, 0.03, 0.03]),
        ([0.9, 0.6], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holms_steps(p: list[float], corrected: list[float]) -> None:
    assert holm(p) == pytest.approx(corrected)


def test_a_paired_t_test_is_that_of_the_library() -> None:
    new, old = [0.294, 0.4, 0.31, 0.35], [0.22, 0.236, 0.29, 0.2]
    mean, half, p = paired_t([a - b for a, b in zip(new, old, strict=True)])
    expected = ttest_rel(new, old)
    interval = expected.confidence_interval(0.95)
    assert half is not None
    assert (mean - half, mean + half, p) == pytest.approx((interval.low, interval.high, expected.pvalue))
    assert paired_t([0.3]) == (0.3, None, None)
    assert paired_t([0.3, 0.3, 0.3])[1:] == (0.0, 0.0) and paired_t([0.0, 0.0]) == (0.0, 0.0, 1.0)


def test_power_is_how_often_the_test_finds_what_is_there() -> None:
    draws = np.random.default_rng(0).normal(0.1, 0.08, (4000, 8))
    found = ttest_1samp(draws, 0, axis=1).pvalue < 0.01
    assert power(0.1, 0.08, 8, 0.01) == pytest.approx(found.mean(), abs=0.02)
    assert power(-0.1, 0.08, 8, 0.01) == pytest.approx(power(0.1, 0.08, 8, 0.01))
    assert power(0.15, 0.03, 8, 0.01) == pytest.approx(1, abs=1e-3) and power(5.0, 0.1, 8, 0.01) == 1.0
    assert power(1e-9, 0.08, 8, 0.05) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize(
    ("effect", "interval", "corrected", "word"),
    [
        (0.3, (0.1, 0.5), 0.049, "holds"),
        (-0.3, (-0.5, -0.1), 0.01, "the other way round"),
        (0.3, (-0.1, 0.7), 0.051, "cannot be told"),
        (0.01, (-0.02, 0.04), 0.4, "smaller than 0.05"),
        (0.01, (-0.02, 0.05), 0.4, "cannot be told"),
        (0.01, (-0.06, 0.04), 0.4, "cannot be told"),
        (0.02, (0.01, 0.03), 0.001, "holds, smaller than 0.05"),
    ],
)
def test_verdicts(effect: float, interval: tuple[float, float], corrected: float, word: str) -> None:
    assert verdict(effect, interval, corrected, 0.05) == word


def test_the_first_editions_numbers_by_these_statistics() -> None:
    """Its bootstrap of CCL against the hard gate excluded 0; Student's t over its three seeds does not."""
    (results,) = read_results([Path(__file__).parents[3] / "docs/results/first/ccl"])
    name, base = "event score at 0.1 s", results.measured("ccl", "event score at 0.1 s")
    found = {
        v: difference(results.measured(v, name), base, name) for v in ("gate_hard", "full", "no_partition", "no_lct")
    }
    assert all(found.values())
    gate = found["gate_hard"]
    assert gate is not None and gate.bootstrap is not None and gate.bootstrap[1] < 0
    assert gate.interval == pytest.approx((-0.232, 0.017), abs=5e-4) and gate.p == pytest.approx(0.0655, abs=1e-4)
    assert holm([one.p for one in found.values() if one and one.p is not None])[0] == pytest.approx(0.111, abs=1e-3)
    assert power(0.107, 0.0501, 8, 0.01) == pytest.approx(0.97, abs=0.005)


def test_intervals_are_the_same_each_time() -> None:
    clips = np.random.default_rng(0).random((20, 2))
    assert clip_interval(clips, "x") == clip_interval(clips, "x") != clip_interval(clips, "y")
    assert clip_interval(np.zeros((3, 2)), "x") is None
