"""What a metric of a plan is of."""

from __future__ import annotations

import pytest

from shared.ablation.plan_sections import Metric


@pytest.mark.parametrize(
    ("path", "task"),
    [
        ("metrics.tasks.t2av.measures.per_clip.events", "t2av"),
        ("metrics.tasks.mtv:mood unmentioned.per_clip.mood_followed", "mtv"),
        ("metrics.score", None),
        ("probe.held_out.loss.tasks.x", None),
    ],
)
def test_a_metric_knows_its_task(path: str, task: str | None) -> None:
    assert Metric(name="m", path=path).task == task
