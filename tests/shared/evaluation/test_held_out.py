"""Held-out clips: batches of one length."""

from __future__ import annotations

from types import SimpleNamespace

from shared.evaluation import held_out


def test_batches_hold_one_length() -> None:
    specs = [SimpleNamespace(frames=frames) for frames in (32, 64, 32, 32)]
    assert list(held_out.batches(specs, 2)) == [[0, 2], [3], [1]]
