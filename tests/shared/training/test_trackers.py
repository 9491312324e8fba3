"""Trackers of a run's curves; what they get from a run is tested with its log (test_log.py)."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shared.training.trackers import TensorBoard, check_trackers, open_trackers
from shared.utils.errors import UserError


def test_tensorboard_has_the_curves_and_what_a_killed_run_wrote_is_purged(tmp_path: Path) -> None:
    for first, steps in ((0, (1, 2, 3)), (2, (3,))):
        (tracker,) = open_trackers(["tensorboard", "tensorboard"], tmp_path, first)
        assert isinstance(tracker, TensorBoard)
        for step in steps:
            tracker.add({"loss/video": step / 2 + first}, step)
        tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss/video")
    assert [(event.step, event.value) for event in events] == [(1, 0.5), (2, 1.0), (3, 3.5)]


def test_a_package_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    check_trackers(["tensorboard"])
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="needs the package wandb, which is not installed"):
        check_trackers(["tensorboard", "wandb"])
    monkeypatch.setitem(sys.modules, "wandb", types.ModuleType("wandb"))
    check_trackers(["wandb"])
