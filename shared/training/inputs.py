"""What a training script is told, and what is plainly not there: checked before torch is imported."""

from __future__ import annotations

from pathlib import Path

from shared.checkpoint.folder import check_checkpoint
from shared.data.manifest import find_manifest
from shared.data.shard_index import read_index
from shared.training.trackers import check_trackers
from shared.utils import cli
from shared.utils.config import TrainConfig


class TrainOptions(cli.Options):
    """Options of scripts/train_ccl.py and train_mtv.py."""

    config: Path = cli.option(help="a YAML file of configs/train/")
    overrides: list[str] = cli.option(
        [],
        "override one key, for example train.steps=200; any number of times",
        name="set",
        metavar="KEY=VALUE",
        repeat=True,
    )
    local_rank: int = cli.option(0, "what launchers pass; the environment says the same", hidden=True)


def check_inputs(config: TrainConfig) -> None:
    """UserError for a manifest, shards, an `init` or `init_streams` or a tracker that is not there or not whole."""
    for manifest in config.data.manifests:
        find_manifest(manifest)
    if config.validation.manifest:
        find_manifest(config.validation.manifest)
    for folder in config.data.shard_folders:
        read_index(folder)
    check_trackers(config.train.report_to)
    if start := config.init or config.init_streams:
        check_checkpoint(start)
