"""The desk: users have folders and jobs of their own, and nothing of them is left when they go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccl.app.desk import Desk, Work
from ccl.app.jobs import Job
from ccl.app.players import MadeClip
from shared.utils.errors import UserError


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(None, tmp_path / "made")  # type: ignore[arg-type]  # no model is asked for
    yield desk
    desk.close()


def endless(begun: threading.Event) -> Work:
    def work(job: Job) -> None:
        begun.set()
        while True:
            job.check()
            begun.wait(0.01)

    return work


def test_what_is_wrong_is_told_without_a_job(desk: Desk) -> None:
    def prepare() -> Work:
        raise UserError("voice.wav: no such file")

    session = desk.session("one")
    assert [(one.state, one.line) for one in desk.follow(session, "make", prepare)] == [
        ("failed", "voice.wav: no such file")
    ]
    assert not session.jobs


def test_a_user_cancels_his_own_job(desk: Desk) -> None:
    begun = threading.Event()
    one, other = desk.session("one"), desk.session("other")
    followed = desk.follow(one, "make", lambda: endless(begun))
    next(followed)
    assert begun.wait(10)
    waiting = desk.follow(other, "make", lambda: lambda job: job.show("mine"))
    assert next(waiting).line in ("waiting", "waiting: 1 job before yours")
    desk.cancel(other, "drive")  # has no job
    desk.cancel(one, "make")
    assert list(followed)[-1].state == "cancelled" and list(waiting)[-1].results == ("mine",)


def test_a_page_that_is_closed_leaves_nothing(desk: Desk) -> None:
    begun, session = threading.Event(), desk.session("one")
    assert session is desk.session("one") is not desk.session("other")
    folder = session.new_folder("make")
    (folder / "clip.mp4").write_text("x")
    session.remember(MadeClip(folder / "clip.mp4", "seed 0"), "a bell")
    assert session.clips == {"make_1: seed 0": (folder / "clip.mp4", "a bell")}
    followed = desk.follow(session, "make", lambda: endless(begun))
    next(followed)
    assert begun.wait(10)
    desk.leave("one")
    assert list(followed)[-1].state == "cancelled" and not session.folder.exists()
    desk.leave("never came")


def test_a_browser_that_has_gone_cancels_its_job(desk: Desk) -> None:
    begun = threading.Event()
    followed = desk.follow(desk.session("one"), "make", lambda: endless(begun))
    next(followed)
    followed.close()  # type: ignore[attr-defined]
    assert list(desk.session("one").jobs["make"].updates())[-1].state == "cancelled"
