"""Distances of sets of clips: values at both sizes, what is refused, and pairs of models."""

from __future__ import annotations

import numpy as np
import pytest

from shared.evaluation.frechet import frechet_distance
from shared.evaluation.metrics.base import Result
from shared.evaluation.score_sets import distance, distance_pair, features


def clips(count: int, shift: float = 0.0, seed: int = 0, rows: int = 2) -> dict[str, Result]:
    draw = np.random.default_rng(seed)
    arrays = [(shift + draw.normal(size=(rows, 4))).astype(np.float32) for _ in range(count)]
    return {f"{number:03d}": Result(float(rows), features=array) for number, array in enumerate(arrays)}


def test_values_at_both_sizes_and_what_counted() -> None:
    reference, mine = clips(40, seed=1), clips(30, 1.0) | {"x": Result(None, "silent")}
    score = distance(mine, reference, False)
    rows = [
        np.concatenate([one.features for one in side.values() if one.features is not None])
        for side in (mine, reference)
    ]
    assert score["at_size"] == pytest.approx(frechet_distance(*rows))
    assert score["interval"][0] < score["value"] < score["interval"][1] and score["value"] < score["at_size"]
    assert (score["n"], score["rows"], score["reference_rows"], score["dimension"]) == (30, 60, 80, 4)
    assert score["refused"] == {"silent": 1} and score["n_refused"] == 1 and score["clips"]["x"] is None


def test_the_order_of_names_means_nothing() -> None:
    mine = clips(30, 1.0)
    turned = dict(reversed(mine.items()))
    assert list(features(mine)) == list(features(turned)) != list(mine)


def test_sets_below_twice_the_dimension_are_refused_unless_asked_for() -> None:
    few, reference = clips(3), clips(40, seed=1)
    score = distance(few, reference, False)
    assert (
        score["value"] is None and score["at_size"] is None and score["why_none"] == "6 rows of features; 8 are needed"
    )
    asked = distance(few, reference, True)
    assert asked["value"] is None and asked["interval"] is None and asked["at_size"] > 0
    assert distance(reference, few, False)["why_none"] == "6 rows of features; 8 are needed"
    long = distance(clips(3, rows=20), reference, False)
    assert long["value"] is None and long["why_none"] == "3 clips; 4 are needed"
    none = distance({"x": Result(None, "silent")}, reference, True)
    assert none["why_none"] == "fewer than 2 rows of features" and none["refused"] == {"silent": 1}


def test_pairs_are_the_clips_that_both_have() -> None:
    old = clips(30)
    new = {name: Result(2.0, features=one.features + 0.5) for name, one in old.items() if one.features is not None}
    reference, pairs = clips(40, seed=1), [(name, name) for name in old]
    found = distance_pair(new, {**old, "000": Result(None, "silent")}, reference, pairs)
    assert found["n"] == 29 and found["difference"] == pytest.approx(found["new"] - found["old"])
    assert found["interval"][0] < found["difference"] < found["interval"][1] and found["difference"] > 0
    assert distance_pair(new, old, reference, pairs[:2])["difference"] is None
    one_row = {name: Result(1.0, features=one.features[:1]) for name, one in old.items() if one.features is not None}
    assert distance_pair(one_row, old, reference, pairs[:1])["difference"] is None
    assert distance_pair(new, old, reference, []) == dict.fromkeys(("new", "old", "difference", "interval")) | {"n": 0}
