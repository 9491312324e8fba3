"""The timeline: waveforms drawn to scale, clicks as times, texts and pictures placed in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ccl.app.timeline import (
    LEFT,
    RATE,
    RIGHT,
    ROW,
    WIDTH,
    draw,
    duration_of,
    envelope,
    place_keyframe,
    place_text,
    read_sounds,
    seconds_at,
    texts_of,
    time_of,
)  # fmt: skip
from shared.data.media_write import write_audio
from shared.utils.errors import UserError


def test_waveforms_stand_at_their_time(tmp_path: Path) -> None:
    late = np.zeros((1, 2 * 16000), np.float32)
    late[:, 24000:] = 0.8 * np.sign(np.sin(np.arange(8000)))
    write_audio(tmp_path / "late.wav", late, 16000)
    write_audio(tmp_path / "short.wav", late[:, :16000], 16000)
    sounds = read_sounds({"speech": tmp_path / "late.wav", "second": None, "music": tmp_path / "short.wav"})
    assert list(sounds) == ["speech", "music"] and duration_of(sounds) == pytest.approx(2, abs=0.01)
    picture = draw(sounds, [], [])
    assert picture.dtype == np.uint8 and picture.shape[1] == WIDTH
    row = picture[ROW // 4, :, :].astype(int)  # above the middle of the first track
    columns = np.flatnonzero((row[:, 2] - row[:, 0]) > 60)  # of the track's blue
    assert columns.min() == pytest.approx(LEFT + 0.75 * (WIDTH - LEFT - RIGHT), abs=6)


def test_marks_stand_at_their_time() -> None:
    sounds = {"speech": np.zeros(4 * RATE, np.float32)}
    without, marked = draw(sounds, [], []), draw(sounds, [(1.0, "a bell")], [3.0], at=2.0)
    changed = np.flatnonzero((without[:ROW] != marked[:ROW]).any(-1).sum(0) > ROW // 3)  # not words
    found = sorted({round(4 * (x - LEFT) / (WIDTH - LEFT - RIGHT), 1) for x in changed})
    assert found == [1.0, 2.0, 3.0]


def test_an_envelope_has_the_extremes() -> None:
    sound = np.zeros(RATE, np.float32)
    sound[[10, 4010]] = 0.5, -0.75
    low, high = envelope(sound, 2.0, 100)
    assert len(low) == 100 and high[0] == 0.5 and low.min() == -0.75 and (low[50:] == 0).all()


def test_a_click_is_a_time() -> None:
    assert seconds_at(LEFT, 4.0) == 0 and seconds_at(WIDTH - RIGHT, 4.0) == 4
    assert seconds_at((LEFT + WIDTH - RIGHT) / 2, 4.0) == 2 and seconds_at(0, 4.0) == 0 and seconds_at(5000, 4.0) == 4


def test_texts_are_placed_in_order() -> None:
    lines = place_text("", 2.5, "rain\nfalls, again")
    lines = place_text(lines, 1.0, "a bell")
    assert texts_of(lines) == [(1.0, "a bell"), (2.5, "rain falls, again")]
    assert texts_of(place_text(lines, 1.0, "a drum"))[0] == (1.0, "a drum")
    with pytest.raises(UserError, match="write what is to be seen from then on"):
        place_text(lines, 3.0, " ")


@pytest.mark.parametrize("lines", ["soon, a bell", "1.5", "1,  ", "inf, a bell"])
def test_another_line_is_refused(lines: str) -> None:
    with pytest.raises(UserError, match=r"timed texts, line 2: expected SECONDS, TEXT but found"):
        texts_of(f"0, a drum\n{lines}")


def test_pictures_are_placed_in_order() -> None:
    placed = place_keyframe(place_keyframe([], 2.0, "b.png"), 0.5, "a.png")
    assert placed == [(0.5, "a.png"), (2.0, "b.png")] and place_keyframe(placed, 2.0, "c.png")[1] == (2.0, "c.png")
    with pytest.raises(UserError, match="load a picture, then place it"):
        place_keyframe(placed, 1.0, None)


def test_a_time_is_a_number_from_zero() -> None:
    assert time_of("1.5") == 1.5
    for words in ("", "soon", "-1", "inf", "nan"):
        with pytest.raises(UserError, match="seconds from 0 on are needed; click on a waveform"):
            time_of(words)
