"""Reading a clip of the puppets: what its video and its audio show, without the truth about times.

Of the script only what the captions say is used: which kinds are visible and, where mentioned, on which side. So the
readers work on generated samples as on rendered ones. Read from one picture or one sound alone, the results can be
paired at will, which is how floors are measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.puppets.audio_readers import HOP, read_loudness, read_onsets, read_pace
from shared.puppets.picture import FLASH_CENTRE_Y, FLASH_RADII, MOUTH_CENTRE_Y, MOUTH_HALF_WIDTH, SLOTS
from shared.puppets.scene_fit import SIDE, Detection, Frames, Mention, canonical, read_layout
from shared.puppets.script import KINDS, PERSONS, Spec
from shared.utils.onsets import half_rise, onset_peaks

Array = NDArray[np.float64]

FLASH_LEAST, FLASH_SHARE = 0.1, 0.3
"""Least opacity of a spark, and its least share of the brightest one of the clip, both as a peak's prominence."""
LEAST_GAP = 0.2
"""Seconds between two onsets that are kept apart; the scripts have 0.35."""
NOSE_Y, MOUTH_BOX_HALF_HEIGHT = 0.475, 0.06


@dataclass(frozen=True)
class VideoReading:
    """Read from a picture.

    `onsets`: seconds, ascending, of all visible objects together. `people`, `objects`: what was found for the visible
    characters and props, in the script's order. `mouths`: opening per frame [T] of each of the people, all zeros for a
    face that is not there.
    """

    onsets: Array
    fps: float
    mouths: tuple[Array, ...]
    people: tuple[Detection, ...]
    objects: tuple[Detection, ...]
    mood: str


@dataclass(frozen=True)
class AudioReading:
    """Read from a sound: `onsets` in seconds, ascending; `loudness` of speech every `audio_readers.HOP` seconds;
    `pace` of the music, "bright" (fast), "dark" (slow) or "" where there is none."""

    onsets: Array
    loudness: Array
    pace: str

    def loudness_at(self, times: Array) -> Array:
        return np.interp(times, np.arange(len(self.loudness)) * HOP, self.loudness)


def read_picture(frames: NDArray[np.uint8], fps: float, spec: Spec) -> VideoReading:
    """Read frames uint8 [T, H, W, 3] of a clip whose captions are those of `spec`."""
    pixels = canonical(frames)
    mentions = [Mention(c.kind, c.side if "side" in c.mentioned else None) for c in spec.characters if c.visible]
    layout = read_layout(pixels, mentions + [Mention(prop.kind) for prop in spec.props if prop.visible])
    faces = tuple(found for found in layout.detections if found.kind in PERSONS)
    props = tuple(found for found in layout.detections if found.kind in KINDS)
    mouths = [read_mouth(pixels, layout.pan, f.slot) if f.found else np.zeros(len(frames)) for f in faces]
    onsets = [flash_onsets(read_flash(pixels, layout.pan, p.kind, p.slot), fps) for p in props]
    return VideoReading(np.sort(np.concatenate([*onsets, []])), fps, tuple(mouths), faces, props, layout.mood)


def read_sound(sound: NDArray[np.float32], rate: int) -> AudioReading:
    """Read mono sound, float [N] in [-1, 1]."""
    return AudioReading(read_onsets(sound, rate), read_loudness(sound, rate), read_pace(sound, rate))


def read_mouth(frames: Frames, pan: Array, slot: str) -> Array:
    """How open the mouth at a place is, per frame [T], in canonical `frames` with the camera at `pan` [T].

    The missing brightness of the mouth's box relative to the bare skin above it, 0 for skin and 1 for black.
    """
    grey = frames.mean(-1)
    box = _box(pan, SLOTS[slot], MOUTH_CENTRE_Y, MOUTH_HALF_WIDTH, MOUTH_BOX_HALF_HEIGHT)
    skin = _box(pan, SLOTS[slot], NOSE_Y, 0.03, 0.02)
    return 1 - (grey * box).sum((1, 2)) / np.maximum((grey * skin).sum((1, 2)), 1e-3)


def read_flash(frames: Frames, pan: Array, kind: str, slot: str) -> Array:
    """Opacity of the white spark at an object's contact point, per frame [T], over what usually is there."""
    radii = FLASH_RADII[kind]
    x, y = _grid(pan)
    dx, dy = (x - SLOTS[slot]) / radii[0], (y - FLASH_CENTRE_Y[kind]) / radii[1]
    spot = np.exp(-2 * (dx * dx + dy * dy))
    spot = np.where(spot > 0.05, spot, 0)
    white = frames.min(-1)
    usual = np.median(white, 0)
    return (spot * (white - usual)).sum((1, 2)) / (spot * spot * (1 - usual)).sum((1, 2))


def flash_onsets(flash: Array, fps: float) -> Array:
    """Onset times in seconds of a spark of opacity `flash` [T]: its peaks that stand out in the clip.

    The onset stands where the opacity passes half of the peak that follows, interpolated between frames: half a frame
    before the first bright frame of a sharp spark, and as true where a codec has spread the rise over several.
    """
    peaks = onset_peaks(flash, FLASH_LEAST, FLASH_SHARE, max(1, round(LEAST_GAP * fps)), prominent=True)
    return np.array([half_rise(flash, peak) / fps for peak in peaks])


def _grid(pan: Array) -> tuple[Array, Array]:
    """Scene coordinates of the pixels' centres: x [T, 1, SIDE] under the camera, y [1, SIDE, 1]."""
    centres = (np.arange(SIDE) + 0.5) / SIDE
    return centres + pan[:, None, None], centres[None, :, None]


def _box(pan: Array, cx: float, cy: float, half_width: float, half_height: float) -> Array:
    """Weights [T, SIDE, SIDE] of a box in scene units, summing to 1, with fractional pixels at its edges."""
    x, y = _grid(pan)
    inside_x = np.clip(0.5 + (half_width - np.abs(x - cx)) * SIDE, 0, 1)
    inside_y = np.clip(0.5 + (half_height - np.abs(y - cy)) * SIDE, 0, 1)
    weights = inside_x * inside_y
    return weights / weights.sum((1, 2), keepdims=True)
