"""Reading a clip of the puppets: what its video and its audio show, without the truth about times.

Of the script only what the captions say is used: which kinds are visible and, where mentioned, on which side. So
the readers work on generated samples as on rendered ones. Read from one picture or one sound alone, the
results can be paired at will, which is how floors are measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.puppets import audio_readers, video_readers
from shared.puppets.scene_fit import Detection, Mention, canonical, read_layout
from shared.puppets.script import KINDS, PERSONS, Spec

Array = NDArray[np.float64]


@dataclass(frozen=True)
class VideoReading:
    """Read from a picture.

    `onsets`: seconds, ascending, of all visible objects together. `people`, `objects`: what was found for the
    visible characters and props, in the script's order. `mouths`: opening per frame [T] of each of the
    people, all zeros for a face that is not there.
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
        return np.interp(times, np.arange(len(self.loudness)) * audio_readers.HOP, self.loudness)


def mentions(spec: Spec) -> tuple[list[Mention], list[Mention]]:
    """Visible people and objects as the caption mentions them."""
    people = [Mention(c.kind, c.side if "side" in c.mentioned else None) for c in spec.characters if c.visible]
    return people, [Mention(prop.kind) for prop in spec.props if prop.visible]


def read_picture(frames: NDArray[np.uint8], fps: float, spec: Spec) -> VideoReading:
    """Read frames uint8 [T, H, W, 3] of a clip whose captions are those of `spec`."""
    pixels = canonical(frames)
    people, objects = mentions(spec)
    layout = read_layout(pixels, people + objects)
    faces = tuple(found for found in layout.detections if found.kind in PERSONS)
    props = tuple(found for found in layout.detections if found.kind in KINDS)
    mouths = [video_readers.read_mouth(pixels, layout.pan, f.slot) if f.found else np.zeros(len(frames)) for f in faces]
    flashes = [video_readers.read_flash(pixels, layout.pan, p.kind, p.slot) for p in props]
    onsets = [video_readers.read_onsets(flash, fps) for flash in flashes]
    return VideoReading(np.sort(np.concatenate([*onsets, []])), fps, tuple(mouths), faces, props, layout.mood)


def read_sound(sound: NDArray[np.float32], rate: int) -> AudioReading:
    """Read mono sound, float [N] in [-1, 1]."""
    return AudioReading(
        audio_readers.read_onsets(sound, rate),
        audio_readers.read_loudness(sound, rate),
        audio_readers.read_pace(sound, rate),
    )
