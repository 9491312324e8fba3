"""fsspec's store in memory, memory://, that loses connections when asked to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from shared.utils import object_store


class Store:
    """`drops`: how many of the next requests lose their connection, downloads in the middle; `asked`: all so far."""

    def __init__(self) -> None:
        self.drops = self.asked = 0
        self.files = fsspec.filesystem("memory")
        self.files.store.clear()
        self.files.pseudo_dirs[:] = [""]

    def request(self) -> None:
        self.asked += 1
        if self.drops:
            self.drops -= 1
            raise ConnectionResetError("peer went away")


def flaky_store(monkeypatch: pytest.MonkeyPatch, kept: Path) -> Store:
    """An empty store; what is read from it is kept in the folder `kept`, and retries are quick."""
    store, cat_file, get_file = Store(), MemoryFileSystem.cat_file, MemoryFileSystem.get_file

    def flaky_cat(self: Any, path: str, *given: Any, **more: Any) -> Any:
        store.request()
        return cat_file(self, path, *given, **more)

    def flaky_get(self: Any, remote: str, local: str, *given: Any, **more: Any) -> None:
        Path(local).write_bytes(b"01")
        store.request()
        get_file(self, remote, local, *given, **more)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", flaky_cat)
    monkeypatch.setattr(MemoryFileSystem, "get_file", flaky_get)
    monkeypatch.setattr(object_store, "WAITS", (0.01, 0.02))
    monkeypatch.setenv("CCL_CACHE", str(kept))
    return store
