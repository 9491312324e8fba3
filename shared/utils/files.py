"""Files: written in one go, read with one clear error, and blocks of a document renewed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.utils.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what shall stand at `path`: it goes there when the block ends, and nowhere if the block fails."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace the file at `path` in one go: a reader sees the old text or the new one."""
    with replacing(path) as part, open(part, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Indented, a list of numbers on one line. ValueError for a number that is not finite."""
    text = json.dumps(content, indent=1, allow_nan=False)
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda numbers: " ".join(numbers[0].split()), text)
    write_atomically(path, text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds. UserError if the file is missing or holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); copy it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no JSON object; copy it again")
    return content


def writable_folder(option: str, folder: Path) -> None:
    """Make the folder that `option` names. UserError where that cannot be, or where nothing can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{option} {folder}: {error.strerror}; give a folder that can be written to") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{option} {folder}: cannot be written to; give another folder")


def replaced(text: str, name: str, block: str, file: Path) -> str:
    """`text` with `block` between its marks <!-- NAME:begin --> and <!-- NAME:end -->; `file` is whose text it is."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    before, mark, rest = text.partition(begin)
    _, closing, after = rest.partition(end)
    if not mark or not closing:
        raise UserError(f"{file}: has no marks {begin.strip()} and {end}; they enclose the tables of {name}")
    return before + begin + block + end + after
