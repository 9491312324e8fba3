from __future__ import annotations

from collections import Counter

import pytest

from shared.data.bucketing import BatchPlan, draw_tasks

SHAPES = {f"a{i:02d}": (3, 5) for i in range(24)} | {f"b{i:02d}": (9, 50) for i in range(8)}


def test_every_clip_comes_once_per_epoch_where_buckets_divide():
    plan = BatchPlan(SHAPES, seed=1, micro_batch=2, world_size=2, accumulation=2)
    for epoch in range(3):
        seen = Counter(
            clip
            for step in range(4 * epoch, 4 * epoch + 4)
            for micro in range(2)
            for rank in range(2)
            for clip in plan.at(step, micro, rank)
        )
        assert seen == Counter(SHAPES.keys())


def test_a_round_of_an_odd_bucket_holds_every_clip_once():
    plan = BatchPlan({f"c{i}": (1, 1) for i in range(7)}, seed=0, micro_batch=3, world_size=1, accumulation=1)
    drawn = [clip for step in range(7) for clip in plan.at(step, 0, 0)]
    assert all(len(set(drawn[i : i + 7])) == 7 for i in range(0, 21, 7))


def test_micro_batches_are_of_one_shape_on_every_rank():
    plan = BatchPlan(SHAPES, seed=3, micro_batch=4, world_size=2, accumulation=1, token_budget=40)
    for step in range(30):
        clips = [clip for rank in range(2) for clip in plan.at(step, 0, rank)]
        (shape,) = {SHAPES[clip] for clip in clips}
        assert len(clips) == (8 if shape == (3, 5) else 2)


def test_the_plan_depends_on_the_seed_and_not_on_the_order_of_asking():
    def ids(seed, steps):
        plan = BatchPlan(SHAPES, seed, micro_batch=4, world_size=1, accumulation=1)
        return {step: plan.at(step, 0, 0) for step in steps}

    assert ids(5, range(40)) == dict(sorted(ids(5, reversed(range(40))).items()))
    assert ids(5, range(40)) != ids(6, range(40))


def test_tasks_come_in_their_proportions_whatever_the_sum_of_weights():
    weights = {"t2av": 0.6, "a2v": 0.15, "v2a": 0.15, "t2v": 0.1, "t2a": 0.1, "none": 0.0}
    drawn = Counter(task for step in range(2000) for task in draw_tasks(weights, 0, step, 0, 4))
    for task, weight in weights.items():
        assert abs(drawn[task] / 8000 - weight / 1.1) < 0.01


def test_task_counts_of_a_batch_are_within_one_of_expected():
    for step in range(50):
        drawn = draw_tasks({"t2v": 1, "t2a": 3}, 0, step, 0, 10)
        assert len(drawn) == 10 and drawn == sorted(drawn, reverse=True) and drawn.count("t2v") in (2, 3)


MIXED = {f"a{i:03d}": (3, 5) for i in range(100)} | {f"b{i}": (9, 50) for i in range(9)} | {"c0": (30, 90)}


def test_small_buckets_come_no_more_often_than_their_clips() -> None:
    plan = BatchPlan(MIXED, seed=2, micro_batch=4, world_size=2, accumulation=3)
    seen = Counter(
        clip
        for step in range(110 * 4)
        for micro in range(3)
        for rank in range(2)
        for clip in plan.at(step, micro, rank)
    )
    times = 110 * 4 * 3 * 8 / len(MIXED)
    for bucket in plan.buckets.values():
        mean = sum(seen[clip] for clip in bucket) / len(bucket)
        assert abs(mean - times) <= 8 / len(bucket) + 1, (len(bucket), mean, times)
    again = BatchPlan(MIXED, seed=2, micro_batch=4, world_size=2, accumulation=3)  # as a run that resumes has it
    assert [again.at(step, 2, 1) for step in (439, 3)] == [plan.at(step, 2, 1) for step in (439, 3)]


def test_a_budget_alone_fills_batches() -> None:
    plan = BatchPlan(
        MIXED, seed=4, micro_batch=None, world_size=2, accumulation=2, token_budget=134, tokens_per_frame=3
    )
    assert plan.micro == {(3, 5): 134 // 14, (9, 50): 134 // 77, (30, 90): 1}
    for step in range(40):
        batches = [[plan.at(step, micro, rank) for rank in range(2)] for micro in range(2)]
        assert all(len(one) == len(two) for one, two in batches)
        assert plan.clips_per_micro(step) == sum(len(one) for one, _ in batches) / 2
    few = BatchPlan({f"a{i}": (3, 5) for i in range(7)}, 0, None, 2, 1, token_budget=10_000)
    for step in range(20):
        drawn = few.at(step, 0, 0) + few.at(step, 0, 1)
        assert len(drawn) == 6  # three of seven for each rank, and no more
    with pytest.raises(ValueError, match="neither micro_batch nor token_budget"):
        BatchPlan(MIXED, 0, None, 1, 1)
