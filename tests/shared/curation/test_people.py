from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from films import FPS, Segment

from shared.curation.config import DemixConfig
from shared.curation.people import FINDERS, MOST, Face, by_landmarks, check, look, see
from shared.curation.record import Context, Record
from shared.data.media_write import write_video
from shared.perception.faces import EYES, LIPS, FaceReader, FaceTrack


def test_drawn_faces_are_found_where_they_stand(film: tuple[Path, list[Segment]], config: DemixConfig) -> None:
    for segment in [segment for segment in film[1] if not segment.title][:1]:
        record = Record("k", film[0], "k", segment.first / FPS, segment.after / FPS)
        figures = look(record, Context(config, film[0].parent, None)).figures  # type: ignore[arg-type]
        assert [person["place"][0] for person in figures["people"]] == pytest.approx(segment.faces, abs=1e-3)
        assert figures["fps"] == FPS and figures["frames"] == segment.after - segment.first
        for person in figures["people"]:
            assert len(person["opening"]) == figures["frames"] and max(person["opening"]) <= 1.5


def test_boxes_of_drawn_faces_hold_them(film: tuple[Path, list[Segment]], config: DemixConfig) -> None:
    """What is in a box is skin and hair and mouth; beside a face, at the same height, is the wall."""
    segment = next(segment for segment in film[1] if len(segment.faces) == 1)
    seen = see(Record("k", film[0], "k", segment.first / FPS, segment.after / FPS), config.people)
    (face,) = seen.people
    left, top, right, bottom = face.boxes.T
    assert np.allclose(right - left, 2 * 0.135 * 64) and np.allclose(bottom - top, 2 * 0.21 * 64)
    middle, y = (left + right) / 2, int(top[0] + bottom[0]) // 2
    for at in (0, len(seen.frames) - 1):
        row = seen.frames[at, y].astype(int).sum(-1)
        wall = row[min(95, int(right[at]) + 2)]
        assert abs(row[round(middle[at])] - wall) > 40


def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faces: list[Face]):  # type: ignore[no-untyped-def]
    write_video(tmp_path / "x.mp4", np.zeros((8, 32, 64, 3), np.uint8), 8)
    seen = []
    monkeypatch.setitem(FINDERS, "landmarks", lambda frames: seen.append(frames.shape) or faces)
    config = DemixConfig.model_validate({"people": {"fps": 4}})
    finding = look(Record("k", tmp_path / "x.mp4", "k", 0.0, 1.0), Context(config, tmp_path, None))  # type: ignore[arg-type]
    assert seen == [(4, 32, 64, 3)]
    return finding


def test_people_stand_from_left_to_right_and_passing_faces_are_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = np.zeros(4), np.zeros((4, 4))
    faces = [Face((0.8, 0.5), 0.2, 1.0, *shown), Face((0.1, 0.5), 0.3, 0.5, *shown), Face((0.5, 0.5), 0.3, 0.1, *shown)]
    finding = found(tmp_path, monkeypatch, faces)
    assert [person["place"][0] for person in finding.figures["people"]] == [0.1, 0.8]


def test_a_crowd_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = [Face((0.1 * n, 0.5), 0.2, 1.0, np.zeros(4), np.zeros((4, 4))) for n in range(MOST + 1)]
    finding = found(tmp_path, monkeypatch, faces)
    assert (finding.verdict, finding.cause) == ("drop", "crowd")


def test_drawn_faces_need_nothing_installed() -> None:
    check("puppets")


def test_faces_that_networks_follow_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, landmarks = np.full((4, 4), np.nan), np.full((4, 468, 3), np.nan)
    boxes[1:3] = (10, 10, 30, 50)
    landmarks[1:3] = 0.0
    landmarks[1:3, EYES[0], 0], landmarks[1:3, EYES[1], 0] = 0.0, 10.0
    for upper, lower in LIPS:
        landmarks[1:3, upper, 1], landmarks[1:3, lower, 1] = (0.0, 0.0), (2.0, 4.0)
    monkeypatch.setattr(FaceReader, "track", lambda self, frames: [FaceTrack(boxes, landmarks)])
    (face,) = by_landmarks(np.zeros((4, 100, 200, 3), np.uint8))
    assert face.place == pytest.approx((0.1, 0.3)) and face.height == 0.4 and face.found == 0.5
    assert face.opening == pytest.approx([0.2, 0.2, 0.4, 0.4])
    assert np.isnan(face.boxes[[0, 3]]).all() and face.boxes[1].tolist() == [0, 0, 10, 2]  # all landmarks
