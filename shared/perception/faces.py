"""Faces in pictures: where they are, 468 landmarks on each, tracks through a clip, and how open the inner lips are.

    tracks = FaceReader().track(frames)          # frames uint8 [T, H, W, 3]
    opening = tracks[0].opening                  # [T], NaN where the face was not found

The models are MediaPipe's short-range BlazeFace (arXiv 1907.05047) and face mesh (arXiv 1907.06724), run by LiteRT. Of
their public descriptions the facts are used: sizes of the input, anchors, the order of the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from shared.perception.installed import find_weights, optional_module

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]

MODELS = ("face detector", "face landmarks")
SIDE, MESH_SIDE = 128, 192
"""Pixels of the square that the detector, and the landmark model, look at."""
GRIDS = ((16, 2), (8, 6))
"""Cells per side of the detector's two grids, and anchors at the centre of each cell; 896 in all."""
LONG = 1.3
"""Longer over shorter side from which a picture is looked at in parts as well."""
LEAST_SCORE, LEAST_PRESENCE = 0.5, 0.5
"""Probability from which a box is a face, and from which landmarks on it count."""
OVERLAP = 0.3
"""Intersection over union from which two boxes of one frame are the same face."""
FOLLOW, MOST_GAP = 0.3, 5
"""The same from one frame to a later one; and frames in a row in which a face may be missed."""
MARGIN = 1.5
"""Side of the square around a face, in sides of its box, that the landmark model sees."""
MOST_SHRINK = 4  # samples per pixel and direction, where a large face is made smaller
LIPS = ((82, 87), (13, 14), (312, 317))
"""Landmarks of the upper and the lower inner lip: right, middle, left."""
EYES = (33, 263)
"""Outer corners of both eyes: their distance is the size of the face."""


class Detection(NamedTuple):
    """A face in one frame, in pixels: `box` (left, top, right, bottom), `points` [6, 2] (right eye, left eye, nose,
    mouth, right ear, left ear) and its probability."""

    box: Array
    points: Array
    score: float


@dataclass(frozen=True)
class FaceTrack:
    """One face through a clip of T frames, in pixels: `boxes` [T, 4] and `landmarks` [T, 468, 3] (z on the scale of x),
    both NaN where it was not found."""

    boxes: Array
    landmarks: Array

    @property
    def found(self) -> NDArray[np.bool_]:
        """Frames in which there are landmarks, [T]."""
        return np.isfinite(self.landmarks[:, 0, 0])

    @property
    def opening(self) -> Array:
        """How open the mouth is, [T]; see `lip_opening`."""
        return lip_opening(self.landmarks)


def lip_opening(landmarks: Array) -> Array:
    """Distance of the inner lips, the mean of three places, in distances of the outer corners of the eyes. Both are
    taken in three dimensions, so that a turned head has the same eyes. [..., 468, 3] -> [...]."""
    upper, lower = (landmarks[..., list(side), :] for side in zip(*LIPS, strict=True))
    gap = np.linalg.norm(upper - lower, axis=-1).mean(-1)
    size: Array = np.linalg.norm(landmarks[..., EYES[0], :] - landmarks[..., EYES[1], :], axis=-1)
    return gap / np.maximum(size, 1e-6)


class FaceReader:
    """Both models, loaded when they are first needed. UserError where LiteRT or the weights are missing."""

    def detect(self, frame: Frame) -> list[Detection]:
        """Faces in a picture uint8 [H, W, 3], the most certain first."""
        found = [face for view in views(*frame.shape[:2]) for face in self._in_view(frame, view)]
        return join(found)

    def _in_view(self, frame: Frame, view: tuple[int, int, int, int]) -> list[Detection]:
        """Boxes in a part of a picture, given as left, top, right and bottom; several of each face."""
        left, top, right, bottom = view
        part = np.ascontiguousarray(frame[top:bottom, left:right])
        longest = max(part.shape[:2])
        height, width = (max(1, round(side * SIDE / longest)) for side in part.shape[:2])
        pixels = torch.from_numpy(part).movedim(-1, 0)[None].float()
        small = functional.interpolate(pixels, (height, width), mode="bilinear", antialias=True)[0].movedim(0, -1)
        square = np.full((1, SIDE, SIDE, 3), -1.0, np.float32)
        y, x = (SIDE - height) // 2, (SIDE - width) // 2
        square[0, y : y + height, x : x + width] = (small / 127.5 - 1).numpy()
        raw, logits = self._run(0, square, ("regressors", "classificators"))
        scale, inner, outer = longest / SIDE, np.array([x, y], float), np.array([left, top], float)
        return [
            Detection(
                ((one.box.reshape(2, 2) - inner) * scale + outer).reshape(4), (one.points - inner) * scale + outer,
                one.score,
            )
            for one in decode(raw[0], logits[0, :, 0])
        ]  # fmt: skip

    def landmarks(self, frame: Frame, face: Detection) -> Array | None:
        """Landmarks [468, 3] in pixels of the face that was detected, or None if there is none after all."""
        corner, across, down = _square(face)
        side = float(np.linalg.norm(across))
        points, presence = self._run(1, _crop(frame, corner, across, down), ("conv2d_21", "conv2d_31"))
        if 1 / (1 + np.exp(-float(presence.reshape(-1)[0]))) < LEAST_PRESENCE:
            return None
        mesh = points.reshape(-1, 3).astype(np.float64) / MESH_SIDE
        flat = corner + mesh[:, :1] * across + mesh[:, 1:2] * down
        return np.concatenate([flat, mesh[:, 2:] * side], 1)

    def track(self, frames: Frame) -> list[FaceTrack]:
        """Follow the faces of a clip uint8 [T, H, W, 3]; the one that is found in most frames first."""
        found = [self.detect(frame) for frame in frames]
        tracks = []
        for chain in link([[face.box for face in faces] for faces in found]):
            boxes, landmarks = np.full((len(frames), 4), np.nan), np.full((len(frames), 468, 3), np.nan)
            for at, which in chain:
                mesh = self.landmarks(frames[at], found[at][which])
                if mesh is not None:
                    boxes[at], landmarks[at] = found[at][which].box, mesh
            tracks.append(FaceTrack(boxes, landmarks))
        tracks = [track for track in tracks if track.found.any()]
        return sorted(tracks, key=lambda track: -int(track.found.sum()))

    @staticmethod
    def _run(model: int, pixels: NDArray[np.float32], names: Sequence[str]) -> list[NDArray[np.float32]]:
        """Run a model; its outputs by name."""
        interpreter = _interpreter(MODELS[model])
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
        interpreter.invoke()
        places = {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}
        return [interpreter.get_tensor(places[name]) for name in names]


@cache
def _interpreter(model: str) -> Any:
    runtime = optional_module("ai_edge_litert.interpreter", "ai-edge-litert", "reading faces")
    interpreter = runtime.Interpreter(str(find_weights(model)), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


@cache
def anchors() -> Array:
    """Centres of the detector's anchors in its square, [896, 2] as (x, y) in 0..1, row by row. All have the size of the
    square, so that its outputs are offsets in pixels."""
    rows = []
    for cells, per_cell in GRIDS:
        y, x = np.divmod(np.arange(cells * cells), cells)
        rows.append(np.repeat(np.stack([x + 0.5, y + 0.5], 1) / cells, per_cell, 0))
    return np.concatenate(rows)


def views(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Parts of a picture that the detector looks at, as left, top, right and bottom: the whole and, if it is much
    longer one way than the other, squares along it that overlap by half, in which a face is larger."""
    short, long = min(height, width), max(height, width)
    whole = (0, 0, width, height)
    if long < LONG * short:
        return [whole]
    starts = np.linspace(0, long - short, int(np.ceil(2 * (long - short) / short)) + 1).round().astype(int).tolist()
    return [whole] + [(at, 0, at + short, height) if width > height else (0, at, width, at + short) for at in starts]


def decode(raw: NDArray[np.float32], logits: NDArray[np.float32]) -> list[Detection]:
    """Boxes in pixels of the detector's square from its outputs, [896, 16] (centre, size, six points) and [896]: all of
    LEAST_SCORE at least, so that a face has several."""
    scores = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -80, 80)))
    keep = np.flatnonzero(scores >= LEAST_SCORE)
    values = raw[keep].astype(np.float64).reshape(-1, 8, 2)
    centres = anchors()[keep][:, None] * SIDE
    middle, half, points = values[:, :1] + centres, values[:, 1:2] / 2, values[:, 2:] + centres
    boxes = np.concatenate([middle - half, middle + half], 1).reshape(-1, 4)
    return [Detection(*one) for one in zip(boxes, points, scores[keep].tolist(), strict=True)]


def join(found: Sequence[Detection]) -> list[Detection]:
    """Faces from boxes, the most certain first: those that overlap by OVERLAP with the most certain of them are one
    face, their mean weighted by probability."""
    rest = sorted(found, key=lambda one: -one.score)
    faces = []
    while rest:
        near = overlap(rest[0].box, np.array([one.box for one in rest])) >= OVERLAP
        near[0] = True
        same = [one for one, is_same in zip(rest, near, strict=True) if is_same]
        weights = np.array([one.score for one in same]) / sum(one.score for one in same)
        box, points = (np.tensordot(weights, np.array(parts), 1) for parts in list(zip(*same, strict=True))[:2])
        faces.append(Detection(box, points, rest[0].score))
        rest = [one for one, is_same in zip(rest, near, strict=True) if not is_same]
    return faces


def overlap(box: Array, boxes: Array) -> Array:
    """Intersection over union of a box [4] with others [N, 4], [N]."""
    size = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.prod(np.maximum(size, 0), 1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], 1) + np.prod(box[2:] - box[:2]) - shared
    joint: Array = shared / np.maximum(areas, 1e-9)
    return joint


def link(boxes: Sequence[Sequence[Array]]) -> list[list[tuple[int, int]]]:
    """Chain the boxes of each frame into tracks of (frame, number in the frame): each goes on with the box that
    overlaps most with its last one, if by FOLLOW at least; a track ends after MOST_GAP frames without one."""
    chains: list[list[tuple[int, int]]] = []
    for at, here in enumerate(boxes):
        open_chains = [chain for chain in chains if at - chain[-1][0] <= MOST_GAP + 1]
        pairs = [
            (float(shared), number, which)
            for number, chain in enumerate(open_chains)
            for which, shared in enumerate(overlap(boxes[chain[-1][0]][chain[-1][1]], np.array(here).reshape(-1, 4)))
            if shared >= FOLLOW
        ]
        taken: set[int] = set()
        continued: set[int] = set()
        for _, number, which in sorted(pairs, key=lambda pair: -pair[0]):
            if number not in continued and which not in taken:
                open_chains[number].append((at, which))
                continued.add(number)
                taken.add(which)
        chains += [[(at, which)] for which in range(len(here)) if which not in taken]
    return chains


def _square(face: Detection) -> tuple[Array, Array, Array]:
    """Place the landmark model's view: its upper left corner and its two sides, in pixels, turned until the eyes are
    level."""
    right_eye, left_eye = face.points[:2]
    angle = np.arctan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])
    side = MARGIN * float(np.max(face.box[2:] - face.box[:2]))
    across = side * np.array([np.cos(angle), np.sin(angle)])
    down = side * np.array([-np.sin(angle), np.cos(angle)])
    return (face.box[:2] + face.box[2:]) / 2 - (across + down) / 2, across, down


def _crop(frame: Frame, corner: Array, across: Array, down: Array) -> NDArray[np.float32]:
    """Cut the parallelogram out of a picture, float32 [1, MESH_SIDE, MESH_SIDE, 3] in [0, 1], black beyond it. A large
    one is sampled several times per pixel, so that nothing is aliased."""
    height, width = frame.shape[:2]
    shrink = int(np.clip(np.ceil(np.linalg.norm(across) / MESH_SIDE), 1, MOST_SHRINK))
    steps = (np.arange(MESH_SIDE * shrink) + 0.5) / (MESH_SIDE * shrink)
    places = corner + steps[None, :, None] * across + steps[:, None, None] * down
    grid = torch.from_numpy((2 * places / np.array([width, height]) - 1).astype(np.float32))
    pixels: Tensor = torch.from_numpy(np.ascontiguousarray(frame)).movedim(-1, 0)[None].float() / 255
    view = functional.grid_sample(pixels, grid[None], mode="bilinear", align_corners=False)
    result: NDArray[np.float32] = functional.avg_pool2d(view, shrink).movedim(1, -1).contiguous().numpy()
    return result
