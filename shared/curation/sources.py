"""Films to build a data set of: a folder with all below it, or a list; known by their content, never by their names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.data.clip_files import VIDEO_SUFFIXES, existing
from shared.utils.errors import UserError
from shared.utils.text_files import is_file, parse_json, read_text, shortened, split_lines


@dataclass(frozen=True)
class Source:
    """A film, and its licence, "" where it is not told."""

    path: Path
    licence: str = ""


class _Line(BaseModel):
    """A line of a list in JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    video: Path = Field()
    licence: str = ""


def read_sources(path: Path) -> list[Source]:
    """List the films in a folder and all below it, in order, or those that a list names: FILE.txt with a path per line,
    FILE.jsonl with {"video": PATH, "licence": TEXT} per line, paths relative to the list. UserError if there is none,
    and for one that is not there."""
    if path.is_dir():
        found = [Source(file) for file in sorted(path.rglob("*")) if _is_film(file, path)]
        if not found:
            raise UserError(f"--input {path}: holds no film; files such as X.mp4, X.mkv or X.webm are needed")
        return found
    if not is_file(path):
        raise UserError(f"--input {path}: no such folder or list; a folder of films, FILE.txt or FILE.jsonl is needed")
    if path.suffix not in (".txt", ".jsonl"):
        raise UserError(f"--input {path}: is no list; a folder of films, FILE.txt or FILE.jsonl is needed")
    found = list(_listed(path))
    if not found:
        raise UserError(f"--input {path}: names no film; at least one line is needed")
    return found


def _is_film(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.suffix.lower() in VIDEO_SUFFIXES and not hidden and file.is_file()


def _listed(path: Path) -> Iterator[Source]:
    for number, line in enumerate(split_lines(read_text(path), str(path)), start=1):
        if not line.strip():
            continue
        if path.suffix == ".jsonl":
            try:
                entry = _Line.model_validate(parse_json(line, str(path), number))
            except ValidationError as error:
                first = error.errors()[0]
                told = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
                raise UserError(f"{path}:{number}: {shortened(told, 200)}; the fields are video, licence") from None
        else:
            entry = _Line(video=Path(line.strip()))
        file = existing(path.absolute().parent / entry.video)
        if not file.is_file():
            raise UserError(f"{path}:{number}: {entry.video} does not exist; paths are relative to the list")
        yield Source(file, entry.licence)
