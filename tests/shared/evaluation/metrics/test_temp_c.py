"""Temp-C of clips whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_clips import ArrayMedia, moving

from shared.evaluation.metrics.temp_c import TempC


class Corners:
    """Stands for CLIP: a picture's mean colour, as a direction."""

    def of_clip(self, media: ArrayMedia, fps: float) -> np.ndarray:
        colours = media.frames(fps).mean((1, 2)).astype(np.float32)
        return colours / np.linalg.norm(colours, axis=1, keepdims=True)


def flat(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.stack([np.broadcast_to(np.array(colour, np.uint8), (4, 4, 3)) for colour in colours])


def test_still_and_changing_clips() -> None:
    metric = TempC(Corners(), 8.0)  # type: ignore[arg-type]
    red, green = (200, 0, 0), (0, 200, 0)
    assert metric.clip(ArrayMedia(flat(red, red, red))).value == pytest.approx(100)
    result = metric.clip(ArrayMedia(flat(red, red, green)))
    assert result.value == pytest.approx(50) and result.facts["likeness"] == pytest.approx([100, 0])


def test_refusals() -> None:
    metric = TempC(Corners(), 8.0)  # type: ignore[arg-type]
    assert metric.clip(ArrayMedia(moving(8), 4.0)).refused == "4 frames per second; 8 are read"
    assert metric.clip(ArrayMedia(moving(1), 8.0)).refused == "shorter than 0.25 s"
