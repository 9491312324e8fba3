"""Locks end with their process, are told with who holds them, and are waited for where that is asked."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from shared.utils import locks
from shared.utils.errors import UserError
from shared.utils.locks import locked

ROOT = Path(__file__).parents[3]
HOLDS = """
import os, sys, time
from pathlib import Path
from shared.utils.locks import locked
with locked(Path("out/.lock"), "works"):
    child = os.fork() if len(sys.argv) > 1 else 0  # a process of a pool, which outlives the one that holds the lock
    if child == 0:  # it speaks last: it has forgotten the lock by then
        print("held", flush=True)
    time.sleep(30)
    os._exit(0)
"""


def other(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Another process, which holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, *words], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    return process


@pytest.mark.parametrize("words", [(), ("fork",)])
def test_a_lock_ends_with_its_process_though_that_has_forked(tmp_path: Path, words: tuple[str, ...]) -> None:
    holder = other(tmp_path, *words)
    try:
        told = pytest.raises(UserError, match=f"out: process {holder.pid} on .* works; stop it")
        with told, locked(tmp_path / "out/.lock", "works", "stop it"):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with locked(tmp_path / "out/.lock", "works"):
            assert (tmp_path / "out/.lock").read_text().startswith(f"process {os.getpid()} on ")
        assert not (tmp_path / "out/.lock").exists()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(holder.pid, signal.SIGKILL)


def test_who_waits_is_told_and_gets_the_lock(tmp_path: Path) -> None:
    file, told = tmp_path / ".lock", []

    def later() -> None:
        with locked(file, "works", wait=told.append):
            told.append("got it")

    with locked(file, "works"):
        thread = threading.Thread(target=later)
        thread.start()
        while not told:
            time.sleep(0.01)
    thread.join()
    assert told[1:] == ["got it"] and told[0].startswith(f"process {os.getpid()} on ")


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    told = pytest.raises(UserError, match=r"out: its file system keeps no locks \(No locks available\), which keep two")
    with told, locked(tmp_path / "out/.lock", "works"):
        pass


def test_a_place_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = pytest.raises(UserError, match=r"file: cannot be made \(.*\); give another folder")
    with told, locked(tmp_path / "file/.lock", "works"):
        pass
