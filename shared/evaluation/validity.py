"""Validity: is it a puppet show? A clip is compared with the drawing of the script that fits it best.

A blob that moves like no ball, a face that dissolves, a scene between two scenes: no script draws them. In dB, by
region, between a floor (another clip's drawing) and a ceiling (true clips through the codec), and the lowest counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.blocks import Cell, block_scores
from shared.evaluation.bootstrap import Ratio
from shared.puppets.regions import REGIONS, Masks
from shared.puppets.script_fit import ScriptFit, fit_script
from shared.puppets.told import Told

Frames = NDArray[np.uint8]
Window = NDArray[np.bool_]
"""Which frames of a clip count, [T]."""
Limits = Mapping[str, tuple[float, float]]
"""By region: dB of the floor and of the ceiling."""
MOST_DECIBELS = 60.0
NAMES = ("validity", *(f"{name}_{region}" for name in ("blockiness", "sharpness", "energy") for region in REGIONS))


@dataclass(frozen=True)
class SceneReading:
    """Frames uint8 [T, H, W, 3] of a clip and the script that fits them."""

    frames: Frames
    fit: ScriptFit

    @classmethod
    def read(cls, frames: Frames, fps: float, level: str = "simple", style: str = "stage") -> SceneReading:
        """Fit a script of a level and a style to frames."""
        return cls(frames, fit_script(frames, fps, level, style))

    @cached_property
    def drawing(self) -> Frames:
        """What the painter makes of the fitted script."""
        return self.fit.draw()

    @cached_property
    def masks(self) -> Masks:
        """Where objects and people are in the drawing."""
        return self.fit.masks()

    def decibels(self, other: SceneReading, window: Window | None = None) -> dict[str, float]:
        """Peak signal-to-noise ratio of these frames, or of those in a `window`, against the drawing of a scene, by
        region; over the pixels that belong to it in this scene's drawing or in the other's, and without a region that
        is in neither. A scene that is shorter ends the comparison, or stands still where a window goes on."""
        count = min(len(self.frames), len(other.frames)) if window is None else len(self.frames)
        at = np.minimum(np.arange(count), len(other.frames) - 1)
        error = np.square((self.frames[:count].astype(np.float32) - other.drawing[at]) / 255).mean(-1)
        found = {}
        for region in REGIONS:
            mask = self.masks[region][:count] | other.masks[region][at]
            if window is not None:
                mask &= window[:, None, None]
            if mask.any():
                found[region] = float(min(MOST_DECIBELS, -10 * np.log10(max(error[mask].mean(), 1e-9))))
        return found


def limits(true: Sequence[SceneReading], windows: Sequence[Window | None] | None = None) -> Limits:
    """Floor and ceiling of each region from true clips through the codec, or from a window of each: the mean over them
    of the dB against the next clip's drawing, and against their own."""
    within = windows or [None] * len(true)
    others = [one.decibels(other, w) for one, other, w in zip(true, [*true[1:], *true[:1]], within, strict=True)]
    own = [scene.decibels(scene, window) for scene, window in zip(true, within, strict=True)]
    return {
        region: (_mean([values[region] for values in others if region in values]), _mean(best))
        for region in REGIONS
        if (best := [values[region] for values in own if region in values])
    }


def validity(
    scene: SceneReading, told: Told, between: Limits, drawn: SceneReading | None = None, window: Window | None = None
) -> Ratio:
    """Find the lowest share 0..1, over the regions, of the way from floor to ceiling. Where more is asked than was
    found, only the share that was found counts: nothing found is 0. `drawn`: another scene, for the floor. `window`:
    the frames that count; what is found in the clip and not in them is left out there."""
    asked = {"objects": sum(p.visible for p in told.objects), "people": sum(p.visible for p in told.people), "rest": 0}
    found = {"objects": len(scene.fit.spec.props), "people": len(scene.fit.spec.characters), "rest": 1}
    decibels, lowest = scene.decibels(drawn or scene, window), 1.0
    for region, (floor, ceiling) in between.items():
        if not (asked[region] or found[region]) or (found[region] and region not in decibels):
            continue
        there = min(1.0, found[region] / asked[region]) if asked[region] else 1.0
        share = (decibels[region] - floor) / max(ceiling - floor, 1e-3) if found[region] else 0.0
        lowest = min(lowest, there * float(np.clip(share, 0, 1)))
    return lowest, 1.0


def picture_scores(scene: SceneReading, told: Told, between: Limits, cell: Cell) -> dict[str, Ratio]:
    """Collect `validity`, and blockiness and sharpness by region against the drawing."""
    return {"validity": validity(scene, told, between), **block_scores(scene.frames, scene.drawing, scene.masks, cell)}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
