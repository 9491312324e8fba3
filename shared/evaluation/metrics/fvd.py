"""FVD: Fréchet distance of the features of short videos (Unterthiner et al., arXiv 1812.01717).

Reproduced: I3D's 400 logits of 16 frames of 224 pixels. Mended: frame rate and windows are stated, and belong to the
hash; clips that are too slow or too short are refused and counted, not padded; what small sets add is taken off
(`shared.evaluation.frechet`). With VideoMAE (Ge et al., arXiv 2404.12391: less blind to motion than I3D) or V-JEPA 2 it
is the same distance of other features.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np

from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, too_short, wrong_fps
from shared.perception.video_features import EncoderFeatures, I3DFeatures, VideoFeatures


class FVD:
    """Rows of features of a clip: one for each of `windows` windows of `frames` frames at `fps`, evenly spread from its
    start to its end; the first alone where windows = 1."""

    name: ClassVar[str] = "fvd"
    weights: ClassVar[str] = "i3d"
    loader: ClassVar[Any] = I3DFeatures.load
    better: Better = "lower"
    over_sets: Literal[True] = True
    needs = frozenset({"video", "reference"})

    def __init__(self, network: VideoFeatures, fps: float = 8.0, frames: int = 16, windows: int = 1) -> None:
        self.network, self.fps, self.frames, self.windows = network, fps, network.frames(frames), windows

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make the metric with the network that the user has. UserError as its `load`, and for impossible frames."""
        settings = tools.settings[cls.name]
        network = tools.load(cls.weights, cls.loader)
        return cls(network, settings["fps"], int(settings["frames"]), int(settings["windows"]))

    def preprocessing(self) -> dict[str, Any]:
        """Frame rate, windows, and what the network sees of a frame."""
        return {"fps": self.fps, "frames": self.frames, "windows": self.windows, **self.network.preprocessing()}

    def fingerprint(self) -> str:
        """Hash of the network's weights."""
        return self.network.fingerprint()

    def clip(self, media: ClipMedia) -> Result:
        """Features of the clip's windows."""
        if reason := wrong_fps(media, self.fps) or too_short(media, self.frames / self.fps):
            return Result(None, reason)
        pictures = media.frames(self.fps)
        if len(pictures) < self.frames:
            return Result(None, f"shorter than {self.frames / self.fps:g} s")
        starts = np.linspace(0, len(pictures) - self.frames, self.windows).astype(int)
        rows = self.network(np.stack([pictures[start : start + self.frames] for start in starts]))
        return Result(float(len(rows)), features=rows)


class FVDVideoMAE(FVD):
    """The distance of VideoMAE's features."""

    name, weights, loader = "fvd_videomae", "videomae", EncoderFeatures.load


class FVDVJEPA2(FVD):
    """The distance of V-JEPA 2's features."""

    name, weights, loader = "fvd_vjepa2", "vjepa2", EncoderFeatures.load
