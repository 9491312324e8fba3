"""JavisScore (JavisDiT, arXiv 2503.23377): do the frames of each moment look like its sound?

Reproduced: windows of 2 s that overlap by 1.5 s, the cosine of each frame of a window with the window's sound, the mean
of the lowest 40 %, and of that the mean over windows. Differs: PE-AV stands in the place of ImageBind, so that the
numbers of JavisBench cannot be compared with these. Mended: the rate of the frames is stated; windows are whole ones,
and what is shorter than one is refused and counted.
What would fool it: sounds that fit the place at any time.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, silent, too_short, wrong_fps
from shared.perception.audio_video import AudioVideo

WINDOW, STEP, LOWEST = 2.0, 0.5, 0.4  # seconds, and the part of a window's frames that counts


class JavisScore:
    """Mean over windows; facts: the number of each window, one every 0.5 s."""

    name = "javis_score"
    better: Better = "higher"
    needs = frozenset({"video", "audio"})

    def __init__(self, encoder: AudioVideo, fps: float = 8.0) -> None:
        self.encoder, self.fps = encoder, fps

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make the metric with the PE-AV that the user has. UserError as `AudioVideo.load`."""
        return cls(tools.load("pe_av", AudioVideo.load), tools.settings[cls.name]["fps"])

    def preprocessing(self) -> dict[str, Any]:
        """Windows, frames, and what the network sees and hears."""
        windows = {"window": WINDOW, "step": STEP, "lowest": LOWEST}
        return {"fps": self.fps, **windows, **self.encoder.preprocessing()}

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return self.encoder.fingerprint()

    def clip(self, media: ClipMedia) -> Result:
        """Measure one clip; refused: too slow, too short, silent."""
        if reason := wrong_fps(media, self.fps) or too_short(media, WINDOW) or silent(media, self.encoder.rate):
            return Result(None, reason)
        rate, pictures = self.encoder.rate, media.frames(self.fps)
        sound = media.audio(rate)
        count = int((min(len(pictures) / self.fps, len(sound) / rate) - WINDOW + 1e-6) // STEP) + 1
        if count < 1:
            return Result(None, f"shorter than {WINDOW:g} s")
        frames = self.encoder.videos(pictures[:, None])
        starts = STEP * np.arange(count)
        heard = self.encoder.sounds([sound[round(at * rate) :][: round(WINDOW * rate)] for at in starts])
        each = [self.window(frames, row, at) for row, at in zip(heard, starts, strict=True)]
        return Result(float(np.mean(each)), facts={"windows": each})

    def window(self, frames: NDArray[np.float32], sound: NDArray[np.float32], start: float) -> float:
        """Mean of the lowest cosines of a window's frames, of all [T, D], with its sound [D]."""
        first, last = round(start * self.fps), round((start + WINDOW) * self.fps)
        likeness = np.sort(frames[first:last].astype(np.float64) @ sound)
        return float(likeness[: max(1, int(LOWEST * len(likeness)))].mean())
