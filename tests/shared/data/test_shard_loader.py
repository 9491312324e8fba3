"""Passes over shards: every sample once per epoch, over ranks, workers and stops; texts out of records."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from shards import NAMES, damage, middle, names, plan

from shared.data.bucketing import BatchPlan
from shared.data.shard_loader import EpochLoader, ShardedText, epoch_batches
from shared.data.shards import ShardedLatents
from shared.utils.errors import UserError


def test_two_workers_and_two_ranks_read_every_sample_once_per_epoch(made: Path) -> None:
    loaders = [EpochLoader(ShardedLatents(made), plan(ShardedLatents(made), 2), rank, workers=2) for rank in (0, 1)]
    epochs = []
    for _ in range(2):
        read = [names(loader) for loader in loaders]
        assert Counter(name for batches in read for batch in batches for name in batch) == Counter(NAMES)
        assert abs(len(read[0]) - len(read[1])) <= 1
        epochs.append(read)
    assert epochs[0] != epochs[1]
    again = EpochLoader(ShardedLatents(made), plan(ShardedLatents(made), 2), 1)
    assert [names(again), names(again)] == [epochs[0][1], epochs[1][1]]  # as many workers as one likes


def test_batches_hold_one_shape_within_the_budget(made: Path) -> None:
    store = ShardedLatents(made)
    shapes = store.token_shapes()
    assert set(shapes.values()) == {(4 * 300, 80, 4, 15, 20), (5 * 300, 100, 5, 15, 20)}
    budget = BatchPlan(shapes, 0, 8, 1, 1, token_budget=5000, tokens_per_frame=1)  # type: ignore[arg-type]
    for batch in epoch_batches(budget, 0, 0):
        assert len({shapes[name] for name in batch}) == 1
        assert sum(shapes[name][0] + shapes[name][1] for name in batch) <= 5000
    assert max(len(batch) for batch in epoch_batches(budget, 0, 0)) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_resumes_to_the_sample(made: Path, workers: int) -> None:
    store = ShardedLatents(made)
    whole = EpochLoader(store, plan(store))
    expected = names(whole) + names(whole)
    first = EpochLoader(store, plan(store), workers=workers)
    begun = iter(first)
    got = [[clip.id for clip in next(begun)] for _ in range(5)]
    second = EpochLoader(ShardedLatents(made), plan(store), workers=workers)
    second.state = json.loads(json.dumps(first.state))
    assert first.state == {"epoch": 0, "batch": 5}
    assert got + names(second) + names(second) == expected and second.state == {"epoch": 2, "batch": 0}


def test_what_worker_processes_find_is_counted(shards: Path) -> None:
    damage(shards / "00000.tar", middle(ShardedLatents(shards), "clip2"))
    store = ShardedLatents(shards)
    loader = EpochLoader(store, plan(store), workers=2)
    assert Counter(name for batch in names(loader) for name in batch) == Counter(NAMES - {"clip2"})
    assert [problem.id for problem in store.problems] == ["clip2"] and len(store) == 21


def test_texts_come_out_of_the_records_that_have_them(shards: Path) -> None:
    store = ShardedLatents(shards)
    text = ShardedText(store)
    assert (text.dim, text.max_length) == (128, 64)
    encoded = text.encode([""])
    assert encoded.shape == (1, 64, 128) and torch.equal(encoded[0, 0], torch.ones(128)) and not encoded[0, 1:].any()
    with pytest.raises(UserError, match="no record of the shards has the text 'a cat'"):
        text.encode(["a cat"])
