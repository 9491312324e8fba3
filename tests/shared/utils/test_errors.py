"""What the user did wrong is told in one line; what we did wrong keeps its traceback."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared.utils.errors import UserError, exit_for_failed_clips, run_main

ROOT = Path(__file__).parents[3]


def test_a_user_error_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UserError("clips.jsonl: line 3:\n  not JSON")

    with pytest.raises(SystemExit) as stop:
        run_main(main)
    assert stop.value.code == 2 and capsys.readouterr().err == "error: clips.jsonl: line 3: not JSON\n"


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), KeyError("x"), TypeError("'NoneType' object")])
def test_any_other_error_is_not_caught(error: Exception) -> None:
    def main() -> None:
        raise error

    with pytest.raises(type(error)):
        run_main(main)


FULL = os.strerror(errno.ENOSPC)
REFUSALS = {
    f"/a/clip.mp4: {FULL}; make room, and run the same command again": OSError(
        errno.ENOSPC, FULL, "/a/.clip.mp4.7.8.part/clip.mp4"
    ),
    f"{FULL}; make room": RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 128 vs 22"),
    f"{FULL}; make": Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    "/a: Too many open files; raise the limit on open files (ulimit -n)": OSError(
        errno.EMFILE, "Too many open files", "/a"
    ),
    "Too many open files; raise": ImportError("libfoo.so: cannot open shared object file: Too many open files"),
    "/a: Read-only file system; give a place": OSError(errno.EROFS, "Read-only file system", "/a"),
    "/a: Is a directory; a folder is in the place of a file": IsADirectoryError(errno.EISDIR, "Is a directory", "/a"),
    "/a/b: Not a directory; a file is in the place": NotADirectoryError(errno.ENOTDIR, "Not a directory", b"/a/b"),
    "not a local folder and not a model identifier": OSError("not a local folder\nand not a model identifier"),
    "not enough memory (MemoryError); free some": MemoryError(),
    "not enough memory (CUDA out of memory": type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"),
    "not enough memory ([enforce": RuntimeError("[enforce fail at alloc_cpu.cpp:117] can't allocate memory: you tried"),
    "too deeply nested (maximum": RecursionError("maximum recursion depth exceeded"),
    "stdout: what was printed could not be written (Broken pipe)": BrokenPipeError(errno.EPIPE, "Broken pipe"),
    "another process of this run has ended": RuntimeError("[gloo/pair.cc:534] Connection closed by peer [127.0.0.1]:9"),
}


@pytest.mark.parametrize("line", REFUSALS)
def test_what_the_system_refuses_is_one_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise REFUSALS[line]

    with pytest.raises(SystemExit) as stop:
        run_main(main)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.startswith(f"error: {line}") and said.count("\n") == 1


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_ends_a_program_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    number, before = getattr(signal, name), signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: signal.raise_signal(number))
    assert stop.value.code == 128 + number and capsys.readouterr().err == f"stopped by {name}\n"
    assert signal.getsignal(signal.SIGTERM) is before


PRINTS = "from shared.utils.errors import run_main; run_main(lambda: [print('x' * 99) for _ in range(9999)])"


@pytest.mark.parametrize(("to", "said"), [("| head -1", "its reader has ended"), ("> /dev/full", "No space left")])
def test_stdout_that_takes_nothing_is_one_line(to: str, said: str) -> None:
    command = f"{shlex.join([sys.executable, '-c', PRINTS])} {to}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


REFUSES = """
import sys
from shared.utils.errors import UserError, run_main
def main():
    print("made")
    if len(sys.argv) > 1:
        raise UserError("no")
run_main(main)
"""


@pytest.mark.parametrize(("words", "code", "said"), [(["x"], 2, "error: no\n"), ([], 0, "")])
def test_a_program_that_was_started_without_stdout_ends_as_with_it(words: list[str], code: int, said: str) -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", REFUSES, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (code, said)


def test_a_torchaudio_that_wants_cuda_is_told_with_its_cure(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise OSError("libtorchaudio.so: undefined symbol")

    with pytest.raises(SystemExit):
        run_main(main)
    assert "python -m shared.utils.environment" in capsys.readouterr().err


def test_clips_that_failed_are_told_and_end_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    exit_for_failed_clips([], 3, "manifest is")
    with pytest.raises(SystemExit) as stop:
        exit_for_failed_clips([("a", "no sound"), ("b", "too short")], 3, "manifest is")
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 1 and lines[:2] == ["failed: clip 'a': no sound", "failed: clip 'b': too short"]
    assert lines[2:] == ["2 of 3 clips failed; the manifest is without them"]
