"""How long a data set will take, and how much disk: a few minutes of the films are worked on, in a folder that goes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from shared.curation.engine import Engine
from shared.curation.ledger import LEDGER_NAME, Ledger
from shared.curation.record import Context, Record, Stage
from shared.utils.markdown import markdown_table

SAMPLES, SAMPLE_SECONDS = 3, 60.0
"""Films of a sample, and seconds of each, from its start."""


class Estimate(NamedTuple):
    """Of all films: `seconds` of footage; of the sample: its seconds, clips and those kept; of the whole by the sample:
    seconds of work of each stage, by so many workers together, and bytes written."""

    films: int
    seconds: float
    sampled: float
    clips: int
    kept: int
    work: dict[str, float]
    bytes: float
    workers: int

    def text(self) -> str:
        """Tell it in a few lines."""
        rows = [[name, f"{seconds / self.workers / 60:.1f}"] for name, seconds in self.work.items()]
        rows.append(["all", f"{sum(self.work.values()) / self.workers / 60:.1f}"])
        table = markdown_table(["stage", f"minutes with {self.workers} processes"], rows).rstrip()
        sample = f"{self.sampled / 60:.1f} of {self.seconds / 60:.1f} minutes in {self.films} films were worked on"
        share = f"{self.kept} of {self.clips} clips were kept"
        return f"{sample}, {share}\n{table}\nabout {self.bytes / 1e9:.3g} GB below the output"


def estimate(stages: Sequence[Stage], context: Context, films: Sequence[Record], workers: int) -> Estimate:
    """Work on the beginnings of films that lie evenly among all, one process at a time, and tell what all will take."""
    chosen = spaced(films, SAMPLES)
    parts = [replace(film, end=min(film.end, film.start + SAMPLE_SECONDS)) for film in chosen]
    total, sampled = (sum(film.seconds for film in some) for some in (films, parts))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        with Ledger(output / LEDGER_NAME) as ledger:
            engine = Engine(stages, context._replace(output=output), ledger, 1)
            engine.films = parts
            engine.run([stage.name for stage in stages])
            last = [list(engine.findings(*clip))[-1] for clip in engine.clips]
            kept = sum(stage == stages[-1].name and finding.verdict == "keep" for stage, finding in last)
            scale = total / sampled if sampled else 0.0
            work = {name: seconds * scale for name, seconds in engine.seconds().items()}
        size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    return Estimate(len(films), total, sampled, len(last), kept, work, size * scale, workers)


def spaced(films: Sequence[Record], count: int) -> list[Record]:
    """Take `count` films, or all if there are fewer, that lie evenly in the order of their lengths."""
    ordered: list[Record] = sorted(films, key=attrgetter("seconds"))
    if len(ordered) <= count:
        return ordered
    return [ordered[round((i + 0.5) * len(ordered) / count - 0.5)] for i in range(count)]
