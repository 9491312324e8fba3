"""Shots that follow each other as one clip, which has a text for each from the second at which it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.curation.cut import cut
from shared.curation.demixing import TRACKS, track_files
from shared.curation.pictures import EDGE
from shared.curation.record import Context, Finding, Kept, Record, Stage, span_key
from shared.data.manifest import Clip
from shared.data.media import read_channels
from shared.data.media_write import write_audio

Pairs = list[tuple[float, str]]


def runs(kept: Sequence[Kept], most: float | None) -> list[list[Kept]]:
    """Group clips that follow each other in a film without a gap, of the same bars, with texts or all without, up to
    `most` seconds; None: each is by itself."""
    found: list[list[Kept]] = []
    for one in kept:
        if most is not None and found and _follows(found[-1], one, most):
            found[-1].append(one)
        else:
            found.append([one])
    return found


def _follows(run: Sequence[Kept], one: Kept, most: float) -> bool:
    first, last = run[0].record, run[-1]
    texts = [bool(clip.figures["template"]["caption"]) for clip in (last, one)]
    return (
        last.record.source_key == one.record.source_key
        and abs(one.record.start - last.record.end) <= EDGE
        and one.record.end - first.start <= most + EDGE
        and last.figures["technical"]["bars"] == one.figures["technical"]["bars"]
        and texts[0] == texts[1]
    )


def whole(run: Sequence[Kept]) -> Record:
    """Make the record of a run; of its figures there are the bars, and the spans of its shots."""
    records = [one.record for one in run]
    first, end = records[0], records[-1].end
    parts = [[one.start, one.end] for one in records]
    figures = {"technical": run[0].figures["technical"], "join": {"parts": parts}}
    key = span_key(first.source_key, first.start, end)
    return Record(key, first.source, first.source_key, first.start, end, first.licence, figures)


def join(record: Record, context: Context) -> Finding:
    """Write the clip's file, and its tracks, each those of its shots in a row."""
    files = cut(record, context).figures["files"]
    shots = [span_key(record.source_key, start, end) for start, end in record.figures["join"]["parts"]]
    for name, file in track_files(context.output, record.key).items():
        sounds = [read_channels(track_files(context.output, key)[name]) for key in shots]
        write_audio(file, np.concatenate([sound for sound, _, _ in sounds], axis=1), sounds[0][1])
        files = [*files, file.relative_to(context.output).as_posix()]
    return Finding(figures={"files": files, "tracks": len(TRACKS), "shots": len(shots)})


#: How runs of shots become clips; not one of the stages, which look at every shot.
JOIN = Stage("join", join, reads=("shots", "technical", "demix"), writes=True)


def joined_clip(record: Record, video: Path, tracks: dict[str, Path], parts: Sequence[Clip]) -> Clip:
    """Make the line of the manifest of a run, of the lines of its shots: their texts over time, and the subsets that
    all of them are in."""
    starts = [start - record.start for start, _ in record.figures["join"]["parts"]]
    spoken = dict.fromkeys(name for part in parts for name in part.speakers)
    return Clip(
        id=record.key, video=video, tracks=tracks, speakers=list(spoken),
        subsets=[name for name in parts[0].subsets if all(name in part.subsets for part in parts)],
        **_over_time("", starts, [part.caption for part in parts]),
        **_over_time("audio_", starts, [part.audio_caption for part in parts]), **_said(starts, parts),
    )  # fmt: skip


def _said(starts: Sequence[float], parts: Sequence[Clip]) -> dict[str, Any]:
    """Tell what is said in all, and when; the language, if it is one."""
    languages = {part.language for part in parts if part.transcript}
    return {
        "transcript": " ".join(part.transcript for part in parts if part.transcript),
        "language": languages.pop() if len(languages) == 1 else "",
        "words": [
            (round(at + first, 2), round(at + last, 2), text)
            for at, part in zip(starts, parts, strict=True)
            for first, last, text in part.words
        ],
    }


def _over_time(stream: str, starts: Sequence[float], texts: Sequence[str]) -> dict[str, Any]:
    """Tell a caption where there is one text alone, else each text where it begins; one that goes on is told once."""
    changes: Pairs = []
    for start, text in zip(starts, texts, strict=True):
        if not changes or text != changes[-1][1]:
            changes.append((round(start, 6), text))
    return {f"{stream}caption": changes[0][1]} if len(changes) == 1 else {f"{stream}prompts": changes}
