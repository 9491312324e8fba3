from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from shared.evaluation.comparison import compare_score, compare_tasks, per_clip, read_metrics
from shared.utils.errors import UserError

CONFIG = {"suite": "puppets", "level": "simple", "held_out_seed": 900001, "tasks": ("t2av", "mtv")}


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


def metrics(**config: Any) -> dict[str, Any]:
    return {"config": {**CONFIG, **config}, "tasks": {"t2av": {"per_clip": {}}, "a2v": {"per_clip": {}}, "mtv": {}}}


def test_tasks_without_values_per_clip_are_not_compared(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps(metrics()))
    assert set(read_metrics(tmp_path / "m.json", CONFIG)["tasks"]) == {"t2av", "a2v"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("[]", "not the metrics.json"),
        ("{", "not the metrics.json"),
        (json.dumps({"config": CONFIG, "tasks": 3}), "not the metrics.json"),
        (json.dumps(metrics(level="full")), "its level is full, here simple"),
        (json.dumps({**metrics(), "tasks": {"mtv": {}}}), "no values per clip of t2av, mtv"),
    ],
)
def test_what_cannot_be_compared_is_named(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "m.json").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        read_metrics(tmp_path / "m.json", CONFIG)
