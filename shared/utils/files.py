"""Files and folders: written in one go, read with one clear error, and blocks of a document renewed."""

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.utils.errors import UserError
from shared.utils.text_files import parse_json, read_text


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what goes to `path` when the block ends, and nowhere if it fails; the last of several wins."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Make an empty folder that replaces `path` when the block ends; if it fails, `path` is as it was. One at a time.
    What a killed process leaves, `.NAME.partial` or `.NAME.old`, goes with the next success."""
    partial, old = (path.with_name(f".{path.name}.{state}") for state in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():  # otherwise a kill between the two renames left `old` as the only one
            shutil.rmtree(old, ignore_errors=True)
            os.replace(path, old)
        os.replace(partial, path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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


def read_json(path: Path, name: str = "", advice: str = "copy it again") -> dict[str, Any]:
    """Read the object in a JSON file. UserError, which calls it `name` (default: its path), if there is none."""
    name = name or str(path)
    try:
        path.stat()
    except (OSError, ValueError) as error:
        raise UserError(f"{name} cannot be read ({getattr(error, 'strerror', error)}); {advice}") from None
    try:
        content = parse_json(read_text(path, name), name)
    except UserError as error:
        raise UserError(f"{name} is damaged ({str(error).removeprefix(name).lstrip(': ')}); {advice}") from None
    if not isinstance(content, dict):
        raise UserError(f"{name} holds no JSON object; {advice}")
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
