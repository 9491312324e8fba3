"""Text-C: do frames look like the text to CLIP? 100 times the mean cosine of frames and text.

Reproduced: the CLIP form of it (CLIPSIM). MTV's own numbers are of VideoCLIP-XL and cannot be compared with these.
Mended: frames at a stated rate; whether the text was cut to CLIP's 77 tokens stands in the facts.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, wrong_fps
from shared.perception.image_text import ImageText


class TextC:
    """Likeness of frames and text, times 100."""

    name = "text_c"
    better: Better = "higher"
    needs = frozenset({"video", "text"})

    def __init__(self, encoder: ImageText, fps: float) -> None:
        self.encoder, self.fps = encoder, fps

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make the metric with the CLIP that the user has. UserError as `ImageText.load`."""
        return cls(tools.load("clip", ImageText.load), tools.settings[cls.name]["fps"])

    def preprocessing(self) -> dict[str, Any]:
        """Frame rate, tokens, and what CLIP sees of a frame."""
        return {"fps": self.fps, "tokens": self.encoder.tokens, **self.encoder.preprocessing()}

    def fingerprint(self) -> str:
        """Hash of CLIP's weights."""
        return self.encoder.fingerprint()

    def clip(self, media: ClipMedia) -> Result:
        """Mean over frames; facts: the cosine of each, and whether the text was too long."""
        if reason := wrong_fps(media, self.fps):
            return Result(None, reason)
        assert media.text is not None, "the scorer refuses a clip without what a metric needs"
        features = self.encoder.of_clip(media, self.fps)
        cosines = 100 * (features.astype(np.float64) @ self.encoder.text(media.text))
        cut = self.encoder.is_cut(media.text)
        return Result(float(cosines.mean()), facts={"likeness": cosines.tolist(), "text_is_cut": cut})
