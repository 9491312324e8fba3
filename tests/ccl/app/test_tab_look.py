"""The tab Look in a browser: a loaded clip, its figure, its sync, and attention."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_page import User
from media import puppet

from shared.data.media_write import write_video


@pytest.mark.slow
def test_a_clip_is_looked_into(user: User, tmp_path: Path) -> None:
    clip = puppet(1, 4)
    write_video(tmp_path / "puppet.mp4", clip.pictures, clip.fps, clip.sound[None], clip.rate)
    user.open("Look")
    user.click("look")
    user.until("look-status", "no clip is chosen; make one, or load one")
    user.give("look-film", tmp_path / "puppet.mp4")
    user.click("look")
    assert "lips: correlation 0." in user.until("look-status", "events: ")
    user.count("#look-pictures img", 2)
    user.picture("look")
    user.click("attend")
    user.until("look-status", "right time: on the sound of the same moment")
    user.count("#look-pictures img", 1)
    user.picture("attention")


@pytest.mark.slow
def test_what_cannot_be_read_is_told(user: User, media: Path) -> None:
    user.open("Look")
    user.give("look-film", media / "bad.mp4")
    user.click("look")
    assert "Traceback" not in user.until("look-status", "bad.mp4: ")
    user.fill("Noise level", "2")
    user.click("attend")
    user.until("look-status", "noise level is 2.0; a number from 0.01 to 0.99 is needed")
