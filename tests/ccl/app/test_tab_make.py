"""The tab Make in a browser: clips of several seeds, bad input, cancelling."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_page import User

from shared.data.media import probe


def few_steps(user: User, steps: str = "2") -> None:
    user.unfold("Settings")
    user.fill("Steps", steps)


def test_clips_are_made_played_in_step_and_downloaded(user: User, tmp_path: Path) -> None:
    few_steps(user)
    user.click("make")
    user.until("make-status", "done")
    assert user.players("make-clips") == pytest.approx([2, 2], abs=0.1)
    user.page.get_by_role("button", name="Play in step").click()
    user.page.wait_for_function("document.querySelectorAll('#make-clips video')[1].currentTime > 0.2")
    first, second = user.page.evaluate("[...document.querySelectorAll('#make-clips video')].map((v) => v.currentTime)")
    assert abs(first - second) < 0.3
    with user.page.expect_download() as waiting:
        user.page.locator("#make-clips a").first.click()
    waiting.value.save_as(tmp_path / "clip.mp4")
    assert waiting.value.suggested_filename == "clip_seed_0.mp4" and probe(tmp_path / "clip.mp4").has_audio
    user.picture("make")


@pytest.mark.slow
def test_what_is_given_is_used(user: User, media: Path) -> None:
    few_steps(user)
    user.unfold("Given")
    user.give("make-audio", media / "beat.wav")
    user.give("make-image", media / "face.png")
    user.fill("Seconds", "1")
    user.fill("Clips", "1")
    user.click("make")
    user.until("make-status", "done")
    assert user.players("make-clips") == pytest.approx([1], abs=0.1)


@pytest.mark.slow
def test_bad_input_is_told_in_plain_words(user: User, media: Path) -> None:
    user.unfold("Given")
    user.give("make-image", media / "bad.png")
    user.click("make")
    said = user.until("make-status", "bad.png")
    assert said.startswith("bad.png: ") and "Traceback" not in said and str(media) not in said
    few_steps(user, "many")
    user.click("make")
    assert (
        user.until("make-status", "many")
        == "steps many: Input should be a valid integer, unable to parse string as an integer"
    )
    assert user.page.locator("#make-status .failed").count() == 1
    user.fill("Steps", "1")
    user.fill("Clips", "900")
    user.click("make")
    user.until("make-status", "clips is 900; a whole number from 1 to 12 is needed")


@pytest.mark.slow
def test_a_clip_is_cancelled(user: User) -> None:
    few_steps(user, "5000")
    user.click("make")
    user.until("make-status", "seed 0: step")
    user.click("make-cancel")
    user.until("make-status", "cancelled")
    user.fill("Steps", "1")
    user.fill("Clips", "1")
    user.click("make")
    user.until("make-status", "done")
