"""What became of every clip: how many fell at which stage and why, as lines of text and as JSON lines."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from shared.curation.engine import Engine
from shared.curation.join import JOIN
from shared.curation.record import Finding, Record
from shared.utils.files import write_atomically
from shared.utils.markdown import markdown_table

REPORT_NAME = "report.jsonl"


class ClipReport(NamedTuple):
    """A clip, the last stage that looked at it, and what that said."""

    record: Record
    stage: str
    finding: Finding

    def as_dict(self, output: Path) -> dict[str, Any]:
        """For JSON."""
        record = self.record
        return {
            "id": record.key, "source": str(record.source), "start": record.start, "end": record.end,
            "licence": record.licence, "verdict": self.finding.verdict, "stage": self.stage,
            "cause": self.finding.cause, "reason": self.finding.reason,
        }  # fmt: skip


class Report(NamedTuple):
    """All clips, films that failed among them, by the last stage that looked at them; the seconds of each stage; and
    files that are left out, each with the film that it is a copy of; clips of several shots."""

    stages: tuple[str, ...]
    clips: tuple[ClipReport, ...]
    seconds: dict[str, float]
    copies: tuple[tuple[Path, Path], ...] = ()
    joined: tuple[ClipReport, ...] = ()

    @classmethod
    def of(cls, engine: Engine) -> Self:
        """Collect it from the ledger."""
        stages = tuple(stage.name for stage in engine.stages)
        found = [(film, engine.film_finding(film)) for film in engine.films]
        lost = [ClipReport(film, stages[0], f) for film, f in found if f is not None and f.verdict != "keep"]
        clips = []
        for record, said in engine.clips:
            *_, (stage, finding) = engine.findings(record, said)
            clips.append(ClipReport(record, stage, replace(finding, figures={})))
        joined = tuple(ClipReport(one, JOIN.name, finding) for one, finding in engine.joined)
        return cls(stages, (*lost, *clips), engine.seconds(), tuple(engine.copies), joined)

    @property
    def failed(self) -> list[ClipReport]:
        """Those that a stage could not look at."""
        return [clip for clip in (*self.clips, *self.joined) if clip.finding.verdict == "fail"]

    @property
    def kept(self) -> int:
        """How many clips every stage has kept."""
        return sum(clip.finding.verdict == "keep" and clip.stage == self.stages[-1] for clip in self.clips)

    @property
    def written(self) -> int:
        """How many clips are in the manifests: those of several shots in the place of these."""
        shots = [clip.finding.figures["shots"] for clip in self.joined if clip.finding.verdict == "keep"]
        return self.kept - sum(shots) + len(shots)

    def table(self) -> str:
        """Table of the stages: clips that came to it, that it kept, dropped and failed at, and why."""
        rows, left = [], len(self.clips)
        for name in self.stages:
            here = [clip.finding for clip in self.clips if clip.stage == name]
            gone = [finding for finding in here if finding.verdict != "keep"]
            waiting = sum(clip.finding.verdict == "keep" for clip in self.clips if clip.stage == name)
            why = Counter(f"{finding.verdict} {finding.cause}".removeprefix("drop ") for finding in gone)
            told = ", ".join(
                f"{count} {cause}" for cause, count in sorted(why.items(), key=lambda one: (-one[1], one[0]))
            )
            dropped = sum(finding.verdict == "drop" for finding in gone)
            row = [name, left, left - len(gone), dropped, len(gone) - dropped, told, f"{self.seconds[name]:.1f}"]
            rows.append(row)
            left -= len(gone) + (waiting if name != self.stages[-1] else 0)
        head = ["stage", "clips", "kept", "dropped", "failed", "why", "seconds of work"]
        return markdown_table(head, rows).rstrip()


def write_report(output: Path, report: Report) -> None:
    """Write OUTPUT/report.jsonl, a line per clip."""
    lines = [json.dumps(clip.as_dict(output), ensure_ascii=False) + "\n" for clip in (*report.clips, *report.joined)]
    write_atomically(output / REPORT_NAME, "".join(lines))
