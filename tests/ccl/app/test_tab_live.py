"""The tab Live in a browser, whose microphone beeps: the puppet moves, and its delay is told."""

from __future__ import annotations

import re

import pytest
from app_page import User


@pytest.mark.slow
def test_a_puppet_speaks_along_with_the_microphone(user: User) -> None:
    user.open("Live")
    user.page.locator("#live-microphone").get_by_role("button", name="Record").first.click()
    told = user.until("live-status", "behind the voice")
    assert re.search(r"[124] steps take \d+% of the time", told)
    image = user.page.locator("#live-view img")
    image.wait_for()
    assert image.evaluate("one => one.naturalWidth") == 64
    first = image.get_attribute("src")
    user.page.wait_for_function(f"document.querySelector('#live-view img').src !== {first!r}")
    user.picture("live")
