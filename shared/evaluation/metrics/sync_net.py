"""Sync-C and Sync-D: how sure SyncNet is that a face speaks what is heard, and how far both are apart (Chung and
Zisserman 2016, "Out of time"; Prajwal et al., arXiv 2008.10010, call them LSE-C and LSE-D).

Reproduced: 25 frames per second, 16 kHz, crops of 224 pixels, windows of five frames, shifts of -15 to 15 frames,
D = least mean distance, C = median minus least; the zeros beyond the sound's ends; of several faces the mean.
Mended: a clip whose faces are too small or seen too briefly is refused and counted, where the public script leaves
it out without a word (`min_track` 101 and `min_face` 100 are its limits); frames that come too slowly are refused,
where it repeats them (as `least_fps` 1 does). Differs: faces are found by another model, whose boxes go from forehead
to chin as those of S3FD do; tracks are not cut at changes of the shot; the video is not compressed once more.
What would fool it: SyncNet learned from frontal faces of British television; drawn or turned ones tell it little.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.metrics.base import Better, ClipMedia, Result, Tools, silent
from shared.evaluation.metrics.mouths import face_tracks
from shared.perception.face_crops import crop_faces, face_boxes
from shared.perception.faces import MODELS
from shared.perception.installed import find_weights, optional_module, weights_fingerprint
from shared.perception.syncnet import FPS, RATE, SHIFTS, SIDE, SyncNetDistances

Array = NDArray[np.float64]
DEFAULTS = {"min_track": 20, "min_face": 100.0, "least_fps": 23.75}
"""Frames for which a face must be seen, its least mean side in pixels, and the least frame rate of a clip."""


class SyncC:
    """Sync-C of a clip: mean over its faces. Facts of each face: distances by shift, and by how much the sound is late
    where they are least."""

    name: ClassVar[str] = "sync_c"
    better: Better = "higher"
    needs = frozenset({"video", "audio"})

    def __init__(self, network: SyncNetDistances, settings: Mapping[str, float] = DEFAULTS) -> None:
        self.network, self.settings = network, settings

    @classmethod
    def of(cls, tools: Tools) -> Self:
        """Make the metric. UserError as `load_weights`, and where the face models are not installed."""
        optional_module("ai_edge_litert.interpreter", "ai-edge-litert", "reading faces")
        for model in MODELS:
            find_weights(model)
        return cls(tools.load("syncnet", SyncNetDistances.load), tools.settings[cls.name])

    def preprocessing(self) -> dict[str, Any]:
        """All that moves the number."""
        crop = "box of the landmarks, median of 13 frames, 0.4 around, grey beyond"
        return {**self.network.preprocessing(), "crop": crop, "faces": "mean", **self.settings}

    def fingerprint(self) -> str:
        """Hash of the weights of SyncNet, and of both face models."""
        return f"{self.network.fingerprint()} {weights_fingerprint(*MODELS)}"

    def clip(self, media: ClipMedia) -> Result:
        """Measure one clip; refused: silent, too slow, no face, or none that is large enough and seen long enough."""
        refused, curves = self.curves(media)
        if refused:
            return Result(None, refused)
        shifts = [int(curve.argmin()) - SHIFTS for curve in curves]
        facts: dict[str, Any] = {"faces": len(curves), "lag_ms": [round(1000 * shift / FPS) for shift in shifts]}
        facts |= {f"distances {number}": curve.round(4).tolist() for number, curve in enumerate(curves)}
        return Result(float(np.mean([self.of_curve(curve) for curve in curves])), facts=facts)

    @staticmethod
    def of_curve(distances: Array) -> float:
        """Median of the distances at all shifts minus the least one."""
        return float(np.median(distances) - distances.min())

    def curves(self, media: ClipMedia) -> tuple[str, list[Array]]:
        """Reason to refuse a clip, or "", and the distances by shift [31] of each of its faces; read once for both
        metrics of one network with the same limits."""
        kept, limits = self.network.of_clips.setdefault(media, {}), tuple(sorted(self.settings.items()))
        if limits not in kept:
            kept[limits] = self._read(media)
        return kept[limits]

    def _read(self, media: ClipMedia) -> tuple[str, list[Array]]:
        least, frames = self.settings["least_fps"], int(self.settings["min_track"])
        if media.fps < least:
            return f"{media.fps:g} frames per second; {least:g} are needed", []
        if reason := silent(media, RATE):
            return reason, []
        placed = [face_boxes(track) for track in face_tracks(media, FPS)]
        if not placed:
            return "no face", []
        long = [(start, boxes) for start, boxes in placed if len(boxes) >= frames]
        if not long:
            return f"no face for {frames} frames", []
        large = [(start, boxes) for start, boxes in long if _side(boxes) >= self.settings["min_face"]]
        if not large:
            return f"no face of {self.settings['min_face']:g} pixels", []
        pictures, sound = media.frames(FPS), media.audio(RATE)
        curves = []
        for start, boxes in large:
            crops = crop_faces(pictures[start : start + len(boxes)], boxes, SIDE)
            heard = sound[start * RATE // FPS : (start + len(boxes)) * RATE // FPS]
            try:
                curves.append(self.network(crops, heard))
            except ValueError as error:  # the sound ends before the face, or while it is seen
                return str(error), []
        return "", curves


class SyncD(SyncC):
    """Sync-D of a clip: the least mean distance, mean over its faces."""

    name = "sync_d"
    better: Better = "lower"

    @staticmethod
    def of_curve(distances: Array) -> float:
        """Least of the distances at all shifts."""
        return float(distances.min())


def _side(boxes: Array) -> float:
    """Mean width or height of a face in pixels, the larger of both."""
    return float((boxes[:, 2:] - boxes[:, :2]).mean(0).max())
