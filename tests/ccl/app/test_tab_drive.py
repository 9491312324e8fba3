"""The tab Drive in a browser: texts and pictures on the waveform, a preview per window, a track swapped."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_page import User


@pytest.mark.slow
def test_a_puppet_is_driven_and_a_track_swapped(user: User, media: Path) -> None:
    user.open("Drive")
    user.give("drive-speech", media / "voice.wav")
    wave = user.page.locator("#drive-timeline img")
    wave.wait_for()
    box = wave.bounding_box()
    wave.click(position={"x": box["width"] * 0.5, "y": box["height"] * 0.3})
    user.page.wait_for_function("document.querySelector('#drive-at input, #drive-at textarea').value !== '0'")
    assert 1.2 < float(user.value("At, seconds")) < 1.7
    user.fill("Text from then on", "Scene description: a bell rings under a cold dark light.")
    user.click("place-text")
    user.page.wait_for_function("document.querySelector('#drive-lines textarea').value.includes(', Scene')")
    user.fill("At, seconds", "0.5")
    user.give("drive-keyframe", media / "face.png")
    user.click("place-picture")
    user.until("drive-keyframes", "0.5 s")
    user.unfold("Settings")
    user.fill("Steps", "2")
    user.click("drive")
    user.until("drive-clips", "so far")
    user.until("drive-status", "done")
    assert user.players("drive-clips") == pytest.approx([3], abs=0.1)
    user.give("drive-other", media / "beat.wav")
    user.click("swap")
    user.count("#drive-clips .together", 1)
    user.until("drive-status", "done")
    assert user.players("drive-clips") == pytest.approx([3, 3], abs=0.1)
    user.picture("drive")


@pytest.mark.slow
def test_bad_input_is_told_in_plain_words(user: User, media: Path) -> None:
    user.open("Drive")
    user.click("swap")
    user.until("drive-status", "there is nothing to compare with yet; drive a video first")
    user.click("drive")
    user.until("drive-status", "no sound is given; speech, effects or music are needed")
    user.click("place-text")
    user.until("drive-placed", "write what is to be seen from then on")
    user.give("drive-music", media / "bad.wav")
    assert user.until("drive-placed", "bad.wav: ").startswith("bad.wav: ")


@pytest.mark.slow
def test_a_video_is_cancelled(user: User, media: Path) -> None:
    user.open("Drive")
    user.give("drive-effects", media / "beat.wav")
    user.unfold("Settings")
    user.fill("Steps", "5000")
    user.click("drive")
    user.until("drive-status", "as given: step")
    user.click("drive-cancel")
    user.until("drive-status", "cancelled")
