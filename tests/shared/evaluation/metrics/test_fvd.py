"""FVD: which frames become rows, and which clips are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn_clips import ArrayMedia, moving

from shared.evaluation.metrics.base import Tools
from shared.evaluation.metrics.fvd import FVD, FVDVideoMAE


class First:
    """A network whose feature of a video is the first pixel of each frame."""

    dimension = 4

    def frames(self, asked: int) -> int:
        return asked

    def preprocessing(self) -> dict[str, Any]:
        return {"size": [2, 2]}

    def fingerprint(self) -> str:
        return "f"

    def __call__(self, videos: np.ndarray) -> np.ndarray:
        return videos[:, :, 0, 0, 0].astype(np.float32)


def test_windows_are_spread_over_the_clip() -> None:
    frames = np.zeros((20, 4, 4, 3), np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None, None]
    media = ArrayMedia(frames, 16.0)  # read at 8: frames 0, 2, ... 18
    first = FVD(First(), 8.0, 4, 1).clip(media)
    assert first.value == 1 and first.features is not None and first.features.tolist() == [[0, 2, 4, 6]]
    spread = FVD(First(), 8.0, 4, 3).clip(media)
    assert (
        spread.features is not None and spread.features[:, 0].tolist() == [0, 6, 12] and spread.features[-1, -1] == 18
    )


def test_refusals_and_what_is_told() -> None:
    metric = FVD(First(), 8.0, 16, 1)
    assert metric.clip(ArrayMedia(moving(15), 8.0)).refused == "shorter than 2 s"
    assert metric.clip(ArrayMedia(moving(16), 4.0)).refused == "4 frames per second; 8 are read"
    assert metric.preprocessing() == {"fps": 8.0, "frames": 16, "windows": 1, "size": [2, 2]}
    assert metric.fingerprint() == "f" and "reference" in metric.needs


def test_each_reads_its_own_weights_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = Tools(settings={"fvd_videomae": {"fps": 4.0, "frames": 8, "windows": 2}}, _loaded={"videomae": First()})
    metric = FVDVideoMAE.of(tools)
    assert (metric.name, metric.fps, metric.frames, metric.windows) == ("fvd_videomae", 4.0, 8, 2)
