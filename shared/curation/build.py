"""One command from films to a data set: the stages, then the manifest, the report and the card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shared.curation.config import DemixConfig
from shared.curation.engine import Engine, Executor
from shared.curation.estimate import Estimate, estimate
from shared.curation.ledger import LEDGER_NAME, Ledger
from shared.curation.on_ray import library
from shared.curation.record import Context, Record, Tools
from shared.curation.report import Report, write_report
from shared.curation.sources import Source
from shared.curation.stages import STAGES, check_installed
from shared.curation.write import kept_runs, write_data_set
from shared.data.manifest import claim_folder
from shared.data.media import probe
from shared.utils.errors import UserError
from shared.utils.locks import FILLS, LOCK_NAME, locked

MARKER = "demix.json"
FORMAT = {"format": "demix-1"}


def build(
    sources: Sequence[Source], output: Path, config: DemixConfig, tools: Tools, workers: int,
    names: Sequence[str] | None = None, retry: bool = False, executor: Executor = "inline",
) -> Report:  # fmt: skip
    """Run stages (None: all, and write the data set) over films into `output`; what the ledger has is kept."""
    chosen = [stage.name for stage in STAGES] if names is None else list(names)
    check_installed(config, set(chosen))
    if executor == "ray":
        library()
    with locked(output / LOCK_NAME, *FILLS):
        claim_folder(output, MARKER, FORMAT)
        with Ledger(output / LEDGER_NAME) as ledger:
            engine = Engine(STAGES, Context(config, output, tools), ledger, workers, retry, executor)
            engine.films_of(sources, seconds_of)
            engine.run(chosen)
            kept = kept_runs(engine) if names is None else []
            report = Report.of(engine)
            write_report(output, report)
            if names is None:
                write_data_set(output, kept, report)
    return report


def dry_run(sources: Sequence[Source], config: DemixConfig, tools: Tools, workers: int) -> Estimate:
    """Estimate what `build` will take; nothing of it is kept."""
    films = [
        Record(str(source.path), source.path, str(source.path), 0.0, seconds_of(source.path)) for source in sources
    ]
    return estimate(STAGES, Context(config, Path(), tools), films, workers)


def seconds_of(file: Path) -> float:
    """Read from its header how long a film lasts, in seconds; 0 where it cannot be read, as its first stage tells."""
    try:
        info = probe(file)
    except UserError:
        return 0.0
    return info.video_end or info.duration
