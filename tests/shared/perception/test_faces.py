"""Faces: what the detector's numbers mean, tracks, the mouth's opening; and a real talking head, where there is one."""

from __future__ import annotations

import numpy as np
import pytest
from perception import carphone, need_model

from shared.data.media import read_video
from shared.perception.faces import (
    EYES,
    GRIDS,
    LIPS,
    SIDE,
    Detection,
    FaceReader,
    FaceTrack,
    anchors,
    decode,
    join,
    link,
    lip_opening,
    overlap,
    views,
)  # fmt: skip


def outputs(*faces: tuple[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """The detector's outputs with boxes of 20 pixels, shifted by 4 and 2, at anchors of these logits."""
    raw, logits = np.zeros((896, 16), np.float32), np.full(896, -100, np.float32)
    for anchor, logit in faces:
        raw[anchor, :4] = 4, 2, 20, 20
        logits[anchor] = logit
    return raw, logits


def test_there_are_as_many_anchors_as_outputs() -> None:
    assert anchors().shape == (896, 2) == (sum(cells**2 * each for cells, each in GRIDS), 2)
    assert anchors()[0].tolist() == anchors()[1].tolist() == [1 / 32, 1 / 32]  # two at the first of 16 x 16 cells
    assert anchors()[2].tolist() == [3 / 32, 1 / 32]
    assert anchors()[512].tolist() == anchors()[517].tolist() == [1 / 16, 1 / 16]
    assert anchors()[-1].tolist() == [15 / 16, 15 / 16]


def test_boxes_are_decoded_and_those_of_one_face_joined() -> None:
    (face,) = join(decode(*outputs((100, 3.0))))
    x, y = anchors()[100] * SIDE
    assert face.box == pytest.approx([x - 6, y - 8, x + 14, y + 12])
    assert face.points[0] == pytest.approx([x, y]) and face.score == pytest.approx(1 / (1 + np.exp(-3)))
    joined = join(decode(*outputs((101, 1.0), (100, 3.0), (102, 2.0))))  # the third anchor is 8 pixels to the right
    assert len(joined) == 1 and x - 6 < joined[0].box[0] < x + 2
    assert [one.score > 0.9 for one in join(decode(*outputs((0, 1.0), (300, 3.0))))] == [True, False]
    assert decode(*outputs((100, -0.1))) == []


def test_long_pictures_are_looked_at_in_parts() -> None:
    assert views(100, 120) == [(0, 0, 120, 100)]
    assert views(100, 180) == [(0, 0, 180, 100), (0, 0, 100, 100), (40, 0, 140, 100), (80, 0, 180, 100)]
    assert views(300, 100)[1:] == [(0, at, 100, at + 100) for at in (0, 50, 100, 150, 200)]


def test_overlap_is_intersection_over_union() -> None:
    box, others = np.array([0.0, 0, 2, 2]), np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]])
    assert overlap(box, others).tolist() == [1, pytest.approx(1 / 3), 0]


def test_boxes_are_linked_over_short_gaps_and_each_goes_its_way() -> None:
    left, right = np.array([0.0, 0, 10, 10]), np.array([20.0, 0, 30, 10])
    frames = [[left + k, right - k] if k != 2 else [right - k] for k in range(4)]
    assert link(frames) == [[(0, 0), (1, 0), (3, 0)], [(0, 1), (1, 1), (2, 0), (3, 1)]]
    assert [len(chain) for chain in link([[left], *[[]] * 6, [left]])] == [1, 1]
    assert link([[], []]) == []


def test_the_opening_does_not_depend_on_size_or_turn() -> None:
    mesh = np.zeros((468, 3))
    mesh[EYES[0]], mesh[EYES[1]] = (-30, 0, 0), (30, 0, 0)
    for upper, lower in LIPS:
        mesh[upper], mesh[lower] = (0, 40, 0), (0, 52, 0)
    turn = np.array([[np.cos(1), 0, np.sin(1)], [0, 1, 0], [-np.sin(1), 0, np.cos(1)]])
    assert lip_opening(mesh) == pytest.approx(0.2)
    assert lip_opening(np.stack([mesh * 3 + 7, mesh @ turn])) == pytest.approx([0.2, 0.2])
    gone = FaceTrack(np.full((2, 4), np.nan), np.stack([mesh, np.full_like(mesh, np.nan)]))
    assert gone.found.tolist() == [True, False] and np.isnan(gone.opening[1])


def test_nobody_is_seen_on_a_wall() -> None:
    need_model("face detector", "ai_edge_litert.interpreter")
    need_model("face landmarks", "ai_edge_litert.interpreter")
    wall = np.full((2, 60, 100, 3), 180, np.uint8)
    assert FaceReader().track(wall) == []
    face = Detection(np.array([20.0, 10, 60, 50]), np.array([[30.0, 25], [50, 25], *[[40, 40]] * 4]), 0.9)
    assert FaceReader().landmarks(wall[0], face) is None


@pytest.mark.slow
def test_a_talking_head_is_followed() -> None:
    need_model("face landmarks", "ai_edge_litert.interpreter")
    frames = read_video(carphone(), 30)[30:60]
    (track,) = FaceReader().track(frames)
    assert track.found.all()
    middle = (track.boxes[:, :2] + track.boxes[:, 2:]) / 2
    assert (np.abs(middle - [91, 72]) < 12).all()  # where the face is in this clip
    assert track.opening[:12].max() < 0.08 and track.opening[-3:].min() > 0.2  # shut, then he speaks
    lower, upper, eyes = track.landmarks[:, 14, 1], track.landmarks[:, 13, 1], track.landmarks[:, list(EYES), 1]
    assert (lower >= upper - 1).all() and (eyes.max(1) < upper).all()
    both = FaceReader().track(np.concatenate([frames[-2:], frames[-2:, :, ::-1]], 2))
    assert [one.found.sum() for one in both] == [2, 2]
    assert both[0].opening == pytest.approx(track.opening[-2:], abs=0.12)
    (small,) = FaceReader().track(np.pad(frames[-2:, ::2, ::2], ((0, 0), (10, 60), (40, 0), (0, 0))))
    assert small.opening == pytest.approx(track.opening[-2:], abs=0.12)
