"""The data set itself: manifests of the clips that every stage has kept, a card, and a page to browse all verdicts."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from shared.curation.cut import clip_file
from shared.curation.demixing import track_files
from shared.curation.engine import Engine
from shared.curation.join import JOIN, joined_clip, runs, whole
from shared.curation.record import Figures, Kept, Record
from shared.curation.report import ClipReport, Report
from shared.curation.split import held_out
from shared.curation.subsets import SUBSETS
from shared.data.manifest import MANIFEST_NAME, Clip, write_manifest
from shared.evaluation.html import render
from shared.utils.files import write_atomically
from shared.utils.markdown import markdown_table

_log = logging.getLogger(__name__)
HELD_OUT_NAME, CARD_NAME, PAGE_NAME = "held_out.jsonl", "README.md", "index.html"
WRITTEN = ("technical", "speech", "voices", "words", "captions", "subsets", "template")
"""Stages whose figures the manifest and the card are made of; the others' may be long."""
MOST_ON_PAGE = 2000
"""Clips on the page, the first ones: a browser shows no more."""


class Run(NamedTuple):
    """Clips that follow each other, and the record of all of them; None where each is a clip of its own."""

    clips: Sequence[Kept]
    joined: Record | None


def write_data_set(output: Path, runs: Sequence[Run], report: Report) -> None:
    """Write the page, the card, OUTPUT/held_out.jsonl where clips are held out, and OUTPUT/manifest.jsonl, last; clips
    in the order of the films."""
    held = [line for run in runs if run.clips[0].is_held_out for line in lines_of(output, run)]
    write_atomically(output / PAGE_NAME, page(output, report))
    write_atomically(output / CARD_NAME, card([one for run in runs for one in run.clips], report))
    if held and all(run.clips[0].is_held_out for run in runs):
        told = (
            "all %d clips are of films that are held out, none is left to train on; of few films set split.held_out: 0"
        )
        _log.warning(told, len(held))
    if held:
        write_manifest(output / HELD_OUT_NAME, held)
    else:
        (output / HELD_OUT_NAME).unlink(missing_ok=True)
    trained = [line for run in runs if not run.clips[0].is_held_out for line in lines_of(output, run)]
    write_manifest(output / MANIFEST_NAME, trained)


def kept_runs(engine: Engine) -> list[Run]:
    """Join the clips that no stage has dropped, where the configuration says so; those of a run that could not be
    joined stay by themselves."""
    found = runs(kept_clips(engine), engine.context.config.join.most_seconds)
    records = [whole(run) if len(run) > 1 else None for run in found]
    engine.join(JOIN, [record for record in records if record is not None])
    joined = {record.key for record, finding in engine.joined if finding.verdict == "keep"}
    return [
        Run(run, record if record is not None and record.key in joined else None)
        for run, record in zip(found, records, strict=True)
    ]


def lines_of(output: Path, run: Run) -> list[Clip]:
    """Make the lines of the manifest of a run."""
    clips = [clip_of(output, one) for one in run.clips]
    if run.joined is None:
        return clips
    key = run.joined.key
    return [joined_clip(run.joined, clip_file(output, run.joined), track_files(output, key), clips)]


def kept_clips(engine: Engine) -> list[Kept]:
    """List the clips that no stage has dropped, in order, and hold some films out."""
    whole: list[tuple[Record, dict[str, Figures]]] = []
    prints: list[Figures] = []
    for record, said in engine.clips:
        found = dict(engine.findings(record, said))
        if len(found) == len(engine.stages) and all(finding.verdict == "keep" for finding in found.values()):
            whole.append((record, {name: found[name].figures for name in WRITTEN}))
            prints.append(found["fingerprint"].figures)
    sides = held_out([record for record, _ in whole], prints, engine.context.config)
    return [Kept(*one, side) for one, side in zip(whole, sides, strict=True)]


def clip_of(output: Path, kept: Kept) -> Clip:
    """Make the line of the manifest."""
    record, figures, _ = kept
    texts = figures["template"]
    sound = {"audio_caption": texts["audio_caption"]} if texts["audio_caption"] else {}
    looks = figures["captions"]["people"]
    speaking = [number for number, speaks in enumerate(figures["speech"]["speaking"]) if speaks]
    said = figures["words"]
    spoken = {"transcript": said["text"], "language": said["language"], "words": said["words"]} if said else {}
    return Clip(
        id=record.key, video=clip_file(output, record), tracks=track_files(output, record.key),
        caption=texts["caption"], subsets=figures["subsets"]["subsets"],
        speakers=[looks[number] for number in speaking] if looks else [], **sound, **spoken,
    )  # fmt: skip


def card(kept: Sequence[Kept], report: Report) -> str:
    """Write the data card: what there is, under which licences, and what fell where."""
    rows = []
    for name, chosen in (("training", False), ("held out", True)):
        records = [one.record for one in kept if one.is_held_out == chosen]
        films = len({record.source_key for record in records})
        rows.append([name, films, len(records), f"{sum(record.seconds for record in records) / 3600:.2f}"])
    subsets = Counter(name for one in kept for name in one.figures["subsets"]["subsets"])
    hours: dict[str, float] = {}
    for one in kept:
        name = one.record.licence or "not stated"
        hours[name] = hours.get(name, 0.0) + one.record.seconds / 3600
    spoken = Counter(str(len(one.figures["speech"]["speaking"])) for one in kept)
    licences = [[name, f"{count:.2f}"] for name, count in sorted(hours.items())]
    joined = f"{report.kept} shots are {report.written} clips: those that follow each other are joined."
    parts = [
        "# Data card", *([joined] if report.joined else []), markdown_table(["part", "films", "clips", "hours"], rows),
        "## Subsets, which overlap", markdown_table(["subset", "clips"], [[n, subsets[n]] for n in SUBSETS]),
        "## People seen", markdown_table(["people", "clips"], sorted(spoken.items())), *_voices(kept),
        "## Licences of the films", markdown_table(["licence", "hours"], licences),
        "## What fell where, and why", report.table(),
    ]  # fmt: skip
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _voices(kept: Sequence[Kept]) -> list[str]:
    """Part of the card on voices, where they were counted."""
    heard = Counter(str(one.figures["voices"]["heard"]) for one in kept if one.figures["voices"])
    return ["## Voices heard", markdown_table(["voices", "clips"], sorted(heard.items()))] if heard else []


def page(output: Path, report: Report) -> str:
    """Make the page of verdicts: a player for each clip, its own file or its span of the film."""
    shown = [clip for clip in report.clips if clip.record.seconds > 0][:MOST_ON_PAGE]
    return render(
        "demix.html.j2", title="Clips and verdicts", table=report.table(), left_out=len(report.clips) - len(shown),
        clips=[_on_page(output, clip, clip.stage == report.stages[-1]) for clip in shown],
    )  # fmt: skip


def _on_page(output: Path, clip: ClipReport, is_done: bool) -> dict[str, Any]:
    record, file = clip.record, clip_file(output, clip.record)
    is_cut = is_done and clip.finding.verdict == "keep"
    film = quote(os.path.relpath(record.source.resolve(), output.resolve()))
    return {
        "id": record.key, "verdict": clip.finding.verdict, "stage": clip.stage, "cause": clip.finding.cause,
        "reason": clip.finding.reason, "film": record.source.name, "start": record.start, "end": record.end,
        "video": f"{file.parent.name}/{file.name}" if is_cut else f"{film}#t={record.start:.3f},{record.end:.3f}",
    }  # fmt: skip
