"""What a microphone sends becomes pictures that move, and the user is told how far they are behind."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from app_jobs import finished, recorded
from PIL import Image

from ccl.app.live import LivePart, mono, moving
from ccl.app.shelf import Shelf
from shared.utils.errors import UserError

RATE = 48000  # a browser's
PROMPT = "One person conversation. Person1: a man in a blue shirt on the right. Person1 is speaking."


def pictures(html: str) -> Image.Image:
    (data,) = re.findall(r'src="data:image/webp;base64,([^"]+)"', html)
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_pieces_of_a_voice_become_pictures_that_move(shelf: Shelf) -> None:
    part = LivePart(shelf.model_options("assets/puppets") | {"prompt": PROMPT, "steps": "1"})
    voice = (9000 * np.sin(np.arange(2 * RATE) / 9)).astype(np.int16)
    quiet = finished(lambda job: part.hear(job, shelf, voice[:RATE], RATE))
    assert quiet.state == "done" and not quiet.results  # a window of 17 frames is not there yet
    told = recorded(lambda job: part.hear(job, shelf, voice[RATE:], RATE))
    shown = list(dict.fromkeys(update.results for update in told if update.results))
    assert [pictures(one).n_frames for (one,) in shown] == [17, 12] and pictures(shown[0][0]).size == (64, 64)
    lines = [update.line for update in told if "behind the voice" in update.line]
    assert lines and all(
        re.fullmatch(r"1 steps take \d+% of the time; \d+\.\d\d s behind the voice", one) for one in lines
    )


def test_what_the_command_line_refuses_is_refused(shelf: Shelf) -> None:
    with pytest.raises(UserError, match="steps many: Input should be a valid integer"):
        LivePart(shelf.model_options("assets/puppets") | {"prompt": PROMPT, "steps": "many"})
    with pytest.raises(UserError, match="prompt is empty; a text is needed"):
        LivePart(shelf.model_options("assets/puppets") | {"prompt": ""})
    part = LivePart(shelf.model_options("assets/puppets") | {"prompt": PROMPT, "steps": "1"})
    finished(lambda job: part.hear(job, shelf, np.zeros(100, np.int16), RATE))
    late = finished(lambda job: part.hear(job, shelf, np.zeros(100, np.int16), 44100))
    assert late.state == "failed" and "came with 48000 Hz and now has 44100 Hz" in late.line


def test_samples_of_browsers_are_read() -> None:
    assert mono(np.array([-(2**15), 0, 2**14], np.int16)).tolist() == [-1.0, 0.0, 0.5]
    assert mono(np.array([[0.5, -0.5], [1.0, 0.5]], np.float32)).tolist() == [0.0, 0.75]
    frames = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), np.uint8)
    made = pictures(moving(frames, 16))
    assert made.n_frames == 3 and np.array_equal(np.asarray(made.convert("RGB")), frames[0])
