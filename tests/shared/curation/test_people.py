from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from films import FPS, Segment

from shared.curation.config import DemixConfig
from shared.curation.people import FINDERS, MOST, Face, check, look
from shared.curation.record import Context, Record
from shared.data.media_write import write_video


def test_drawn_faces_are_found_where_they_stand(film: tuple[Path, list[Segment]], config: DemixConfig) -> None:
    for segment in [segment for segment in film[1] if not segment.title][:3]:
        record = Record("k", film[0], "k", segment.first / FPS, segment.after / FPS)
        figures = look(record, Context(config, film[0].parent, None)).figures  # type: ignore[arg-type]
        assert [person["place"][0] for person in figures["people"]] == pytest.approx(segment.faces, abs=1e-3)
        assert figures["fps"] == FPS and figures["frames"] == segment.after - segment.first
        for person in figures["people"]:
            assert len(person["opening"]) == figures["frames"] and max(person["opening"]) <= 1.5


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
    shut = np.zeros(4)
    faces = [Face((0.8, 0.5), 0.2, 1.0, shut), Face((0.1, 0.5), 0.3, 0.5, shut), Face((0.5, 0.5), 0.3, 0.1, shut)]
    finding = found(tmp_path, monkeypatch, faces)
    assert [person["place"][0] for person in finding.figures["people"]] == [0.1, 0.8]


def test_a_crowd_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = [Face((0.1 * n, 0.5), 0.2, 1.0, np.zeros(4)) for n in range(MOST + 1)]
    finding = found(tmp_path, monkeypatch, faces)
    assert (finding.verdict, finding.cause) == ("drop", "crowd")


def test_drawn_faces_need_nothing_installed() -> None:
    check("puppets")
