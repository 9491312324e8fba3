"""Temp-C: do neighbouring frames look alike to CLIP? As MTV (arXiv 2506.08003) tells it, 100 times the mean cosine.

Reproduced: 100 · mean over i of cos(CLIP(f_i), CLIP(f_i+1)). Mended: frames are taken at a stated rate, because at
twice the rate neighbours are nearer; a clip slower than that rate, or with one frame, is refused. Not mended: a still
video scores best, so the number means nothing without one of motion.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, wrong_fps
from shared.perception.image_text import ImageText


class TempC:
    """Likeness of neighbouring frames, times 100."""

    name = "temp_c"
    better: Better = "higher"
    needs = frozenset({"video"})

    def __init__(self, encoder: ImageText, fps: float) -> None:
        self.encoder, self.fps = encoder, fps

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make the metric with the CLIP that the user has. UserError as `ImageText.load`."""
        return cls(tools.load("clip", ImageText.load), tools.settings[cls.name]["fps"])

    def preprocessing(self) -> dict[str, Any]:
        """Frame rate, and what CLIP sees of a frame."""
        return {"fps": self.fps, **self.encoder.preprocessing()}

    def fingerprint(self) -> str:
        """Hash of CLIP's weights."""
        return self.encoder.fingerprint()

    def clip(self, media: ClipMedia) -> Result:
        """Mean over pairs of neighbours; facts: the cosine of each."""
        if reason := wrong_fps(media, self.fps):
            return Result(None, reason)
        features = self.encoder.of_clip(media, self.fps)
        if len(features) < 2:
            return Result(None, f"shorter than {2 / self.fps:g} s")
        cosines = 100 * np.sum(features[:-1] * features[1:], axis=1, dtype=np.float64)
        return Result(float(cosines.mean()), facts={"likeness": cosines.tolist()})
