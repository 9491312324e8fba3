"""Trackers of a run's curves; what they get from a run is tested with its log (test_log.py)."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shared.data.media import write_video
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


def test_tensorboard_shows_a_clip_that_moves_and_its_sound(tmp_path: Path) -> None:
    pictures = np.stack([np.full((32, 48, 3), level, np.uint8) for level in (0, 120, 240, 120)])
    clip = tmp_path / "step000004_mtv_0.mp4"
    write_video(clip, pictures, 8, np.full((1, 8_000), 0.1, np.float32), 16_000)
    (tracker,) = open_trackers(["tensorboard"], tmp_path, 0)
    tracker.show([clip], 4)
    tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (image,), (sound,) = events.Images("samples/mtv_0"), events.Audio("samples/mtv_0")
    with Image.open(io.BytesIO(image.encoded_image_string)) as gif:
        assert (gif.format, gif.size, gif.n_frames, image.step) == ("GIF", (48, 32), 4, 4)
    assert sound.step == 4 and sound.sample_rate == 16_000 and sound.length_frames == 8_000
