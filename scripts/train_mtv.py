"""Train audio-driven video in stages, each from what the last one left.

    deepspeed scripts/train_mtv.py --config configs/train/stage_mtv.yaml --set stages.0.steps=100

The clips need tracks: a manifest with `tracks` (scripts/make_stage.py and scripts/demix.py write one). Running the
same command again resumes, in the middle of any stage. OUTPUT then holds codecs/ (unless given), latents/, a folder per
stage (1_basic_face ...) with config.yaml, losses.csv, samples/, state/ and checkpoint/, and checkpoint/, a copy of the
last stage's.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from mtv.curriculum import CurriculumConfig
from shared.cli import Parser
from shared.config import load_config_as
from shared.data.manifest import subset
from shared.training.distributed import World, add_launcher_arguments, barrier, session
from shared.training.state import claim_output, write_atomically

# the folder of the script that runs is on the path; scripts are no package
from train_ccl import Run, Stores, check_sources, prepare_codecs, read_clips  # type: ignore[import-not-found] # isort: skip


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(argv)
    config = load_config_as(CurriculumConfig, options.config, options.overrides)
    clips = read_clips(config)
    stages = [config.stage(index) for index in range(len(config.stages))]
    parts = [subset(clips, stage.data.subsets, ()) for stage in stages]  # an empty one is refused before any work
    check_sources(config)
    with session() as world:
        codecs = prepare_codecs(config, clips, world)
        stores = Stores.encode(stages[0].model_copy(update={"tasks": {"mtv": 1.0}}), clips, codecs, world)
        for stage, part in zip(stages, parts, strict=True):
            claim_output(stage, world)
            done = Path(stage.output) / "done"
            if not done.exists():
                run = Run(stage, world, stores.only(part), codecs, part)
                run.train()
                del run
                if world.is_main:
                    write_atomically(done, "")
                barrier()
        publish(Path(stages[-1].output) / "checkpoint", Path(config.output) / "checkpoint", world)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--config", required=True, help="a YAML file of configs/train/ with stages")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="override one key, for example stages.0.steps=200; any number of times",
    )  # fmt: skip
    add_launcher_arguments(parser)
    return parser.parse_args(argv)


def publish(last: Path, target: Path, world: World) -> None:
    """The last stage's checkpoint as OUTPUT/checkpoint."""
    if world.is_main:
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(last, partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    barrier()


if __name__ == "__main__":
    from shared.errors import run_main

    run_main(main)
