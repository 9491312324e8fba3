"""The shipped checkpoint on a shelf, files that a user might give, and the page in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_page import User, browser, need, new_user, serving
from PIL import Image

from ccl.app.options import AppOptions
from ccl.app.shelf import Shelf
from shared.data.media_write import write_audio, write_video

RATE = 16000


@pytest.fixture(scope="session")
def shelf() -> Shelf:
    return Shelf(AppOptions(device="cpu"))


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A voice of 3 s, a beat, a shorter piano, a face, a film, and files that are none."""
    folder = tmp_path_factory.mktemp("media")
    time = np.arange(3 * RATE) / RATE
    loud = np.sin(2 * np.pi * 2 * time) > 0
    write_audio(folder / "voice.wav", (0.3 * loud * np.sin(2 * np.pi * 3000 * time)).astype(np.float32)[None], RATE)
    write_audio(folder / "beat.wav", (0.3 * np.exp(-20 * (time % 0.5)) * loud).astype(np.float32)[None], RATE)
    write_audio(folder / "piano.wav", (0.2 * np.sin(2 * np.pi * 220 * time[:RATE])).astype(np.float32)[None], RATE)
    Image.new("RGB", (64, 64), (200, 90, 20)).save(folder / "face.png")
    frames = np.broadcast_to(np.uint8(90), (33, 64, 64, 3)).copy()
    frames[8:12] = 200
    write_video(folder / "film.mp4", frames, 16, (0.3 * np.sin(2000 * time[: 2 * RATE])).astype(np.float32)[None], RATE)
    for name in ("bad.wav", "bad.png", "bad.mp4"):
        (folder / name).write_text("none of these")
    return folder


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page, served in this process."""
    need()
    with serving(tmp_path_factory.mktemp("page")) as address:
        yield address


@pytest.fixture(scope="session")
def chrome(address: str) -> Iterator[Any]:
    with browser() as program:
        yield program


@pytest.fixture
def user(chrome: Any, address: str) -> Iterator[User]:
    """Somebody who has opened the page; it neither complained nor asked anybody else for anything."""
    user = new_user(chrome, address)
    yield user
    user.page.context.close()
    assert user.complaints == [] and user.strangers() == []
