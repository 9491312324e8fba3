"""Files and folders: written in one go, read with one clear error, and blocks of a document renewed."""

import errno
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from shared.utils.errors import UserError, system_refusal
from shared.utils.locks import is_lock, locked, remove_left_over, workplace
from shared.utils.portable import settle
from shared.utils.text_files import LARGEST, MOST, parse_json, read_text

_swept: set[Path] = set()  # folders in which this process has looked for leftovers
_PART = re.compile(r"\..+\.\d+\.\d+\.part")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what goes to `path` when the block ends, and nowhere if it fails; the last of several wins. Both
    file and folder are on the disk then. What killed processes left half-written in the folder is removed."""
    sweep(path.parent)
    folder = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    with workplace(folder) as mode:
        part = folder / path.name
        part.unlink(missing_ok=True)  # of a killed process with this number
        yield part
        part.chmod(mode)  # safetensors keeps its files to their owner
        sync(part)
        os.replace(part, path)
        sync(path.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Make an empty folder that replaces `path` when the block ends; if it fails, `path` is as it was. One at a time,
    else UserError. What a killed process leaves, `.NAME.partial` or `.NAME.old`, goes with the next success."""
    partial, old = (path.with_name(f".{path.name}.{state}") for state in ("partial", "old"))
    with locked(path.with_name(f".{path.name}.lock"), f"writes {path.name}", "let it end first"):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            settle(partial)
            sync_tree(partial)
            if path.exists():  # otherwise a kill between the two renames left `old` as the only one
                shutil.rmtree(old, ignore_errors=True)
                os.replace(path, old)
            os.replace(partial, path)
            sync(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove, once in this process, what killed processes left half-written in `folder`; what is in use stays."""
    if folder in _swept or not folder.is_dir():
        return
    _swept.add(folder)
    for path in (*folder.glob(".*.part"), *folder.glob(".*.lock")):
        if is_lock(path) if path.suffix == ".lock" else _PART.fullmatch(path.name):
            remove_left_over(path)


def sync_tree(folder: Path) -> None:
    """Wait until a folder and all below it is on the disk."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk: a rename that follows cannot come before it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():  # some cannot for folders
            raise
    finally:
        os.close(descriptor)


def write_atomically(path: Path, text: str) -> None:
    """Replace the file at `path` in one go: a reader sees the old text or the new one."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Indented, a list of numbers on one line. ValueError for a number that is not finite."""
    text = json.dumps(content, indent=1, allow_nan=False)
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda numbers: " ".join(numbers[0].split()), text)
    write_atomically(path, text + "\n")


def read_json(
    path: Path, name: str = "", advice: str = "copy it again", size: int = LARGEST, values: int = MOST
) -> dict[str, Any]:
    """Read the object in a JSON file, of at most `size` bytes and so many `values`. UserError, which calls it `name`
    (default: its path), if there is none."""
    name = name or str(path)
    try:
        path.stat()
    except (OSError, ValueError) as error:
        raise UserError(f"{name} cannot be read ({getattr(error, 'strerror', error)}); {advice}") from None
    try:
        content = parse_json(read_text(path, name, size), name, most=values)
    except UserError as error:
        raise UserError(f"{name} is damaged ({str(error).removeprefix(name).lstrip(': ')}); {advice}") from None
    if not isinstance(content, dict):
        raise UserError(f"{name} holds no JSON object; {advice}")
    return content


def check_place(name: str, path: Path, kind: Literal["file", "folder"]) -> None:
    """Raise UserError unless what `name` says can be written: a file or folder `path`, of which folders may be missing.
    It is tried, in the nearest folder that is there: permission, a full disk, a file in the place of a folder."""
    try:
        if kind == "file" and path.is_dir():
            raise UserError(f"{name} {path}: is a folder; give the name of a file")
        if kind == "folder" and path.exists() and not path.is_dir():
            raise UserError(f"{name} {path}: is a file; give a folder")
        there = (path.absolute(), *path.absolute().parents)[kind == "file" :]
        folder = next(parent for parent in there if parent.exists())
        if not folder.is_dir():
            raise UserError(f"{name} {path}: {folder} is no folder that can be written to")
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{name} {path}: cannot be written there ({system_refusal(error, name_file=False)})") from None


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
