"""How open the mouths of a clip are, frame by frame: read from landmarks on faces, or from the puppets' drawn ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.metrics.base import ClipMedia
from shared.perception.faces import FaceReader, FaceTrack
from shared.puppets.readers import read_mouth
from shared.puppets.scene_fit import canonical, read_places
from shared.puppets.script import PERSONS
from shared.puppets.script_fit import LEAST_GAIN, SKY

Array = NDArray[np.float64]
Source = Literal["landmarks", "puppets"]

FPS = 25.0
"""Frames per second at which faces are read; puppets are read at the clip's own rate."""


_tracks: WeakKeyDictionary[ClipMedia, dict[float, list[FaceTrack]]] = WeakKeyDictionary()


def face_tracks(media: ClipMedia, fps: float = FPS) -> list[FaceTrack]:
    """Follow the faces of a clip at `fps`; once, however many metrics ask."""
    found = _tracks.setdefault(media, {})
    if fps not in found:
        found[fps] = FaceReader().track(media.frames(fps))
    return found[fps]


class Mouths(NamedTuple):
    """`opening` [T] of all mouths together at `fps`, how many `faces` there are, and the share of frames with one."""

    opening: Array
    fps: float
    faces: int
    found: float


def from_landmarks(media: ClipMedia) -> Mouths:
    """Inner lips of every face that is followed through the clip, in distances of its eyes (`faces.lip_opening`)."""
    tracks = face_tracks(media)
    found = float(np.any([track.found for track in tracks], axis=0).mean()) if tracks else 0.0
    return Mouths(np.sum([filled(track) for track in tracks], axis=0), FPS, len(tracks), found)


def from_puppets(media: ClipMedia) -> Mouths:
    """Mouths of all persons that stand in a clip of the toy world, found without its caption."""
    pixels = canonical(media.frames())
    _, standing, pan = read_places(pixels, LEAST_GAIN, SKY)
    slots = sorted(slot for slot, name in standing.items() if name[0] in PERSONS)
    opening = np.sum([read_mouth(pixels, pan, slot) for slot in slots], axis=0)
    return Mouths(opening, media.fps, len(slots), float(bool(slots)))


SOURCES: dict[Source, Callable[[ClipMedia], Mouths]] = {"landmarks": from_landmarks, "puppets": from_puppets}


def filled(track: FaceTrack) -> Array:
    """Read the opening of a face, [T]: linear over frames in which it was missed, 0 before its first and after its
    last."""
    frames = np.flatnonzero(track.found)
    return np.interp(np.arange(len(track.found)), frames, track.opening[frames], left=0.0, right=0.0)
