"""Names of clips' files: which belong together in a folder, and names that are one but for their Unicode composition.

macOS may write an accented letter as two characters (NFD) where others write one (NFC); the names look the same.
"""

import logging
import os
import unicodedata
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".mkv", ".webm", ".m4v", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".flv", ".wmv",
    ".ogv",
)  # fmt: skip
TEXT_SUFFIX = ".txt"
_NAMED = 3  # files that a note names
_log = logging.getLogger(__name__)


class ClipFiles(NamedTuple):
    """Files of one name in a folder: one video and one text, unless something is wrong."""

    stem: str
    videos: list[Path]
    texts: list[Path]


def clip_files(folder: Path) -> list[ClipFiles]:
    """Group the videos in a folder with their texts, by name in any case of the ending and any Unicode composition.

    Hidden files are passed over. What is neither a video nor the text of one is named in a warning.
    """
    videos, texts = dict[str, list[Path]](), dict[str, list[Path]]()
    others = []
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        suffix = path.suffix.lower()
        if path.is_dir():
            continue
        if suffix in VIDEO_SUFFIXES or suffix == TEXT_SUFFIX:
            group = texts if suffix == TEXT_SUFFIX else videos
            group.setdefault(composed(path.stem), []).append(path)
        else:
            others.append(path)
    strays = [path for stem in texts.keys() - videos.keys() for path in texts[stem]]
    _tell(folder, tuple(path.name for path in sorted(strays)), "no video has their name")
    _tell(folder, tuple(path.name for path in others), "they are no clips")
    return [ClipFiles(paths[0].stem, paths, texts.get(stem, [])) for stem, paths in videos.items()]


def existing(path: Path) -> Path:
    """Find the file or folder at `path`, or the one whose name differs in Unicode composition only; else `path`."""
    if str(path).isascii() or os.path.exists(path):  # False for a name that no file can have
        return path
    found = Path(path.anchor or ".")
    for part in path.parts[1:] if path.anchor else path.parts:
        if not (found / part).exists() and found.is_dir():
            same = _names(found, found.stat().st_mtime_ns).get(composed(part), [])
            part = same[0] if len(same) == 1 else part
        found = found / part
    return found if found.exists() else path


def composed(name: str) -> str:
    """Write a name with as few characters as can be (NFC), to compare it with others."""
    return unicodedata.normalize("NFC", name)


@lru_cache(maxsize=64)
def _names(folder: Path, changed: int) -> dict[str, list[str]]:
    """Names in a folder that was last `changed` then, by their composed form."""
    names = dict[str, list[str]]()
    for name in os.listdir(folder):
        names.setdefault(composed(name), []).append(name)
    return names


@cache
def _tell(folder: Path, names: tuple[str, ...], why: str) -> None:
    """Say so once, though validation reads a folder again and again."""
    if names and os.environ.get("RANK", "0") == "0":  # every process of a run reads the folder
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        _log.warning("%s: left out: %s%s; %s", folder, ", ".join(names[:_NAMED]), more, why)
