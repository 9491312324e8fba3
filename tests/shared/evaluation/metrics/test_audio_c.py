"""Audio-C: which frames and sounds meet, and which clips are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn_clips import ArrayMedia

from shared.evaluation.metrics.audio_c import AudioC


class Angles:
    """Embeds on a circle: a video by its mean brightness, a sound by its mean, both in hundredths of a radian."""

    rate = 100

    def preprocessing(self) -> dict[str, Any]:
        return {}

    def fingerprint(self) -> str:
        return "f"

    @staticmethod
    def circle(angles: Any) -> np.ndarray:
        return np.stack([np.cos(angles), np.sin(angles)], -1).astype(np.float32)

    def videos(self, videos: np.ndarray) -> np.ndarray:
        return self.circle(videos.mean((1, 2, 3, 4)) / 100)

    def pictures(self, frames: np.ndarray) -> np.ndarray:
        return self.videos(frames[:, None])

    def sounds(self, sounds: list[np.ndarray]) -> np.ndarray:
        return self.circle(np.array([sound.mean() for sound in sounds]))


def clip(brightness: np.ndarray, sound: float, fps: float = 8.0) -> ArrayMedia:
    frames = np.zeros((len(brightness), 4, 4, 3), np.uint8) + brightness[:, None, None, None].astype(np.uint8)
    return ArrayMedia(frames, fps, np.full(round(len(frames) / fps * 100), sound, np.float32), 100)


def test_audio_c_reads_frames_from_end_to_end() -> None:
    result = AudioC(Angles(), 3).clip(clip(np.array([30, 0, 60, 0, 90]), 0.6))
    assert result.value == pytest.approx(100)  # of frames 0, 2 and 4
    assert AudioC(Angles(), 16).clip(clip(np.zeros(15), 0.6)).refused == "15 frames; 16 are read"
    assert AudioC(Angles(), 3).clip(clip(np.zeros(16), 0.0)).refused == "silent"
