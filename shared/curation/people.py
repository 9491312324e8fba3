"""Who is to be seen in a clip: faces through time, and how open their mouths are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.curation.config import People
from shared.curation.pictures import small_pictures
from shared.curation.record import Context, Finding, Record
from shared.data.media import probe, read_video
from shared.perception.face_crops import face_boxes
from shared.perception.faces import MODELS, FaceReader
from shared.perception.installed import find_weights, optional_module
from shared.puppets.picture import HEAD_CENTRE_Y, HEAD_RADII, SLOTS
from shared.puppets.readers import mouth_range, read_mouth
from shared.puppets.scene_fit import canonical, read_places
from shared.puppets.script import PERSONS
from shared.puppets.script_fit import LEAST_GAIN, SKY

Array = NDArray[np.float64]
Frames = NDArray[np.uint8]
Faces = Literal["landmarks", "puppets"]

SIDE = 640
"""Pixels of the longer side in which faces are looked for."""

MOST = 9
"""People that the template counts to."""


class Face(NamedTuple):
    """A face in a clip of T frames: the mean of its centre, in shares of the width and height, its mean height in
    shares of the picture's, the share of frames in which it was found, the opening of its mouth [T], and boxes [T, 4]
    (left, top, right, bottom, in pixels) from forehead to chin, NaN before it was first found and after the last."""

    place: tuple[float, float]
    height: float
    found: float
    opening: Array
    boxes: Array


class Seen(NamedTuple):
    """Frames uint8 [T, H, W, 3] of a clip, how many a second, and its people from left to right."""

    frames: Frames
    fps: float
    people: list[Face]


def look(record: Record, context: Context) -> Finding:
    """Find the faces of a clip, from left to right."""
    frames, fps, faces = see(record, context.config.people)
    if len(faces) > MOST:
        told = f"{len(faces)} faces are seen; the text counts to {MOST}"
        return Finding("drop", "crowd", told, {"faces": len(faces)})
    people = [
        {
            "place": [round(share, 3) for share in face.place], "height": round(face.height, 3),
            "found": round(face.found, 3), "opening": face.opening.round(3).tolist(),
        }
        for face in faces
    ]  # fmt: skip
    return Finding(figures={"fps": fps, "frames": len(frames), "people": people})


def see(record: Record, settings: People) -> Seen:
    """Look at a clip; what is seen in the same file with the same settings is the same."""
    info = probe(record.source)
    fps = min(settings.fps, info.fps or settings.fps)
    height, width = next(small_pictures(record.source, record.start, record.end, SIDE)).pixels.shape[:2]
    frames = read_video(record.source, fps, (height, width), record.start, record.end)
    faces = [face for face in FINDERS[settings.faces](frames) if face.found >= settings.least_found]
    return Seen(frames, fps, sorted(faces, key=lambda face: face.place))


def by_landmarks(frames: Frames) -> list[Face]:
    """Find faces by the networks of `shared.perception`; the mouth's opening is in distances of the eyes."""
    found, (height, width) = [], frames.shape[1:3]
    for track in FaceReader().track(frames):
        boxes = track.boxes[track.found]
        left, top, right, bottom = boxes.mean(0).tolist()
        place = ((left + right) / 2 / width, (top + bottom) / 2 / height)
        numbers = np.flatnonzero(track.found)
        opening = np.interp(np.arange(len(frames)), numbers, track.opening[numbers])
        first, between = face_boxes(track)
        around = np.full((len(frames), 4), np.nan)
        around[first : first + len(between)] = between
        found.append(Face(place, (bottom - top) / height, float(track.found.mean()), opening, around))
    return found


def by_puppets(frames: Frames) -> list[Face]:
    """Find the drawn faces of the toy world, which networks see by chance alone; the mouth's opening is 0 to 1."""
    pixels = canonical(frames)
    mood, standing, pan = read_places(pixels, LEAST_GAIN, SKY)
    shut, wide = mouth_range(mood)
    height, width = frames.shape[1:3]
    unit = min(height, width)
    middle = (height - unit) / 2 + unit * HEAD_CENTRE_Y
    half_width, half_height = (unit * radius for radius in HEAD_RADII)
    faces = []
    for slot in sorted(slot for slot, name in standing.items() if name[0] in PERSONS):
        opening = (read_mouth(pixels, pan, slot) - shut) / (wide - shut)
        x, y = (width - unit) / 2 + unit * (SLOTS[slot] - pan), np.full(len(frames), middle)
        boxes = np.stack([x - half_width, y - half_height, x + half_width, y + half_height], 1)
        place, opening = (SLOTS[slot], HEAD_CENTRE_Y), np.clip(opening, 0.0, 1.5)
        faces.append(Face(place, 2 * HEAD_RADII[1], 1.0, opening, boxes))
    return faces


#: What finds faces in frames uint8 [T, H, W, 3], by name.
FINDERS: dict[Faces, Callable[[Frames], list[Face]]] = {"landmarks": by_landmarks, "puppets": by_puppets}


def check(faces: Faces) -> None:
    """Raise UserError where what finds these faces is not installed."""
    if faces == "landmarks":
        optional_module("ai_edge_litert.interpreter", "ai-edge-litert", "reading faces")
        for model in MODELS:
            find_weights(model)
