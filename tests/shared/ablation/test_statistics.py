"""Statistics of ablations against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shared.ablation.statistics import Difference, Measured, clip_interval, difference, spread, verdict


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
    assert found is not None and found.interval is not None
    assert found.by_seed == pytest.approx({0: 0.1, 1: 0.1, 2: 0.1}) and found.clips == 5
    assert found.interval == pytest.approx([0.1, 0.1])
    assert difference(new, {}, "x") is None
    only = difference({1: new[1], 7: new[0]}, old, "x")
    assert only is not None and list(only.by_seed) == [1]


def test_the_interval_covers_both_clips_and_seeds() -> None:
    """Two seeds that differ by ±1 in all clips: draws of seeds are -1, 0, 0, 1. And two clips, one seed: the same."""
    base = {s: of_clips([0.0] * 4) for s in range(2)}
    seeds = difference({0: of_clips([1.0] * 4), 1: of_clips([-1.0] * 4)}, base, "x")
    clips = difference({0: of_clips([1.0, -1.0])}, {0: of_clips([0.0, 0.0])}, "x")
    assert seeds is not None and seeds.interval == [-1.0, 1.0] and seeds.mean == 0
    assert clips is not None and clips.interval == [-1.0, 1.0]


def test_a_clip_hard_in_every_seed_is_one_clip() -> None:
    """Clips are crossed with seeds: more seeds of the same clips do not narrow what the clips leave open."""
    values = list(np.linspace(-1, 1, 10))
    few, many = (
        difference({s: of_clips(values) for s in range(n)}, {s: of_clips([0.0] * 10) for s in range(n)}, "x")
        for n in (1, 12)
    )
    assert few is not None and many is not None and few.interval is not None and many.interval is not None
    assert many.interval == pytest.approx(few.interval, abs=0.05) and few.interval[1] > 0.3


def test_without_values_per_clip_students_t_over_seeds() -> None:
    new = {s: Measured(v, None) for s, v in enumerate((1.0, 2.0, 3.0))}
    found = difference(new, {s: Measured(0.0, None) for s in range(3)}, "x")
    assert found is not None and found.clips is None and found.interval is not None
    half = 4.302653 / 3**0.5  # t(0.975, 2) · sd 1 / √3
    assert found.interval == pytest.approx([2 - half, 2 + half], abs=1e-5)
    one = difference({0: Measured(1.0, None)}, {0: Measured(0.0, None)}, "x")
    assert one is not None and one.interval is None


@pytest.mark.parametrize(
    ("by_seed", "interval", "better", "word"),
    [
        ((0.1, 0.2, 0.3), [0.05, 0.4], "higher", "better"),
        ((0.1, 0.2, 0.3), [0.05, 0.4], "lower", "worse"),
        ((-0.1, -0.2, -0.3), [-0.4, -0.05], "lower", "better"),
        ((-0.1, -0.2, -0.3), [-0.4, -0.05], None, "lower"),
        ((0.1, 0.2, 0.3), [-0.05, 0.4], "higher", "cannot be told"),
        ((-0.1, 0.2, 0.3), [0.05, 0.4], "higher", "cannot be told"),
        ((0.1, 0.2), [0.05, 0.4], "higher", "cannot be told"),
        ((0.1, 0.2, 0.3), None, "higher", "cannot be told"),
    ],
)
def test_verdicts(by_seed: tuple[float, ...], interval: list[float] | None, better: str | None, word: str) -> None:
    assert verdict(Difference(dict(enumerate(by_seed)), 0.1, interval, 4), better) == word
    assert verdict(None, better) == "cannot be told"


def test_intervals_are_the_same_each_time() -> None:
    clips = np.random.default_rng(0).random((20, 2))
    assert clip_interval(clips, "x") == clip_interval(clips, "x") != clip_interval(clips, "y")
    assert clip_interval(np.zeros((3, 2)), "x") is None
