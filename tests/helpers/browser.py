"""Pages in headless Chromium; tests of them are skipped, by name, where there is none."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium() -> str:
    """Return the browser's program, or skip."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium: install Debian's chromium")
    return found


def in_browser(page: Path, script: str, folder: Path) -> Any:
    """Open a copy of the page, run the body of a function in it, and return what that returns, by JSON."""
    after = f"""<script>window.addEventListener("load", () => {{
      const found = JSON.stringify((() => {{ {script} }})());
      document.body.innerHTML = ""; document.body.append(Object.assign(document.createElement("pre"),
        {{id: "found", textContent: found}}));
    }});</script>"""
    copy = folder / "copy.html"
    copy.write_text(page.read_text() + after)
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    words += ["--virtual-time-budget=5000", copy.as_uri()]
    done = subprocess.run([chromium(), *words], capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    return json.loads(html.unescape(found[1]))
