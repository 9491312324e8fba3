"""Numbers over clips: intervals, refusals counted by reason, paired differences, and rows of tables."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import pytest

from shared.evaluation.metrics.base import Result
from shared.evaluation.score_tables import csv_rows, difference, escaped, in_words, latex_rows, over_clips, summary


def results(values: list[float | None], weights: list[float] | None = None) -> dict[str, Result]:
    weights = weights or [1.0] * len(values)
    return {
        str(i): Result(value, "" if value is not None else "silent", weight=weight)
        for i, (value, weight) in enumerate(zip(values, weights, strict=True))
    }


def test_a_mean_counts_what_was_refused_and_why() -> None:
    score = over_clips(results([1.0, None, 3.0, None]) | {"x": Result(None, "no video")})
    assert score["value"] == 2 and score["n"] == 2 and score["n_refused"] == 3
    assert score["refused"] == {"silent": 2, "no video": 1}
    assert score["interval"] == [1.0, 3.0] and score["clips"]["1"] is None
    assert over_clips(results([None]))["value"] is None
    assert over_clips(results([5.0]))["interval"] is None  # one clip tells no spread


def test_weights_count() -> None:
    assert over_clips(results([0.0, 1.0], [3.0, 1.0]))["value"] == 0.25


def test_the_interval_is_that_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(10, 2, 400)
    low, high = over_clips(results(values.tolist()))["interval"]
    assert (high - low) / 2 == pytest.approx(1.96 * 2 / 20, rel=0.15) and low < 10 < high


def test_a_difference_is_of_pairs_alone() -> None:
    new, old = over_clips(results([5.0, 7.0, None, 100.0])), over_clips(results([4.0, 6.0, 1.0]))
    pairs = [(name, name) for name in "0123"]
    found = difference(new, old, pairs)
    assert found == {"new": 6.0, "old": 5.0, "difference": 1.0, "interval": [1.0, 1.0], "n": 2}
    assert difference(new, old, [("2", "0")])["difference"] is None
    assert (
        difference(new, old, [("1", "2")])["difference"] == 6 and difference(new, old, [("1", "2")])["interval"] is None
    )


@pytest.fixture
def metrics() -> dict[str, Any]:
    sets = {"a_b": over_clips(results([1.0, 2.0])), "c": over_clips(results([None, -1.0]))}
    pair = {"of": "c", "minus": "a_b", **difference(sets["c"], sets["a_b"], [("1", "1")])}
    temp = {"better": "higher", "preprocessing_hash": "p", "weights": "w", "sets": sets, "pairs": [pair]}
    return {"clips": {"a_b": {}, "c": {}}, "metrics": {"temp_c": temp}}


def test_tables_have_every_number(metrics: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_rows(metrics))))
    assert [(row["clips"], row["value"], row["low"], row["n_refused"]) for row in rows] == [
        ("a_b", "1.5", "1.0", "0"), ("c", "-1.0", "", "1"),
    ]  # fmt: skip
    assert latex_rows(metrics).splitlines() == ["% clips & temp_c", r"a\_b & 1.5 [1, 2] \\", r"c & $-$1 \\"]
    text = "\n".join(summary(metrics))
    assert "1: 1 silent" in text and "temp_c: c minus a_b: -3 on 1 clips" in text


def test_words() -> None:
    assert in_words(None) == "-" and in_words(0.123456) == "0.1235"
    assert escaped("a_b&c") == r"a\_b\&c" and escaped("\\~") == r"\textbackslash{}\textasciitilde{}"
