"""AV-Align in reference mode: peaks of optical flow against onsets of sound (Yariv et al. 2023, arXiv 2309.16429).

Reproduced, as the authors' public script describes itself: mean magnitude of Farnebäck's flow between neighbouring
frames at the clip's own rate and size, all its local maxima from 0.1 pixels on; onsets with librosa's defaults at
22,050 Hz; in order of time each onset takes the first free peak that is less than one frame away; matches over all
peaks and onsets. Nothing is mended here: `onset_sync` is. What moves the number: the frame rate, which is the window,
and the size, which scales the flow. Upstream's first version let several onsets use one peak; the later one, as here,
does not.
What would fool it: motion and sound that flutter, which puts a peak next to every onset.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.metrics.audio_onsets import librosa_onsets
from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools
from shared.perception.installed import optional_module

Array = NDArray[np.float64]

RATE = 22050
LEAST_FLOW = 0.1  # pixels per frame
FARNEBACK = {"pyr_scale": 0.5, "levels": 3, "winsize": 15, "iterations": 3, "poly_n": 5, "poly_sigma": 1.2, "flags": 0}


class AVAlign:
    """Intersection over union of flow peaks and onsets; 0 where there are none."""

    name = "av_align"
    better: Better = "higher"
    needs = frozenset({"video", "audio"})

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make it; UserError where OpenCV is not installed."""
        _opencv()
        return cls()

    def preprocessing(self) -> dict[str, Any]:
        """All that moves the number."""
        return {
            "fps": "the clip's", "size": "the clip's", "rate": RATE, "window": "one frame", "flow": dict(FARNEBACK),
            "least_flow": LEAST_FLOW, "onsets": "librosa's defaults",
        }  # fmt: skip

    def fingerprint(self) -> str:
        """Return "": there are no weights."""
        return ""

    def clip(self, media: ClipMedia) -> Result:
        """Measure one clip; refused: fewer than three frames, which have no peak between them."""
        frames = media.frames()
        if len(frames) < 3:
            return Result(None, "fewer than 3 frames")
        flow = mean_flow(frames)
        peaks, onsets = flow_peaks(flow, media.fps), librosa_onsets(media.audio(RATE), RATE)
        facts = {"flow": flow.round(4).tolist(), "flow_peaks_s": peaks.round(3).tolist(),
                 "onsets_s": onsets.round(3).tolist()}  # fmt: skip
        return Result(intersection_over_union(onsets, peaks, 1 / media.fps), facts=facts)


def mean_flow(frames: NDArray[np.uint8]) -> Array:
    """Mean magnitude of the flow into each frame in pixels, [T]; the first frame has that of the second."""
    cv2 = _opencv()
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames]
    fields = [cv2.calcOpticalFlowFarneback(a, b, None, **FARNEBACK) for a, b in pairwise(grey)]
    means = [float(np.linalg.norm(field, axis=-1).mean()) for field in fields]
    return np.array([means[0], *means])


def flow_peaks(flow: Array, fps: float) -> Array:
    """Find all local maxima of LEAST_FLOW at least, in seconds; neither the first frame nor the last is one."""
    middle = flow[1:-1]
    peaks = np.flatnonzero((flow[:-2] < middle) & (middle > flow[2:]) & (middle >= LEAST_FLOW)) + 1
    return peaks / fps


def intersection_over_union(onsets: Array, peaks: Array, window: float) -> float:
    """Divide matches by onsets and peaks together, less the matches; 0 for none of either. Each onset takes the first
    peak less than `window` seconds away that none took before."""
    free = np.ones(len(peaks), bool)
    for onset in onsets:
        near = np.flatnonzero(free & (peaks - window < onset) & (onset < peaks + window))
        free[near[:1]] = False
    matched = int((~free).sum())
    return matched / max(1, len(onsets) + len(peaks) - matched)


def _opencv() -> Any:
    return optional_module("cv2", "opencv-python-headless", "av_align")
