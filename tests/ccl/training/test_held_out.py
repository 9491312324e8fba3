"""Held-out clips: nothing of them is dropped, and every rank measures its share; scripts/train_ccl.py's tests train."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from ccl.training.held_out import HeldOut, held_out_config, read_held_out
from shared.utils.config import TrainConfig


def config(folder: Path, **validation: Any) -> TrainConfig:
    raw = {
        "output": str(folder / "out"), "model": {}, "data": {"manifest": "clips", "subsets": ["bell"]},
        "train": {"steps": 9, "micro_batch": 2}, "text_dropout": 0.3, "clean_frames": 0.2, "keyframes": 0.1,
    }  # fmt: skip
    return TrainConfig.model_validate(
        raw | {"validation": {"every": 3, "manifest": "held", "held_out": 2} | validation}
    )


def test_all_held_out_clips_are_read_and_nothing_is_dropped(tmp_path: Path) -> None:
    held = held_out_config(config(tmp_path))
    assert held.data.manifest == "held" and not held.data.subsets
    assert held.data.latents == str(tmp_path / "out/latents/held_out")
    assert (held.text_dropout, held.clean_frames, held.keyframes, held.audio_caption_rate) == (0, 0, 0, 1)
    assert held.tracks.dropout == held.tracks.dropout_all == held.tracks.drop_speaker_prob == 0
    shards = held_out_config(config(tmp_path, shards="held_shards"))
    assert shards.data.manifest is None and shards.data.shards == "held_shards"
    assert read_held_out(config(tmp_path, held_out=0)) is None


@pytest.mark.parametrize(
    ("validation", "said"),
    [
        ({"every": 0}, "set validation.every, and validation.manifest or validation.shards"),
        ({"manifest": None}, "set validation.every, and validation.manifest or validation.shards"),
        ({"held_out": 0, "shards": "x"}, "validation.shards are measured at validation.held_out noise levels"),
    ],
)
def test_what_would_measure_nothing_is_refused(tmp_path: Path, validation: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(tmp_path, **validation)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_every_clip_is_measured_once_and_all_ranks_run_the_same(tmp_path: Path, size: int) -> None:
    """Five clips of two shapes, in batches of two: four batches for each task and level."""
    held = HeldOut.__new__(HeldOut)
    held.config, held.levels, held.tasks = config(tmp_path), 2, ["t2av", "a2v"]
    shapes = {"a": 3, "b": 3, "c": 4, "d": 4, "e": 4}
    records = {name: SimpleNamespace(video=(8, count, 4, 4), audio=(5, 8), fps=None) for name, count in shapes.items()}
    held.data = SimpleNamespace(latents=SimpleNamespace(records=records))  # type: ignore[assignment]
    held.build = lambda ids, tasks, level: (ids, tasks[0], level)  # type: ignore[assignment, return-value]
    ranks: list[list[Any]] = [list(held.batches(rank, size)) for rank in range(size)]
    calls = [[(batch[1:], len(set(shapes[i] for i in batch[0]))) for batch, _ in rank] for rank in ranks]
    assert all(rank == calls[0] for rank in calls) and {shapes for _, shapes in calls[0]} == {1}
    counted = Counter((i, *batch[1:]) for rank in ranks for batch, counts in rank if counts for i in batch[0])
    assert counted == {(i, task, level): 1 for i in shapes for task in held.tasks for level in range(2)}
