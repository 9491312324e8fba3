"""The page of scripts/app.py, served in this process, and users of it in headless Chromium."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from PIL import Image

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "assets" / "puppets"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
    "--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)  # fmt: skip
WAIT = 180_000  # ms until something has to be there; other tests share the cores


def need() -> None:
    """Skip, by name, where there is no gradio, playwright or Chromium."""
    for name in ("gradio", "uvicorn", "playwright"):
        pytest.importorskip(name, reason=f"no {name}: install the extra app")
    chromium()


@contextmanager
def serving(folder: Path, checkpoints: list[Path] | None = None) -> Iterator[str]:
    """Serve the page while this lasts; gives its address."""
    import uvicorn

    from ccl.app.desk import Desk
    from ccl.app.options import AppOptions
    from ccl.app.page import application, listen
    from ccl.app.shelf import Shelf

    given = {} if checkpoints is None else {"checkpoint": checkpoints}
    desk = Desk(Shelf(AppOptions(device="cpu", **given)), folder / "made")
    server = uvicorn.Server(uvicorn.Config(application(desk), log_level="warning", timeout_graceful_shutdown=1))
    with listen("127.0.0.1", 0) as taken:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server has ended"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"
        server.should_exit = True
        thread.join(20)
        desk.close()


class User:
    """A user with the page open; remembers what the browser asked for, and what it complained of."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.set_default_timeout(WAIT)
        page.goto(address)
        page.get_by_role("tab", name="Look", exact=True).wait_for()

    def open(self, tab: str) -> None:
        """Go to a tab."""
        self.page.get_by_role("tab", name=tab, exact=True).click()

    def fill(self, label: str, value: str) -> None:
        """Write into the field of this label that can be seen."""
        self.page.get_by_label(label, exact=True).locator("visible=true").first.fill(value)

    def choose(self, label: str, value: str) -> None:
        """Take one of the choices of the field of this label that can be seen."""
        self.page.get_by_label(label, exact=True).locator("visible=true").first.click()
        self.page.get_by_role("option", name=value, exact=True).locator("visible=true").first.click()

    def value(self, label: str) -> str:
        """What stands in the field of this label that can be seen."""
        return str(self.page.get_by_label(label, exact=True).locator("visible=true").first.input_value())

    def unfold(self, title: str) -> None:
        """Open an accordion that can be seen."""
        self.page.get_by_role("button", name=title).locator("visible=true").first.click()

    def give(self, field: str, file: Path) -> None:
        """Load a file into a field, and wait until it is there; again where the field did not listen yet."""
        from playwright.sync_api import TimeoutError as Late

        for last in (False, False, True):
            try:
                with self.page.expect_response(lambda answer: "/upload?" in answer.url, timeout=WAIT / 6):
                    self.page.locator(f"#{field} input[type=file]").first.set_input_files(file)
                break
            except Late:
                if last:
                    raise
        there = ", ".join(f'#{field} button[aria-label^="{name}"]' for name in ("Remove", "Clear"))
        self.page.locator(there).first.wait_for()

    def click(self, button: str) -> None:
        """Press a button."""
        self.page.locator(f"#{button}").click()

    def until(self, where: str, text: str) -> str:
        """Wait until an element holds a text, and give all that it holds."""
        self.page.locator(f"#{where}").filter(has_text=text).first.wait_for()
        return str(self.page.locator(f"#{where}").first.inner_text())

    def count(self, what: str, number: int) -> None:
        """Wait until there are so many of what a selector finds."""
        self.page.wait_for_function(f"document.querySelectorAll({what!r}).length === {number}")

    def players(self, where: str) -> list[float]:
        """Wait until all players in an element can play, and give how long they last."""
        ready = f"[...document.querySelectorAll('#{where} video, #{where} audio')]"
        self.page.wait_for_function(f"{ready}.length && {ready}.every((one) => one.readyState > 0)")
        return list(self.page.evaluate(f"{ready}.map((one) => one.duration)"))

    def strangers(self) -> list[str]:
        """Addresses that the browser asked for and that are not the page's own."""
        own = (self.address, "data:", "blob:")
        return [url for url in self.asked if not url.startswith(own)]

    def picture(self, name: str) -> None:
        """Write a screenshot into the folder that CCL_SCREENSHOTS names, as the documentation has them."""
        if folder := os.environ.get("CCL_SCREENSHOTS"):
            shot = Image.open(io.BytesIO(self.page.screenshot(full_page=True)))
            shot.save(Path(folder) / f"app_{name}.webp", quality=60, method=6)


@contextmanager
def browser() -> Iterator[Any]:
    """Run Chromium while this lasts."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        try:
            yield program
        finally:
            program.close()


def new_user(program: Any, address: str) -> User:
    """Open the page with a profile of its own."""
    context = program.new_context(viewport={"width": 1280, "height": 900}, permissions=["microphone"])
    return User(context.new_page(), address)
