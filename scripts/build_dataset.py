"""Make a data set of films: shots, captions, three tracks, speakers and subsets (docs/curation.md).

python scripts/build_dataset.py --input my_films --output data/mine --config configs/data/demix.yaml

DIR/manifest.jsonl, clips/, tracks/, report.jsonl with a line per clip, ledger.jsonl; latents/, shards as
scripts/encode.py makes them, where the configuration has `shards`. Run again to go on where it stopped, or after a
change of the configuration: what it does not change is kept. Clips that a rule drops are counted; clips at which a
stage failed are listed at the end, the others are done, and the exit code is 1.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

from mtv.encoding import EncodeOptions
from shared.curation.config import STAGE_NAMES, DemixConfig
from shared.curation.licences import licences
from shared.curation.sources import read_sources
from shared.data.manifest import MANIFEST_NAME, read_manifest
from shared.utils.cli import Options, option, parse, some_of
from shared.utils.errors import exit_for_failed_clips, run_main
from shared.utils.ranges import Workers

SHARDS_NAME = "latents"


class BuildOptions(Options):
    input: Path = option(help="folder of films with all below it, or a list: FILE.txt or FILE.jsonl")
    output: Path = option(help="folder to fill; new, empty, or made by this script", writes="folder")
    config: Path = option(help="YAML file, as configs/data/demix.yaml")
    set: list[str] = option([], "change a key: shots.least_seconds=1", repeat=True, metavar="KEY=VALUE")
    stages: Annotated[tuple[str, ...], BeforeValidator(some_of(STAGE_NAMES))] | None = option(
        None, f"only some of {','.join(STAGE_NAMES)}; default: all, and the data set", metavar="NAMES"
    )
    workers: Workers = option(os.cpu_count() or 1, "processes; default: all cores")
    executor: Literal["inline", "ray"] = option(
        "inline", "processes of this machine, or Ray's: here, or of the cluster that RAY_ADDRESS names"
    )
    dry_run: bool = option(False, "write nothing; estimate time and disk from the first minute of three of the films")
    licences: bool = option(False, "only list what looks and listens: source, licence, weights; needs no other option")
    retry: bool = option(False, "try again what failed; else it stays failed")


def main(argv: list[str] | None = None) -> None:
    """Build; exit code 1 if a stage failed at a clip."""
    if "--licences" in (sys.argv[1:] if argv is None else argv):
        print(licences())
        return
    options = parse(BuildOptions, __doc__, argv)
    config = DemixConfig.load(options.config, options.set)
    sources = read_sources(options.input)
    shards = None
    if config.shards and options.stages is None:
        where = options.output / MANIFEST_NAME, options.output / SHARDS_NAME
        shards = EncodeOptions.of_section(config.shards, f"{options.config}: shards", *where)
    from mtv.captions import compose
    from mtv.demix import separated
    from mtv.encoding import encode_job
    from shared.curation.build import build, dry_run
    from shared.curation.record import Tools
    from shared.curation.write import HELD_OUT_NAME
    from shared.data.encode import encode

    tools = Tools(separated, compose)
    if options.dry_run:
        print(dry_run(sources, config, tools, options.workers).text())
        return
    how = options.workers, options.stages, options.retry, options.executor
    report = build(sources, options.output, config, tools, *how)
    print(report.table())
    for copy, film in report.copies:
        print(f"{copy}: left out, it is a copy of {film}")
    if options.stages is None:
        files = [options.output / name for name in (MANIFEST_NAME, HELD_OUT_NAME)]
        print(f"{report.written} clips, {' and '.join(str(file) for file in files if file.exists())}")
    failed = [(clip.record.key, f"{clip.stage}: {clip.finding.reason}") for clip in report.failed]
    if shards is not None:
        clips = read_manifest(shards.manifest)
        lost = encode(encode_job(shards, clips)) or []
        print(f"{shards.output}: shards of {len(clips) - len(lost)} clips")
        failed += [(failure["id"], f"shards: {failure['reason']}") for failure in lost]
    exit_for_failed_clips(failed, len(report.clips), "data set is")


if __name__ == "__main__":
    run_main(main)
