"""The tab Compare in a browser: two settings side by side."""

from __future__ import annotations

import pytest
from app_page import User


@pytest.mark.slow
def test_two_settings_are_compared(user: User) -> None:
    user.open("Compare")
    user.choose("B: checkpoint", user.value("A: checkpoint"))
    user.click("compare")
    user.until("compare-status", "A and B are the same; choose another checkpoint, or change a setting")
    user.fill("A: steps", "1")
    user.fill("B: steps", "4")
    user.click("compare")
    user.until("compare-status", "done")
    assert user.players("compare-clips") == pytest.approx([2, 2], abs=0.1)
    said = user.until("compare-clips", "steps 4, seed 0")
    assert "A: assets/puppets_few, steps 1, seed 0" in said and said.count("Play in step") == 1
    user.picture("compare")


@pytest.mark.slow
def test_the_first_choice_is_of_two_checkpoints(user: User) -> None:
    user.open("Compare")
    assert (user.value("A: checkpoint"), user.value("B: checkpoint")) == ("assets/puppets_few", "assets/puppets")


@pytest.mark.slow
def test_a_comparison_is_cancelled(user: User) -> None:
    user.open("Compare")
    user.fill("A: steps", "5000")
    user.click("compare")
    user.until("compare-status", "seed 0: step")
    user.click("compare-cancel")
    user.until("compare-status", "cancelled")
