"""Clips of a list of prompts: how the list is read, divided among processes, and gone on with."""

from __future__ import annotations

from collections.abc import Sequence
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


def batches(clips: Sequence[Clip], size: int, made: bool) -> list[list[Clip]]:
    """Cut the clips into batches of `size`; where some are `made`, leave out batches of which all are.

    A batch is sampled as a whole or not at all: so a clip does not depend on what was there, to the bit.
    """
    cut = [list(clips[start : start + size]) for start in range(0, len(clips), size)]
    return [batch for batch in cut if not (made and all(clip.file.exists() for clip in batch))]


def claim(output: Path, files: Sequence[Path], settings: str, resume: bool) -> None:
    """Write down beside OUT of which `settings` its clips are or, to `resume`, see that those that are there are of
    these. UserError if they are not, or nothing tells."""
    record = output.with_name(f".{output.name}.settings")
    there = next((file for file in files if file.exists()), None)
    if resume and there is not None:
        advice = "leave out --resume to make all anew, or give another --output"
        if not record.exists():
            raise UserError(f"--resume: {there} is there, and nothing tells which options made it; {advice}")
        if read_json(record, advice=advice).get("settings") != settings:
            raise UserError(f"--resume: {there} was made with other options, prompts or weights; {advice}")
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(record, {"settings": settings})
