"""Looking into clips: a puppet's lips and events are found, and attention is drawn for any clip."""

from __future__ import annotations

from pathlib import Path

import pytest
from media import puppet as media_of_puppet
from PIL import Image

from ccl.app.looking import attention, look, noise_level
from ccl.app.options import asked
from ccl.app.shelf import Shelf
from ccl.generate import JointOptions
from shared.data.media_write import write_video
from shared.utils.errors import UserError

SPEAKS = 1  # number of a clip of `media.puppet`


@pytest.fixture(scope="module")
def puppet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of the toy world of 4 s in which somebody speaks."""
    clip = media_of_puppet(SPEAKS, 4)
    file = tmp_path_factory.mktemp("puppet") / "puppet.mp4"
    write_video(file, clip.pictures, clip.fps, clip.sound[None], clip.rate)
    return file


def test_a_puppet_is_in_sync(puppet: Path, tmp_path: Path) -> None:
    looked = look(puppet, "puppets", tmp_path)
    events, lips = looked.lines
    assert events.startswith("events: F1 ") or events.startswith("events: no event")
    assert lips.startswith("lips: correlation 0.") and "sound late by" in lips
    clip, lags = (Image.open(file) for file in looked.pictures)
    assert clip.width == 1320 and lags.width == 550


def test_what_has_no_sync_has_its_figure(media: Path, tmp_path: Path) -> None:
    looked = look(media / "voice.wav", "puppets", tmp_path)
    assert looked.lines == ("events: no pictures or no sound", "lips: no pictures or no sound")
    assert [file.name for file in looked.pictures] == ["clip.png"]
    with pytest.raises(UserError, match=r"^bad\.mp4: "):
        look(media / "bad.mp4", "puppets", tmp_path)


def test_attention_is_drawn(shelf: Shelf, media: Path, tmp_path: Path) -> None:
    options = asked(JointOptions, shelf.model_options("assets/puppets") | {"prompt": "a bell", "output": "x.mp4"})
    file = attention(shelf, options, media / "film.mp4", "a bell rings", "0.5", tmp_path)
    assert Image.open(file).width > 500
    with pytest.raises(UserError, match=r"voice\.wav"):
        attention(shelf, options, media / "voice.wav", "a bell rings", "0.5", tmp_path)


def test_a_noise_level_is_inside_its_range() -> None:
    assert noise_level("0.25") == 0.25 and noise_level("") == 0.5
    for words in ("1", "much", "nan"):
        with pytest.raises(UserError, match=r"noise level is .*; a number from 0\.01 to 0\.99 is needed"):
            noise_level(words)
