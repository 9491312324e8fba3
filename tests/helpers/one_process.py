"""A run of one process without a process group, for the tests of what training encodes."""

from __future__ import annotations

import pytest
import torch

from shared.utils.distributed import World


def one_process(monkeypatch: pytest.MonkeyPatch) -> World:
    """The world of one process on the CPU; its collective calls return at once."""
    monkeypatch.setattr("shared.data.shard_writer.barrier", lambda: None)
    monkeypatch.setattr("shared.data.shard_writer.gather", lambda value: [value])
    return World(0, 1, torch.device("cpu"))
