"""The data set itself: manifests of the clips that every stage has kept, a card, and a page to browse all verdicts."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from shared.curation.cut import clip_file
from shared.curation.demixing import track_files
from shared.curation.engine import Engine
from shared.curation.record import Figures, Record
from shared.curation.report import ClipReport, Report
from shared.curation.split import held_out
from shared.curation.subsets import SUBSETS
from shared.data.manifest import MANIFEST_NAME, Clip, write_manifest
from shared.evaluation.html import render
from shared.utils.files import write_atomically
from shared.utils.markdown import markdown_table

_log = logging.getLogger(__name__)
HELD_OUT_NAME, CARD_NAME, PAGE_NAME = "held_out.jsonl", "README.md", "index.html"
MOST_ON_PAGE = 2000
"""Clips on the page, the first ones: a browser shows no more."""


class Kept(NamedTuple):
    """A clip that every stage has kept, what they found, and whether it is held out."""

    record: Record
    figures: Mapping[str, Figures]
    is_held_out: bool


def write_data_set(output: Path, engine: Engine, report: Report) -> None:
    """Write the page, the card, OUTPUT/held_out.jsonl where clips are held out, and OUTPUT/manifest.jsonl, last; clips
    in the order of the films."""
    kept = kept_clips(engine)
    held = [clip_of(output, one) for one in kept if one.is_held_out]
    write_atomically(output / PAGE_NAME, page(output, report))
    write_atomically(output / CARD_NAME, card(kept, report))
    if held and len(held) == len(kept):
        told = (
            "all %d clips are of films that are held out, none is left to train on; of few films set split.held_out: 0"
        )
        _log.warning(told, len(held))
    if held:
        write_manifest(output / HELD_OUT_NAME, held)
    else:
        (output / HELD_OUT_NAME).unlink(missing_ok=True)
    write_manifest(output / MANIFEST_NAME, [clip_of(output, one) for one in kept if not one.is_held_out])


def kept_clips(engine: Engine) -> list[Kept]:
    """List the clips that no stage has dropped, in order, and hold some films out."""
    whole: list[tuple[Record, dict[str, Figures]]] = []
    for record, said in engine.clips:
        found = dict(engine.findings(record, said))
        if len(found) == len(engine.stages) and all(finding.verdict == "keep" for finding in found.values()):
            whole.append((record, {name: finding.figures for name, finding in found.items()}))
    sides = held_out([r for r, _ in whole], [f["fingerprint"] for _, f in whole], engine.context.config)
    return [Kept(*one, side) for one, side in zip(whole, sides, strict=True)]


def clip_of(output: Path, kept: Kept) -> Clip:
    """Make the line of the manifest."""
    record, figures, _ = kept
    texts = figures["template"]
    sound = {"audio_caption": texts["audio_caption"]} if texts["audio_caption"] else {}
    looks = figures["captions"]["people"]
    speaking = [number for number, speaks in enumerate(figures["speech"]["speaking"]) if speaks]
    return Clip(
        id=record.key, video=clip_file(output, record), tracks=track_files(output, record), caption=texts["caption"],
        subsets=figures["subsets"]["subsets"], speakers=[looks[number] for number in speaking] if looks else [],
        **sound,
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
    spoken = Counter(str(len(one.figures["people"]["people"])) for one in kept)
    licences = [[name, f"{count:.2f}"] for name, count in sorted(hours.items())]
    parts = [
        "# Data card", markdown_table(["part", "films", "clips", "hours"], rows),
        "## Subsets, which overlap", markdown_table(["subset", "clips"], [[n, subsets[n]] for n in SUBSETS]),
        "## People seen", markdown_table(["people", "clips"], sorted(spoken.items())),
        "## Licences of the films", markdown_table(["licence", "hours"], licences),
        "## What fell where, and why", report.table(),
    ]  # fmt: skip
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


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
