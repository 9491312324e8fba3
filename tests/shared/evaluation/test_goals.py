"""Goals are measures of their tasks, and reached as they say."""

from __future__ import annotations

from typing import Any

from shared.evaluation.goals import GOALS, Goal, goals_table
from shared.evaluation.measures import LEAST_CLIPS, OF_TRUE, names


def test_every_goal_is_a_measure_of_its_tasks() -> None:
    for goal in GOALS:
        assert all(goal.score in names(task, goal.level) for task in goal.tasks), goal
        assert sum(bound is not None for bound in (goal.least, goal.most, goal.near)) == 1
        assert goal.score.startswith(OF_TRUE) == (goal.least is None)


def test_bounds() -> None:
    high, low, near = (Goal("simple", (), "x", **bound) for bound in ({"least": 0.8}, {"most": 1.4}, {"near": 0.15}))
    assert [high.reached({"headline": value}) for value in (0.8, 0.79, None)] == [True, False, None]
    assert [low.reached(score(9, of_true=value)) for value in (1.4, 1.41, 0.2)] == [True, False, True]
    assert [near.reached(score(9, of_true=value)) for value in (1.14, 0.86, 1.2)] == [True, True, False]
    assert near.reached(score(9)) is False and low.reached(score(9, ceiling=0.6)) is True
    assert near.reached(score(9, value=None)) is None
    said = ["headline at least 0.8", "at most 1.4 of true", "within 15% of true"]
    assert [one.said for one in (high, low, near)] == said


def score(clips: int, **more: Any) -> dict[str, Any]:
    return {"value": 0.7, "ceiling": 1.0, "floor": 0.1, "headline": 0.67, "headline_interval": [0.5, 0.8],
            "clips": clips} | more  # fmt: skip


def metrics(level: str, **tasks: Any) -> dict[str, Any]:
    return {"config": {"level": level, "no_context": False}, "tasks": tasks}


def test_rows_are_of_scores_that_count() -> None:
    blocky = score(40, of_true=1.3, of_true_interval=[1.2, 1.5])
    simple = {"events": score(LEAST_CLIPS), "count": score(29), "blockiness_rest": blocky}
    ratio = {"value": 0.95, "interval": [0.9, 1.0]}
    cut = {"ratio": ratio, "scores": {name: score(40) for name in ("validity_cut", "validity_elsewhere")}}
    shots = {"measures": {"scores": {"looks": score(80)}}, "cut": cut}
    text = goals_table([metrics("simple", t2av={"measures": {"scores": simple}}), metrics("shows", shots=shots)], 30)
    assert (
        "| simple | t2av | events | 30 | 0.70 | 1.00 | 0.10 | 0.67 [0.50, 0.80] |  | headline at least 0.8 | no |"
        in text
    )
    assert "1.30 [1.20, 1.50] | at most 1.4 of true | yes |" in text and "| count |" not in text
    assert "0.67 / 0.67 = 0.95 [0.90, 1.00] |  | seam over elsewhere at least 0.9 | yes |" in text
    assert goals_table([metrics("full")], 30) == ""
