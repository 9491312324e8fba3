"""One bootstrap: what it draws, its interval, a mean over clips, and evaluations compared clip by clip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.evaluation.bootstrap import (
    RESAMPLES,
    compare_score,
    compare_tasks,
    interval,
    over_clips,
    per_clip,
    resample,
    weighted_mean,
)
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


def kept(values: list[float | None], weights: list[float] | None = None) -> dict[str, Any]:
    return {"value": values, "weight": weights or [0.0 if v is None else 1.0 for v in values]}


def test_per_clip_keeps_what_the_score_is_made_of() -> None:
    scores = {0: {"f1": (2.0, 3.0)}, 2: {"f1": (0.0, 0.0)}, 3: {}}
    assert per_clip(["f1"], scores, 5) == {"f1": kept([0.6667, None, None, None, None], [3.0, 0, 0, 0, 0])}


def test_the_difference_is_weighted_and_only_on_common_clips() -> None:
    found = compare_score(kept([1.0, 0.5, None, 0.0], [1, 3, 0, 2]), kept([0.0, 0.5, 0.7], [1, 1, 1]))
    assert found["clips"] == 2
    assert (found["new"], found["old"]) == (pytest.approx(2.5 / 4), pytest.approx(0.25))
    assert found["difference"] == pytest.approx(0.375)


def test_a_constant_difference_has_a_narrow_interval_however_clips_differ() -> None:
    old = kept([0.1, 0.4, 0.6, 0.9, 0.2, 0.5])
    found = compare_score(kept([v + 0.05 for v in old["value"]]), old)
    assert found["interval"] == [pytest.approx(0.05), pytest.approx(0.05)]
    spread = compare_score(kept(old["value"][::-1]), old)
    assert spread["interval"][0] < spread["difference"] < spread["interval"][1]


def test_scores_that_never_count_are_left_out() -> None:
    new, old = (
        {"per_clip": {"a": kept([1.0]), "b": kept([None]), "c": kept([1.0])}},
        {"per_clip": {"a": kept([0.5]), "b": kept([1.0])}},
    )
    assert list(compare_tasks(new, old)) == ["a"]
    assert compare_score(kept([None]), kept([1.0]))["difference"] is None
