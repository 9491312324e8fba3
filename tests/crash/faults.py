"""Faults at a write: the process is killed, gets SIGTERM, or finds the disk full, at the n-th write below a folder.

A write is what changes a folder as another process sees it: a file opened for writing, a rename, a removal, or the end
of a file that a library wrote by itself (the wait for the disk before its rename, `torch.save`, safetensors).
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

Fault = Literal["kill", "term", "full", ""]
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
KINDS = ("state", "shard", "mp4", "checkpoint", "other")


def kind_of(path: str) -> str:
    """What is written: a state, a shard, an mp4, a checkpoint, or a file beside them."""
    parts = Path(path).parts
    if "state" in parts:
        return "state"
    if "latents" in parts:
        return "shard"
    if "samples" in parts:
        return "mp4"
    return "checkpoint" if any("checkpoint" in part for part in parts) else "other"


class Faults:
    """Watches the writes below `folder`; `fault` comes at write `at` (from 0), and a full disk stays full."""

    def __init__(self, folder: Path, fault: Fault = "", at: int = -1) -> None:
        self.folder, self.fault, self.at = f"{folder}/", fault, at
        self.writes: list[tuple[str, str]] = []  # kind, what
        self._inside = False

    def install(self) -> None:
        """From here on, in this process, for good."""
        sys.addaudithook(self._audit)
        self._wrap(os, "fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"), OSError)
        torch, safetensors = sys.modules["torch"], sys.modules["safetensors.torch"]
        self._wrap(torch, "save", lambda content, file, *_, **__: os.fspath(file), RuntimeError)
        self._wrap(safetensors, "save_file", lambda content, file, *_, **__: os.fspath(file), OSError)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._inside:
            return
        if event == "open" and isinstance(arguments[0], str | bytes) and (arguments[2] or 0) & WRITES:
            self._write(os.fsdecode(arguments[0]), "open")
        elif event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") and isinstance(arguments[0], str | Path):
            self._write(os.fspath(arguments[0]), event)

    def _wrap(self, module: Any, name: str, path_of: Callable[..., str], error: type[Exception]) -> None:
        original = getattr(module, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            path, before = path_of(*arguments, **options), self._inside
            self._inside = True
            try:
                result = original(*arguments, **options)
            finally:
                self._inside = before
            self._write(path, name, error)
            return result

        setattr(module, name, wrapped)

    def _write(self, path: str, what: str, error: type[Exception] = OSError) -> None:
        if not os.path.abspath(path).startswith(self.folder):
            return
        self.writes.append((kind_of(path), f"{what} {path.removeprefix(self.folder)}"))
        number = len(self.writes) - 1
        if number == self.at and self.fault == "kill":
            self._inside = True
            if what in ("fsync", "save", "save_file") and os.path.isfile(path) and zlib.crc32(path.encode()) % 2:
                os.truncate(path, os.path.getsize(path) // 2)  # in the middle of it
            os.kill(os.getpid(), signal.SIGKILL)
        if number == self.at and self.fault == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        if number >= self.at >= 0 and self.fault == "full" and "remove" not in what and "rmdir" not in what:
            if error is RuntimeError:  # as torch tells of it
                raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 128 vs 22")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
