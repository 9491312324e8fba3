from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.data.media_write import write_audio, write_video
from shared.evaluation.moving_figure import save_moving
from shared.utils.errors import UserError

RATE = 16000
SOUND = 0.5 * np.sin(np.arange(RATE) / 20)[None].astype(np.float32)


def test_frames_move_beside_a_line_that_follows_them(tmp_path: Path) -> None:
    frames = np.zeros((8, 32, 32, 3), np.uint8)
    frames[4:] = 255
    write_video(tmp_path / "clip.mp4", frames, 8, SOUND, RATE)
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
    write_audio(tmp_path / "sound.wav", SOUND, RATE)
    for name in ("silent.mp4", "sound.wav"):
        with pytest.raises(UserError, match=rf"{name}: has no pictures or no sound"):
            save_moving(tmp_path / name, tmp_path / "clip.gif")
    assert not (tmp_path / "clip.gif").exists()
