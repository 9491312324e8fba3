"""Shards of a stream: which latents and tokens are where. What processes exchange: tests/scripts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shared.nn.context_parallel import ContextGroup, check_heads, check_world
from shared.utils.errors import UserError


def group(rank: int, size: int) -> ContextGroup:
    nobody: Any = None
    return ContextGroup(nobody, rank, size)


@pytest.mark.parametrize(("latents", "size"), [(7, 3), (8, 2), (3, 3), (5, 4)])
def test_shards_are_whole_latents_one_after_another(latents: int, size: int) -> None:
    shards = [group(rank, size).shard("video", latents, 6) for rank in range(size)]
    there = torch.arange(latents * 6)
    assert torch.equal(torch.cat([there[shard.tokens] for shard in shards]), there)
    assert [len(there[shard.tokens]) for shard in shards] == [6 * count for count in shards[0].counts]
    assert max(shards[0].counts) - min(shards[0].counts) <= 1
    assert [shard.latents.start * 6 for shard in shards] == [shard.tokens.start for shard in shards]


def test_what_does_not_divide_is_told_with_what_would() -> None:
    with pytest.raises(UserError, match="2 latents of the audio cannot be divided among 3 processes"):
        group(0, 3).shard("audio", 2, 1)
    check_heads({"video": 12, "audio": 6}, 3, "--x")
    with pytest.raises(UserError, match="--x 4: the audio stream has 6 heads; one of 1, 2, 3, 6 divides them"):
        check_heads({"video": 12, "audio": 6}, 4, "--x")
    check_world(2, 4, "--x")
    with pytest.raises(UserError, match="--x 2: start 2 processes or a multiple; this run has 3"):
        check_world(2, 3, "--x")
