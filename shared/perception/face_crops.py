"""Square pictures of a face that is followed through a clip, cut as SyncNet's public pipeline cuts them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import medfilt
from torch.nn import functional

from shared.perception.faces import FaceTrack

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]

MARGIN = 0.4
"""Part of a face's half side that is added on each side; below the face twice as much, above it nothing."""
SMOOTH = 13
"""Frames of the median that steadies place and size."""
GREY = 110  # what stands beyond the picture


def face_boxes(track: FaceTrack) -> tuple[int, Array]:
    """First frame of a track, and boxes [T, 4] (left, top, right, bottom) around all landmarks from there to its last
    frame: forehead to chin and cheek to cheek. They are linear over frames in which the face was missed."""
    frames = np.flatnonzero(track.found)
    flat = track.landmarks[frames, :, :2]
    known = np.concatenate([flat.min(1), flat.max(1)], 1)
    every = np.arange(frames[0], frames[-1] + 1)
    return int(frames[0]), np.stack([np.interp(every, frames, side) for side in known.T], 1)


def crop_faces(frames: Frame, boxes: Array, side: int) -> Frame:
    """Cut a square around each box [T, 4] out of as many frames uint8 [T, H, W, 3], scaled: [T, side, side, 3]."""
    half = np.max(boxes[:, 2:] - boxes[:, :2], axis=1) / 2
    kernel = min(SMOOTH, len(half) - 1 + len(half) % 2)  # odd, and no longer than the track
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    steady = [medfilt(values, kernel) for values in (half, middle[:, 0], middle[:, 1])]
    places = zip(frames, *steady, strict=True)
    return np.stack([_crop(frame, size, x, y, side) for frame, size, x, y in places])


def _crop(frame: Frame, half: float, x: float, y: float, side: int) -> Frame:
    below, beside = half * (1 + 2 * MARGIN), half * (1 + MARGIN)
    left, top, right, bottom = (int(np.floor(at)) for at in (x - beside, y - half, x + beside, y + below))
    height, width = frame.shape[:2]
    face = np.full((max(1, bottom - top), max(1, right - left), 3), GREY, np.uint8)
    rows, columns = slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))
    part = frame[rows, columns]
    if part.size:
        face[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = part
    pixels = torch.from_numpy(face).movedim(-1, 0)[None].float()
    scaled = functional.interpolate(pixels, (side, side), mode="bilinear", align_corners=False)
    return scaled[0].movedim(0, -1).round().byte().numpy()
