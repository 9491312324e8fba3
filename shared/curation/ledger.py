"""The ledger: an append-only file of what every stage found, from which a run that was killed goes on.

A line is JSON and is on the disk before the next stage of its clip begins. In memory there is an offset per line, never
its content.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shared.utils.errors import UserError
from shared.utils.files import sync

LEDGER_NAME = "ledger.jsonl"


class Ledger:
    """Findings by the key of a record and the stage, each with the digest of all that decides what the stage finds. The
    last line counts: files that a stage writes are of that digest, and of no earlier one. One process writes."""

    def __init__(self, file: Path) -> None:
        """Open a ledger, or begin one. A last line that was not written to its end is taken away. UserError for a
        damaged line before it."""
        self.file = file
        is_new = not file.exists()
        self._content = open(file, "a+b")  # closed by `close`  # noqa: SIM115
        if is_new:
            sync(file.parent)
        self._offsets: dict[bytes, int] = {}
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._content.close()

    def __len__(self) -> int:
        return len(self._offsets)

    def get(self, key: str, stage: str, digest: str) -> dict[str, Any] | None:
        """Read the last line of a record's stage, or None if there is none, or one of another digest."""
        offset = self._offsets.get(_place(key, stage))
        if offset is None:
            return None
        self._content.seek(offset)
        line: dict[str, Any] = json.loads(self._content.readline())
        return line if line["digest"] == digest else None

    def void(self, key: str, stage: str) -> None:
        """Let nothing that was found before count: files of it are about to be written anew."""
        if _place(key, stage) in self._offsets:
            self.append(key, stage, "")

    def append(self, key: str, stage: str, digest: str, **content: Any) -> None:
        """Write a line; it is on the disk when this returns. ValueError for a number that is not finite."""
        line = {"key": key, "stage": stage, "digest": digest} | content
        text = json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        offset = self._content.seek(0, os.SEEK_END)
        self._content.write(text)
        self._content.flush()
        os.fsync(self._content.fileno())
        self._offsets[_place(key, stage)] = offset

    def _read(self) -> None:
        whole = 0
        for number, (offset, line) in enumerate(self._lines(), start=1):
            if not line.endswith(b"\n"):
                break
            try:
                content = json.loads(line)
                place, _ = _place(content["key"], content["stage"]), content["digest"]
            except (ValueError, KeyError, TypeError):
                if self._content.read(1):
                    told = "is damaged before its end; remove that line, and what it says is made again"
                    raise UserError(f"{self.file}:{number}: {told}") from None
                break
            self._offsets[place] = offset
            whole = offset + len(line)
        self._content.truncate(whole)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        self._content.seek(0)
        offset = 0
        while line := self._content.readline():
            yield offset, line
            offset += len(line)


def _place(key: str, stage: str) -> bytes:
    return hashlib.blake2b(f"{key}\x1f{stage}".encode(), digest_size=16).digest()
