"""Sets of clips that are scored, one for each model, from folders or manifests, and which clips of two are a pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from shared.data.clip_files import TEXT_SUFFIX, VIDEO_SUFFIXES, composed
from shared.data.manifest import MANIFEST_NAME, Clip, read_manifest
from shared.utils.errors import UserError
from shared.utils.text_files import is_file, read_text, split_lines

SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")
LARGEST_TEXT = 2**20  # bytes
REFERENCE = "reference"
"""What the set of true clips is called."""


class ClipSet(NamedTuple):
    """What one model made: its name, where it lies, and its clips; a clip's text is its caption, "" for none."""

    name: str
    path: Path
    clips: list[Clip]


def read_sets(given: Sequence[Path]) -> list[ClipSet]:
    """Read DIR, MANIFEST or NAME=either, one for each model; the name is by default that of the folder. UserError for
    one without clips, and for two of one name."""
    sets: list[ClipSet] = []
    for word in given:
        name, path = _named(word)
        if name.startswith(".") or name in ("", REFERENCE):
            raise UserError(f"{word}: {name!r} cannot be the name of a set; give NAME={path}, with another name")
        if any(one.name == name for one in sets):
            raise UserError(f"{word}: a second set of clips called {name!r}; give NAME={path}, with another name")
        sets.append(ClipSet(name, path, read_clips(path)))
    return sets


def _named(word: Path) -> tuple[str, Path]:
    name, equals, path = str(word).partition("=")
    if equals and path and "/" not in name and not word.exists():
        return name, Path(path)
    folder = word.parent if word.name == MANIFEST_NAME else word
    return folder.resolve().name if folder.is_dir() else folder.stem, word


def read_clips(path: Path) -> list[Clip]:
    """Clips of a manifest, of the `manifest.jsonl` in a folder, or of a folder of X.mp4, with X.txt where a text is
    known; of a folder without any video, its sounds. UserError as `read_manifest`, and for a folder without clips."""
    if not path.is_dir() or is_file(path / MANIFEST_NAME):
        return read_manifest(path)
    files = sorted(file for file in path.absolute().iterdir() if not file.name.startswith(".") and file.is_file())
    texts = {composed(file.stem): file for file in files if file.suffix.lower() == TEXT_SUFFIX}
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    found = videos or [file for file in files if file.suffix.lower() in SOUND_SUFFIXES]
    if not found:
        raise UserError(f"{path}: no clip in it; a folder of videos or sounds, or a manifest, is needed")
    clips: dict[str, Clip] = {}
    for file in found:
        stem = composed(file.stem)
        if stem in clips:
            raise UserError(f"{file}: a second clip called {stem!r} in its folder; one file per name is needed")
        caption = _text(texts[stem]) if stem in texts else ""
        media = {"video": file} if videos else {"audio": file}
        clips[stem] = Clip.model_validate({"id": stem, "caption": caption, **media})
    return list(clips.values())


def _text(file: Path) -> str:
    lines = split_lines(read_text(file, most=LARGEST_TEXT).strip(), str(file))
    return lines[0].strip() if lines else ""


def keys(clips: Sequence[Clip], pairs_by: str) -> dict[str, str]:
    """Tell by what each clip is paired, {id: key}: its "name", or its "text". UserError for a text that two have."""
    if pairs_by == "name":
        return {clip.id: clip.id for clip in clips}
    texts: dict[str, str] = {}
    for clip in clips:
        if not clip.caption:
            raise UserError(f"--pairs-by text: clip {clip.id!r} has no text; pair by name, or give each its text")
        if clip.caption in texts:
            same = f"clips {texts[clip.caption]!r} and {clip.id!r} have one text"
            raise UserError(f"--pairs-by text: {same}; pair by name")
        texts[clip.caption] = clip.id
    return {name: text for text, name in texts.items()}
