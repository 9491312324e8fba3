"""The data set itself: the manifest of the clips that every stage has kept."""

from __future__ import annotations

from pathlib import Path

from shared.curation.cut import clip_file
from shared.curation.engine import Engine
from shared.curation.record import Figures, Record
from shared.data.manifest import MANIFEST_NAME, Clip, write_manifest


def write_data_set(output: Path, engine: Engine) -> None:
    """Write OUTPUT/manifest.jsonl, in the order of the films and their clips."""
    kept = []
    for record, said in engine.clips:
        found = dict(engine.findings(record, said))
        if len(found) == len(engine.stages) and all(finding.verdict == "keep" for finding in found.values()):
            kept.append((record, {name: finding.figures for name, finding in found.items()}))
    write_manifest(output / MANIFEST_NAME, [_clip(output, record, figures) for record, figures in kept])


def _clip(output: Path, record: Record, figures: dict[str, Figures]) -> Clip:
    return Clip(id=record.key, video=clip_file(output, record), caption="")
