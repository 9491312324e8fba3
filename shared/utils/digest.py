"""What decides a result, as one text: whoever goes on from kept work compares it with that of the beginning."""

import hashlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

EDGE = 1 << 16  # bytes at either end of a file that tell it from another one of its size


def settings_digest(options: Any, files: Iterable[Path], leave_out: Collection[str]) -> str:
    """Digest of a pydantic model but for the fields `leave_out`, and of files, whose ends stand for the whole, so that
    large weights need not be read twice."""
    digest = hashlib.sha256(options.model_dump_json(exclude={*leave_out}).encode())
    _add_files(digest, files)
    return digest.hexdigest()


def files_digest(files: Iterable[Path]) -> str:
    """Digest of files by their names, sizes and ends."""
    digest = hashlib.sha256()
    _add_files(digest, files)
    return digest.hexdigest()


def _add_files(digest: Any, files: Iterable[Path]) -> None:
    for file in files:
        size = file.stat().st_size
        with open(file, "rb") as content:
            digest.update(f"{file.name} {size}".encode() + content.read(EDGE))
            content.seek(max(0, size - EDGE))
            digest.update(content.read())
