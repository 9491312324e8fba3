"""Audio-C: do sound and picture mean the same? 100 times the cosine of both embeddings (MTV, arXiv 2506.08003).

Reproduced: the cosine of one embedding of the video and one of the sound. Differs: PE-AV (arXiv 2512.19687) stands in
the place of ImageBind, whose licence forbids commercial use; MTV's own numbers are of ImageBind (`imagebind_av`) and
cannot be compared with these. Mended: how many frames are read, and from where, is stated; silence is refused and
counted.
What would fool it: the right sound at the wrong time.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, silent
from shared.perception.audio_video import AudioVideo


class AudioC:
    """Likeness of sound and picture, times 100, of `frames` frames evenly spread from the first to the last."""

    name = "audio_c"
    better: Better = "higher"
    needs = frozenset({"video", "audio"})

    def __init__(self, encoder: AudioVideo, frames: int = 16) -> None:
        self.encoder, self.frames = encoder, frames

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make the metric with the PE-AV that the user has. UserError as `AudioVideo.load`."""
        return cls(tools.load("pe_av", AudioVideo.load), int(tools.settings[cls.name]["frames"]))

    def preprocessing(self) -> dict[str, Any]:
        """Frames, and what the network sees and hears."""
        return {"frames": self.frames, **self.encoder.preprocessing()}

    def fingerprint(self) -> str:
        """Hash of the weights."""
        return self.encoder.fingerprint()

    def clip(self, media: ClipMedia) -> Result:
        """Measure one clip; refused: silent, or fewer frames than are read."""
        if reason := silent(media, self.encoder.rate):
            return Result(None, reason)
        pictures = media.frames()
        if len(pictures) < self.frames:
            return Result(None, f"{len(pictures)} frames; {self.frames} are read")
        chosen = pictures[np.linspace(0, len(pictures) - 1, self.frames).astype(int)]
        video, sound = self.encoder.videos(chosen[None]), self.encoder.sounds([media.audio(self.encoder.rate)])
        return Result(100 * float(video[0].astype(np.float64) @ sound[0]))
