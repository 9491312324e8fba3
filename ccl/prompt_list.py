"""Clips of a list of prompts: how the list is read, divided among processes, and gone on with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.encoders.timed_prompts import TimedPrompts
from shared.utils.errors import UserError
from shared.utils.files import read_json, write_json
from shared.utils.ranges import Seed
from shared.utils.text_files import parse_json, read_text, split_lines


class Clip(NamedTuple):
    """What a clip is made of, and the file that it is written to."""

    prompt: str | TimedPrompts
    audio_prompt: str | None
    seed: int
    file: Path


class PromptLine(BaseModel):
    """A line of a jsonl file of prompts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str
    audio_prompt: str | None = None
    seed: Seed | None = None


def read_prompts(path: Path) -> list[PromptLine]:
    """One prompt per line or, in a file X.jsonl, one object per line: prompt and, if wanted, audio_prompt and seed.
    UserError naming the line that is empty or not one."""
    lines = [line.strip() for line in split_lines(read_text(path, f"prompts {path}"), str(path))]
    if not lines:
        raise UserError(f"prompts {path}: the file is empty; one prompt per line is needed")
    if "" in lines:
        raise UserError(f"prompts {path}, line {lines.index('') + 1}: the line is empty; remove it or write a prompt")
    if path.suffix.lower() != ".jsonl":
        return [PromptLine(prompt=line) for line in lines]
    return [_read_line(line, path, number) for number, line in enumerate(lines, start=1)]


def _read_line(line: str, path: Path, number: int) -> PromptLine:
    try:
        read = PromptLine.model_validate(parse_json(line, f"prompts {path}", number))
    except ValidationError as error:
        first = error.errors()[0]
        where, what = ".".join(map(str, first["loc"])), first["msg"]
        told = f"{where}: {what}" if where else what
        raise UserError(
            f'prompts {path}, line {number}: {told}; {{"prompt": TEXT, "audio_prompt": TEXT, "seed": N}} is needed'
        ) from None
    if not read.prompt.strip():
        raise UserError(f"prompts {path}, line {number}: the prompt is empty; write one")
    return read


def batches(clips: Sequence[Clip], size: int, made: Collection[Path]) -> list[list[Clip]]:
    """Cut the clips into batches of `size`, and leave out those of which all are `made`.

    A batch is sampled as a whole or not at all: so a clip does not depend on what was there, to the bit.
    """
    cut = [list(clips[start : start + size]) for start in range(0, len(clips), size)]
    return [batch for batch in cut if not all(clip.file in made for clip in batch)]


class Record:
    """Beside OUT, of which settings the clips of a list are: a hidden file, which stays with them."""

    def __init__(self, output: Path, files: Sequence[Path], settings: str, resume: bool) -> None:
        """Find the clips that are `made`, to `resume`. UserError if they are of other settings, or nothing tells."""
        self.file, self.settings = output.with_name(f".{output.name}.settings"), settings
        self.before = {file.name: _state(file) for file in files if file.exists()}
        self.made: set[Path] = set()
        self.resumes = resume and bool(self.before)
        if not self.resumes:
            return
        advice, first = "leave out --resume to make all anew, or give another --output", min(self.before)
        if not self.file.exists():
            raise UserError(f"--resume: {output.with_name(first)} is there, and nothing tells what made it; {advice}")
        content = read_json(self.file, advice=advice)
        if content.get("settings") != settings:
            what = "is of other options, prompts or weights"
            raise UserError(f"--resume: {output.with_name(first)} {what}; {advice}")
        older = content.get("before", {})
        self.made = {file for file in files if file.exists() and older.get(file.name) != _state(file)}

    def begin(self) -> None:
        """Write it down, before the first clip is: what is there and not made anew is not of these settings."""
        if not self.resumes:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.file, {"settings": self.settings, "before": self.before})


def _state(file: Path) -> list[int]:
    """Size and time of a file, which tell whether it was written anew."""
    about = file.stat()
    return [about.st_size, about.st_mtime_ns]
