"""Shards of random latents for the tests that read them, and damage to them."""

from __future__ import annotations

from pathlib import Path

from shared.data.bucketing import BatchPlan
from shared.data.shards import ShardedLatents

NAMES = {f"clip{i}" for i in range(22)}


def plan(store: ShardedLatents, ranks: int = 1, batch: int = 2) -> BatchPlan:
    return BatchPlan(store.shapes(), 7, batch, ranks, 1)


def names(batches: object) -> list[list[str]]:
    return [[clip.id for clip in batch] for batch in batches]  # type: ignore[attr-defined]


def damage(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 255
    path.write_bytes(content)


def middle(store: ShardedLatents, name: str) -> int:
    """An offset inside the latents of a record."""
    offset, size, _ = store.records[name].members["latents"]
    return offset + size // 2
