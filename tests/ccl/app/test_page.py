"""Serving: the port, what a browser is allowed to load, and what is said where a package is missing."""

from __future__ import annotations

import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from ccl.app.options import AppOptions
from ccl.app.page import listen, serve
from shared.utils.errors import UserError


def test_a_port_that_is_taken_is_told() -> None:
    with listen("127.0.0.1", 0) as taken:
        assert taken.getsockname()[0] == "127.0.0.1"
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"--host 127\.0\.0\.1 --port {port}: Address already in use; give another"
        ):
            listen("127.0.0.1", port)
    with pytest.raises(UserError, match="--host nowhere"):
        listen("nowhere.invalid", 7860)


def test_a_package_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"the page needs the package gradio, which is not installed; run pip install"):
        serve(AppOptions())


def test_nothing_but_the_page_itself_may_be_loaded(address: str, tmp_path: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address) as answer:
        policy, text = answer.headers["Content-Security-Policy"], answer.read().decode()
    assert policy.startswith("default-src 'self' data: blob:; ") and "playTogether" in text
    (tmp_path / "secret.txt").write_text("secret")
    for path in (
        f"gradio_api/file={tmp_path / 'secret.txt'}",
        "gradio_api/file=README.md",
        "gradio_api/file=/etc/passwd",
    ):
        with pytest.raises(urllib.error.HTTPError):
            opener.open(address + path)


def test_only_this_machine_is_asked_by_default() -> None:
    with listen(AppOptions().host, 0) as taken, pytest.raises(OSError):
        address = (socket.gethostbyname(socket.gethostname()), taken.getsockname()[1])
        if address[0].startswith("127."):
            pytest.skip("this machine has no address but the loopback's")
        socket.create_connection(address, timeout=2)
