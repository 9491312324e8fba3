from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from show_clip import main

from shared.data.media import read_image, write_audio, write_video
from shared.utils.errors import UserError

RATE = 16000


def tone(seconds: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)[None].astype(np.float32)


def test_the_strip_follows_time(tmp_path: Path) -> None:
    frames = np.zeros((16, 32, 32, 3), np.uint8)
    frames[8:] = 255
    write_video(tmp_path / "clip.mp4", frames, 8, tone(2.0), RATE)
    main([str(tmp_path / "clip.mp4"), "--output", str(tmp_path / "strip.png"), "--frames", "8"])
    row = read_image(tmp_path / "strip.png")[60].mean(-1)
    width = len(row)
    assert row[width // 4] < 20 and row[3 * width // 4] > 235
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["clip.mp4", "strip.png"]


def test_each_file_shows_what_it_has(tmp_path: Path) -> None:
    write_audio(tmp_path / "sound.wav", 0 * tone(0.5), RATE)
    write_video(tmp_path / "picture.mp4", np.zeros((8, 32, 32, 3), np.uint8), 8)
    write_video(tmp_path / "both.mp4", np.zeros((8, 32, 32, 3), np.uint8), 8, tone(1.0), RATE)
    heights = {}
    for name in ("sound.wav", "picture.mp4", "both.mp4"):
        main([str(tmp_path / name), "--output", str(tmp_path / "a.png")])
        heights[name] = len(read_image(tmp_path / "a.png"))
    assert heights["both.mp4"] > heights["sound.wav"] > heights["picture.mp4"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [(["--frames", "0"], "--frames 0"), (["--output", "strip.jpg"], "png"), ([], "no such file")],
)
def test_bad_input_writes_nothing(tmp_path: Path, more: list[str], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        main([str(tmp_path / "none.mp4"), "--output", str(tmp_path / "strip.png"), *more])
    assert not any(tmp_path.iterdir())
