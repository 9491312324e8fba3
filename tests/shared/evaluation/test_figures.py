"""A clip as one picture: each file and each reading adds its panel; and as a gif."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.data.media_write import write_audio, write_video
from shared.evaluation.figures import ClipFigure, save_moving
from shared.utils.errors import UserError

TIMES = np.arange(16) / 8
PICTURES = np.full((8, 32, 32, 3), 128, np.uint8)
SOUND = np.sin(np.arange(32000) / 5).astype(np.float32)
RATE = 16000
TONE = 0.5 * np.sin(np.arange(RATE) / 20)[None].astype(np.float32)


def test_each_part_has_its_panel() -> None:
    curves = [("video", TIMES, TIMES / 2), ("audio", TIMES, 1 - TIMES / 2)]
    assert len(ClipFigure(2.0, PICTURES).draw().axes) == 1
    assert len(ClipFigure(2.0, None, SOUND, 16000).draw().axes) == 2
    figure = ClipFigure(2.0, PICTURES, SOUND, 16000, curves).draw()
    assert len(figure.axes) == 4 and len(figure.axes[-1].lines) == 2
    assert {panel.get_xlim() for panel in figure.axes} == {(0.0, 2.0)}


def test_onsets_cross_all_panels() -> None:
    figure = ClipFigure(2.0, PICTURES, SOUND, 16000, onsets={"video": [0.5, 1.0], "audio": np.array([0.52])}).draw()
    for panel in figure.axes:
        marks = [[float(line[0, 0]) for line in lines.get_segments()] for lines in panel.collections]
        assert marks == [[0.5, 1.0], [0.52]]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        ClipFigure(2.0, PICTURES).save(tmp_path / "file" / "strip.png")


def test_frames_move_beside_a_line_that_follows_them(tmp_path: Path) -> None:
    frames = np.zeros((8, 32, 32, 3), np.uint8)
    frames[4:] = 255
    write_video(tmp_path / "clip.mp4", frames, 8, TONE, RATE)
    save_moving(tmp_path / "clip.mp4", tmp_path / "made" / "clip.gif")
    with Image.open(tmp_path / "made" / "clip.gif") as gif:
        images = []
        for k in range(gif.n_frames):
            gif.seek(k)
            images.append(np.asarray(gif.convert("RGB")).astype(int))
        assert gif.info["duration"] == 120 and gif.info["loop"] == 0  # of 125: a gif counts in hundredths
    assert len(images) == 8
    side = len(images[0])
    assert images[0][:, :side].mean() < 20 and images[7][:, :side].mean() > 235
    green = [np.argmax((image[5, side:, 1] - image[5, side:, 0]) > 60) for image in images]
    assert green == sorted(set(green))


def test_a_clip_without_sound_or_pictures_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "silent.mp4", np.zeros((8, 32, 32, 3), np.uint8), 8)
    write_audio(tmp_path / "sound.wav", TONE, RATE)
    for name in ("silent.mp4", "sound.wav"):
        with pytest.raises(UserError, match=rf"{name}: has no pictures or no sound"):
            save_moving(tmp_path / name, tmp_path / "clip.gif")
    assert not (tmp_path / "clip.gif").exists()
