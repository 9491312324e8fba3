"""What a clip is, and the manifest that lists clips: JSON lines, or a folder of X.mp4 with X.txt.

A line of `manifest.jsonl`, paths relative to the file itself:
    {"id": "7", "video": "clips/7.mp4", "caption": "A bell rings.", "tracks": {"effects": "stems/7.wav"}}
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shared.data.bad_clips import Problem, refuse
from shared.data.clip_files import ClipFiles, clip_files, existing
from shared.utils.errors import UserError
from shared.utils.files import read_json, write_atomically
from shared.utils.object_store import ObjectPath, Place, cache_folder, fetch_all, place
from shared.utils.ranges import Count
from shared.utils.text_files import is_file, parse_json, read_text, shortened, split_lines

MANIFEST_NAME = "manifest.jsonl"
LARGEST, LARGEST_CAPTION = 2**30, 2**20  # bytes of a manifest, and of an X.txt
_TRACK = re.compile(r"speech[1-9]?|effects|music")


class Clip(BaseModel):
    """One clip. `start` and `end` cut picture, sound and tracks alike, in seconds (docs/design.md section 8).

    Without `audio` the sound is the video's own; without `video` the clip serves sound-only tasks. An empty
    caption is allowed and trains the model without text; an `audio_caption` that is not given is the caption.
    `prompts` and `audio_prompts`: texts over time, each with the second from which it holds, counted from `start`. They
    train; a caption that is not given beside them is all of them in a row. `audio_prompts` that are not given are the
    prompts, unless there is an `audio_caption`.
    `transcript`: what is said, in a language of the code `language`; `words`: each with its first and last second,
    counted from `start`. Nothing trains by them; they go along.
    `audio_track`: which track of the sound's file, from 1; not given, the one that the file calls its default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    id: str = Field(min_length=1)
    video: Path | None = None
    audio: Path | None = None
    caption: str
    audio_caption: str = ""
    tracks: dict[str, Path] = {}
    speakers: list[str] = []
    subsets: list[str] = []
    start: float = Field(default=0.0, ge=0)
    end: float | None = None
    audio_track: Count | None = None
    truth: Path | None = None
    prompts: list[tuple[float, str]] = []
    audio_prompts: list[tuple[float, str]] = []
    transcript: str = ""
    language: str = ""
    words: list[tuple[float, float, str]] = []

    @field_validator("tracks")
    @classmethod
    def _known_tracks(cls, tracks: dict[str, Path]) -> dict[str, Path]:
        if unknown := [name for name in tracks if not _TRACK.fullmatch(name)]:
            raise ValueError(f"unknown {unknown}; tracks are speech or speech1, speech2 ..., effects, music")
        return tracks

    @field_validator("prompts", "audio_prompts")
    @classmethod
    def _in_order(cls, prompts: list[tuple[float, str]]) -> list[tuple[float, str]]:
        times = [seconds for seconds, _ in prompts]
        if prompts and times[0] != 0:
            raise ValueError(f"the first text begins at {times[0]:g} s; it must begin at 0")
        if late := next(((a, b) for a, b in pairwise(times) if b <= a), None):
            raise ValueError(f"a text at {late[1]:g} s follows one at {late[0]:g} s; times must increase")
        if empty := [f"{seconds:g}" for seconds, text in prompts if not text.strip()]:
            raise ValueError(f"the text at {empty[0]} s is empty; each needs words")
        return prompts

    @field_validator("words")
    @classmethod
    def _spoken_in_order(cls, words: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
        times = [0.0, *(start for start, _, _ in words)]
        for before, (start, end, text) in zip(times, words, strict=False):
            if not before <= start <= end:
                raise ValueError(f"{text!r} is spoken from {start:g} to {end:g} s; words begin in order and then end")
        return words

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, fields: object) -> object:
        if not isinstance(fields, dict):
            return fields
        given = {name: value for name, value in fields.items() if value is not None}
        for texts, caption in (("prompts", "caption"), ("audio_prompts", "audio_caption")):
            if given.get(texts) and caption not in given:
                given[caption] = in_a_row(given[texts])
        if "audio_caption" not in given:
            given = {"audio_prompts": given.get("prompts", [])} | given
        return {"audio": given.get("video"), "audio_caption": given.get("caption", "")} | given

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.audio is None:
            raise ValueError("neither video nor audio is given; at least one is needed")
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end {self.end} is not after start {self.start}")
        for name, prompts in (("prompts", self.prompts), ("audio_prompts", self.audio_prompts)):
            if prompts and self.end is not None and prompts[-1][0] >= self.end - self.start:
                last, ends = prompts[-1][0], self.end - self.start
                raise ValueError(f"{name}: a text begins at {last:g} s, the clip ends at {ends:g} s after its start")
        return self

    def files(self) -> dict[str, Path]:
        """Every file the clip names, by the name of its field."""
        named = {"video": self.video, "audio": self.audio, "truth": self.truth}
        return {name: path for name, path in (named | self.tracks).items() if path is not None}

    def resolved(self, folder: Path) -> Clip:
        """Copy of the clip, its relative paths taken from `folder`, each as the disk spells it."""
        paths = {name: existing(folder / path) for name, path in self.files().items()}
        tracks = {name: paths.pop(name) for name in self.tracks}
        return self.model_copy(update={**paths, "tracks": tracks})


def in_a_row(prompts: object) -> str:
    """All texts of `prompts` in one; empty where they are no pairs of seconds and text, which checking tells."""
    pairs = prompts if isinstance(prompts, list) else []
    texts = [pair[1] for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2]
    return " ".join(text.strip() for text in texts if isinstance(text, str))


def read_manifest(path: str | Place) -> list[Clip]:
    """Clips of a manifest, as `manifest_entries` reads it. Raises one UserError for all its problems too."""
    entries = manifest_entries(path)
    problems = [entry for entry in entries if isinstance(entry, Problem)]
    if len(problems) == 1:
        raise UserError(problems[0].message)
    refuse(problems, len(entries))
    return [entry for entry in entries if isinstance(entry, Clip)]


def manifest_entries(path: str | Place) -> list[Clip | Problem]:
    """Entries of a manifest file, of the `manifest.jsonl` in a folder, or of a folder of X.mp4 with X.txt.

    Paths come back resolved. X.txt holds the caption on its first line and, if there is a second, the audio caption
    there. A problem names the file, line, clip and reason: bad JSON, unknown or wrong fields, an id that occurs twice,
    a file that does not exist. Raises UserError if the manifest cannot be read or has no entry.
    """
    path = find_manifest(path)
    if path.is_dir():
        entries = list(_read_folder(path))
    else:
        seen, lines = dict[str, int](), split_lines(read_text(path, most=LARGEST), str(path))
        entries = [_entry(line, path, number, seen) for number, line in enumerate(lines, start=1) if line.strip()]
    if entries:
        return entries
    raise UserError(f"{path}: holds no clip; at least one line, or one X.mp4 with X.txt, is needed")


def find_manifest(path: str | Place) -> Path:
    """Path of the manifest at `path` or in that folder, or of the folder of clips. UserError if there is neither.
    What lies in an object store is brought here (`fetched_manifest`)."""
    path = place(path)
    if isinstance(path, ObjectPath):
        return fetched_manifest(path)
    if not is_file(path) and not path.is_dir():
        raise UserError(f"{path}: no such manifest; a .jsonl file or a folder of clips is needed")
    return path / MANIFEST_NAME if (path / MANIFEST_NAME).is_file() else path


def fetched_manifest(url: ObjectPath) -> Path:
    """Bring a manifest here with all files that it names, those that are not here yet; they lie below the folder of
    the manifest there, and of its copy here. UserError if there is none, or the store cannot be reached."""
    url = url if url.name.endswith(".jsonl") else url / MANIFEST_NAME
    folder = cache_folder() / hashlib.sha256(url.url.encode()).hexdigest()
    try:
        url.download(folder / MANIFEST_NAME)
    except FileNotFoundError:
        raise UserError(f"{url}: no such manifest; the URL of a .jsonl file, or of its folder, is needed") from None
    files = dict[Path, ObjectPath]()
    for line in split_lines(read_text(folder / MANIFEST_NAME, str(url), LARGEST), str(url)):
        with suppress(ValueError):  # what is wrong with a line, and which files are not there, its reader tells
            for path in Clip.model_validate(json.loads(line)).files().values():
                if not path.is_absolute() and ".." not in path.parts:
                    files[folder / path] = url.parent / path.as_posix()
    for error in fetch_all(files).values():
        if isinstance(error, UserError):
            raise error
    return folder / MANIFEST_NAME


def write_manifest(path: str | Path, clips: Iterable[Clip]) -> None:
    """Write clips as JSON lines with paths relative to the file. The file appears when it is complete."""
    path = Path(path)
    lines = [json.dumps(_record(clip, path.parent), ensure_ascii=False) + "\n" for clip in clips]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(lines))


def claim_folder(
    folder: Path, name: str, settings: Mapping[str, Any], what: str = "clips", index: str | None = MANIFEST_NAME
) -> None:
    """Make `folder` one that a program fills with `what`; its `settings` are kept there in the file `name`.

    An `index` that is there already is taken away: there is one only when all is done.
    Raises UserError if the folder holds anything else, or was made with other settings.
    """
    marker, wanted = folder / name, json.loads(json.dumps(settings))
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if not files:
            write_atomically(marker, json.dumps(settings))
        found = read_json(marker) if name in files else wanted
        changed = {key: found.get(key) for key in found | wanted if found.get(key) != wanted.get(key)}
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder}: cannot be used ({error}); give a folder that can be written") from error
    if files and name not in files:
        raise UserError(f"{folder}: holds other files; give a new or empty folder")
    if changed:
        raise UserError(f"{folder}: holds {what} of other settings, {json.dumps(changed)[:300]}; give a new folder")
    if index is not None:
        (folder / index).unlink(missing_ok=True)


def subset(clips: Sequence[Clip], include: Sequence[str] = (), exclude: Sequence[str] = ("conflict",)) -> list[Clip]:
    """Clips in one of the subsets `include` (none named: all) and in none of `exclude`. UserError if nothing is left.

    The default holds out the clips whose text and sound disagree on purpose: they measure, they never train.
    """
    wanted = [clip for clip in clips if not include or set(include) & set(clip.subsets)]
    chosen = [clip for clip in wanted if not set(exclude) & set(clip.subsets)]
    if not chosen:
        known = sorted({name for clip in clips for name in clip.subsets})
        wish = f"in {' or '.join(include)} " if include else ""
        rest = f"without {', '.join(exclude)}; " if exclude else ""
        raise UserError(f"no clip {wish}{rest}; the clips' subsets are {', '.join(known)}")
    return chosen


def _entry(line: str, path: Path, number: int, seen: dict[str, int]) -> Clip | Problem:
    """Clip of one line; `seen`: the lines of the ids so far."""
    place, record = f"{path}:{number}", None
    try:
        record = parse_json(line, str(path), number)
        clip = Clip.model_validate(record).resolved(path.absolute().parent)
    except ValidationError as error:
        first = error.errors()[0]
        name = record.get("id", "?") if isinstance(record, dict) else "?"
        field = ".".join(map(str, first["loc"]))
        reason = f"{field}: {first['msg']}".removeprefix(": ").replace("Value error, ", "")
        told, fields = shortened(reason, 300), ", ".join(Clip.model_fields)
        return Problem(shortened(name), f"{place}: clip {shortened(repr(name))}: {told}; the fields are {fields}")
    except UserError as error:
        return Problem(f"line {number}", f"{error}; one object per line is needed")
    name = shortened(repr(clip.id))
    if (earlier := seen.setdefault(clip.id, number)) != number:
        return Problem(clip.id, f"{place}: clip {name} is already on line {earlier}; ids must be unique")
    for field, file in clip.files().items():
        try:
            reason = "" if is_file(file) else f"{file} does not exist; paths are relative to the manifest"
        except UserError as error:
            reason = str(error)
        if reason:
            return Problem(clip.id, f"{place}: clip {name}: {field} file {reason}")
    return clip


def _read_folder(folder: Path) -> Iterator[Clip | Problem]:
    for files in clip_files(folder.absolute()):
        try:
            yield _captioned(files)
        except UserError as error:
            yield Problem(files.stem, str(error))


def _captioned(files: ClipFiles) -> Clip:
    video, stem = files.videos[0], files.stem
    for paths, what in ((files.videos, "video"), (files.texts, "text")):
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            told = f"clip {stem!r} is there with two endings, or in two compositions of its letters: {names}"
            raise UserError(f"{paths[0]}: {told}; one {what} per name is needed")
    if not files.texts:
        raise UserError(f"{video}: clip {stem!r} has no caption; a file {stem}.txt is needed beside it")
    text = files.texts[0]
    lines = [line.strip() for line in split_lines(read_text(text, most=LARGEST_CAPTION).strip(), str(text))] or [""]
    if len(lines) > 2:
        raise UserError(f"{text}: {len(lines)} lines; a caption, or a caption and an audio caption, is needed")
    return Clip(id=stem, video=video, caption=lines[0], audio_caption=lines[-1])


def _record(clip: Clip, folder: Path) -> dict[str, object]:
    """Fields that say something, with paths as seen from `folder`."""
    record = clip.model_dump(exclude_defaults=True)
    for name, path in clip.files().items():
        held = record["tracks"] if name in clip.tracks else record
        held[name] = os.path.relpath(path.absolute(), folder.absolute())
    if clip.audio == clip.video:
        del record["audio"]
    if clip.prompts and clip.caption == in_a_row(clip.prompts):
        del record["caption"]
    if clip.audio_caption == clip.caption and clip.audio_prompts == clip.prompts:
        record.pop("audio_caption", None)
        record.pop("audio_prompts", None)
    elif clip.audio_prompts and clip.audio_caption == in_a_row(clip.audio_prompts):
        record.pop("audio_caption", None)
    elif not clip.audio_caption:
        record["audio_caption"] = ""
    return record
