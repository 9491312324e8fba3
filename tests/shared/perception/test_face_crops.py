"""Crops of faces: boxes around all landmarks, and squares as the public pipeline cuts them."""

from __future__ import annotations

import numpy as np

from shared.perception.face_crops import GREY, crop_faces, face_boxes
from shared.perception.faces import FaceTrack


def test_boxes_hold_all_landmarks_and_bridge_gaps() -> None:
    landmarks = np.full((6, 468, 3), np.nan)
    for at, left in ((1, 10.0), (4, 40.0)):
        landmarks[at] = [left, 20, 0]
        landmarks[at, 7] = [left + 8, 36, 5]
    first, boxes = face_boxes(FaceTrack(np.full((6, 4), np.nan), landmarks))
    assert first == 1 and boxes[:, 0].tolist() == [10, 20, 30, 40]
    assert boxes[0].tolist() == [10, 20, 18, 36]


def test_a_square_reaches_below_the_face_and_is_grey_beyond_the_picture() -> None:
    frames = np.zeros((13, 100, 100, 3), np.uint8)
    frames[:, 30:50, 40:60] = 200  # a face of 20 pixels
    boxes = np.tile([40.0, 30, 60, 50], (13, 1))
    crops = crop_faces(frames, boxes, 28)  # 2.8 half sides: one pixel each
    assert crops.shape == (13, 28, 28, 3)
    rows, columns = np.flatnonzero(crops[6, :, 14, 0] > 100), np.flatnonzero(crops[6, 10, :, 0] > 100)
    assert (rows[0], rows[-1]) == (0, 19) and (columns[0], columns[-1]) == (4, 23)
    edge = crop_faces(frames, np.tile([90.0, 30, 110, 50], (13, 1)), 28)
    assert (edge[6, :, -1] == GREY).all() and (edge[6, :, 0] == 0).all()
    outside = crop_faces(frames, np.tile([190.0, 30, 210, 50], (13, 1)), 28)
    assert (outside[6] == GREY).all()


def test_one_jump_of_a_box_moves_nothing() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (20, 60, 60, 3), dtype=np.uint8)
    boxes = np.tile([20.0, 20, 40, 40], (20, 1))
    jumped = boxes.copy()
    jumped[10] += 15
    assert np.array_equal(crop_faces(frames, boxes, 16)[7:13], crop_faces(frames, jumped, 16)[7:13])
