"""app.py: it prints its address, serves the page to this machine, and ends with Ctrl-C in one line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import app
import pytest

from ccl.app.page import listen
from shared.utils.errors import UserError

ROOT = Path(__file__).parents[2]


def test_a_port_that_is_taken_is_refused() -> None:
    pytest.importorskip("gradio", reason="no gradio: install the extra app")
    with listen("127.0.0.1", 0) as taken, pytest.raises(UserError, match="Address already in use; give another"):
        app.main(["--port", str(taken.getsockname()[1]), "--device", "cpu"])


@pytest.mark.slow
def test_it_serves_until_it_is_stopped() -> None:
    pytest.importorskip("gradio", reason="no gradio: install the extra app")
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "scripts" / "app.py"), "--port", str(port), "--device", "cpu"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert running.stdout is not None
        address = running.stdout.readline().strip()
        assert re.fullmatch(rf"http://127\.0\.0\.1:{port}", address), running.stderr and running.stderr.read()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(address, timeout=60) as answer:
            assert answer.status == 200 and b"playTogether" in answer.read()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130 and said.strip().splitlines()[-1] == "stopped by SIGINT"
    assert "Traceback" not in said
