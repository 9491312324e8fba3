"""The whole page in a browser: two users at once, and what is left of one who goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from app_page import User, new_user


@pytest.mark.slow
def test_two_users_wait_for_each_other_and_do_not_see_each_others_clips(user: User, chrome: Any, address: str) -> None:
    other = new_user(chrome, address)
    for one, steps in ((user, "60"), (other, "1")):
        one.unfold("Settings")
        one.fill("Steps", steps)
        one.fill("Clips", "1")
    user.click("make")
    user.until("make-status", "step")
    other.click("make")
    other.until("make-status", "waiting: 1 job before yours")
    user.click("make-cancel")
    user.until("make-status", "cancelled")
    other.until("make-status", "done")
    assert len(other.players("make-clips")) == 1 and user.page.locator("#make-clips video").count() == 0
    user.open("Look")
    assert user.value("Clip, of those made here") == "the one that is loaded"
    other.open("Look")
    other.page.wait_for_function("document.querySelector('#look-clip input').value.includes('seed 0')")
    source = str(other.page.evaluate("document.querySelector('#make-clips video').src"))
    file = Path(source.partition("file=")[2])
    assert file.exists()
    other.page.context.close()
    for _ in range(600):
        user.page.wait_for_timeout(100)
        if not file.exists():
            break
    assert not file.exists()  # the clips go with the page
