"""Clips for the scorer, drawn in a moment, and media that need no file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.data.media_write import write_video

RATE = 16000


def tone(seconds: float, hertz: float = 440.0, rate: int = RATE) -> NDArray[np.float32]:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def moving(count: int, seed: int = 0, size: tuple[int, int] = (32, 48)) -> NDArray[np.uint8]:
    """Smooth colours that move to the right, uint8 [count, H, W, 3]."""
    colours = np.random.default_rng(seed).integers(40, 216, (2, 3))
    ramp = np.linspace(0, 1, size[1])[None, :, None]
    picture = np.broadcast_to(colours[0] * (1 - ramp) + colours[1] * ramp, (*size, 3)).astype(np.uint8)
    return np.stack([np.roll(picture, 3 * number, axis=1) for number in range(count)])


def write_clip(
    path: Path, seed: int = 0, seconds: float = 1.0, fps: float = 8.0, text: str = "a ball", sound: bool = True
) -> Path:
    """An mp4 and its X.txt, if it has a `text`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = tone(seconds, 200.0 + 50 * seed)[None] if sound else None
    write_video(path, moving(round(seconds * fps), seed), fps, audio, RATE if sound else None)
    if text:
        path.with_suffix(".txt").write_text(text)
    return path


class ArrayMedia:
    """Implements `shared.evaluation.metrics.base.ClipMedia` on arrays."""

    def __init__(
        self, frames: NDArray[np.uint8] | None = None, fps: float = 8.0, sound: NDArray[np.float32] | None = None,
        rate: int = RATE, text: str | None = None,
    ) -> None:  # fmt: skip
        self._pictures, self.fps, self._sound, self._rate, self.text = frames, fps, sound, rate, text

    @property
    def duration(self) -> float:
        if self._pictures is not None:
            return len(self._pictures) / self.fps
        return 0.0 if self._sound is None else len(self._sound) / self._rate

    def frames(self, fps: float | None = None, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        assert self._pictures is not None and size is None
        step = self.fps / (fps or self.fps)
        return self._pictures[(np.arange(round(len(self._pictures) / step)) * step).astype(int)]

    def audio(self, rate: int) -> NDArray[np.float32]:
        assert self._sound is not None
        count = round(len(self._sound) * rate / self._rate)
        return np.interp(np.arange(count) / rate, np.arange(len(self._sound)) / self._rate, self._sound).astype(
            np.float32
        )

    def speech(self, rate: int) -> NDArray[np.float32] | None:
        return None
