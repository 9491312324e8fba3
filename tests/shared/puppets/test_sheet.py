"""Contact sheets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shared.data.media_write import write_video
from shared.puppets.sheet import STRIP, captioned_sheet, contact_sheet


def test_each_clip_has_its_place(tmp_path: Path) -> None:
    files = []
    for i in range(12):
        frames = np.full((10, 32, 48, 3), 20 * i, np.uint8)
        write_video(tmp_path / f"{i}.mp4", frames, 10)
        files.append(tmp_path / f"{i}.mp4")
    sheet = np.asarray(contact_sheet(files)).astype(int)
    assert sheet.shape == (2 * 34 + 2, 10 * 50 + 2, 3)
    for i in range(12):
        row, column = divmod(i, 10)
        assert np.abs(sheet[row * 34 + 18, column * 50 + 26] - 20 * i).max() < 8


def test_moments_of_clips_differ(tmp_path: Path) -> None:
    frames = np.repeat(np.arange(0, 240, 4, dtype=np.uint8), 32 * 32 * 3).reshape(60, 32, 32, 3)
    write_video(tmp_path / "a.mp4", frames, 30)
    sheet = np.asarray(contact_sheet([tmp_path / "a.mp4"] * 5)).astype(int)
    levels = [sheet[16, i * 34 + 16, 0] for i in range(5)]
    assert np.allclose(levels, [40, 80, 120, 160, 200], atol=12)


def test_pictures_of_each_clip_stand_over_its_caption() -> None:
    clips = [np.repeat(np.arange(12, dtype=np.uint8)[:, None, None, None] * 20, 32 * 32 * 3).reshape(12, 32, 32, 3)] * 4
    sheet = np.asarray(captioned_sheet(clips, ["a bell rings", "", "long " * 99, "a drum"])).astype(int)
    height, width = sheet.shape[0] // 2, sheet.shape[1] // 3
    for row, column in ((0, 0), (0, 1), (0, 2), (1, 0)):
        cell = sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]
        assert [cell[18, 2 + k * 34 + 16, 0] for k in range(STRIP)] == [0, 40, 80, 120, 160, 200]
        letters = (cell[36:] < 128).any()
        assert letters == (column != 1) and (cell[:, -2:] > 128).all()
    assert (sheet[height:, width:] == 255).all()
