"""What a training script is told, what its configuration names, and what of that is not there; without torch."""

from pathlib import Path

from shared.checkpoint.folder import check_checkpoint
from shared.checkpoint.registry import COMPONENTS, ComponentSource, find_component
from shared.data.manifest import find_manifest
from shared.data.shard_index import read_index
from shared.training.trackers import check_trackers
from shared.utils import cli
from shared.utils.classes import NamedClass
from shared.utils.config import TrainConfig
from shared.utils.errors import UserError
from shared.utils.files import check_place, read_json
from shared.utils.ranges import Rank

CODECS = ("video_codec", "audio_codec")


class TrainOptions(cli.Options):
    """Options of scripts/train_ccl.py and train_mtv.py."""

    config: Path = cli.option(help="a YAML file of configs/train/")
    overrides: list[str] = cli.option(
        [], "override one key, for example train.steps=200; any number of times",
        name="set", metavar="KEY=VALUE", repeat=True,
    )  # fmt: skip
    dry_run: bool = cli.option(
        False,
        "check all that can go wrong before the first step, tell tokens, memory and disk; nothing is written",
    )
    local_rank: Rank = cli.option(0, "what launchers pass; the environment says the same", hidden=True)


def check_inputs(config: TrainConfig) -> None:
    """UserError for what the configuration names and is missing or not whole: clips, weights, components, trackers."""
    for key, place in (("output", config.output), ("data.latents", config.data.latents)):
        if place is not None:
            check_place(key, Path(place), "folder")
    for manifest in config.data.manifests:
        find_manifest(manifest)
    if config.validation.manifest:
        find_manifest(config.validation.manifest)
    for folder in config.data.shard_folders:
        read_index(folder)
    check_trackers(config.train.report_to)
    if start := config.init or config.init_streams:
        check_checkpoint(start, trusted_packages(config))
        check_few_steps(config, Path(start))
    if config.distill is not None and config.distill.teacher is not None:
        check_checkpoint(config.distill.teacher)
    for name in COMPONENTS:
        component_source(config, name)


def check_few_steps(config: TrainConfig, start: Path) -> None:
    """Raise UserError for a start that is distilled, and a training that would make it one of many steps."""
    folder = start / "transformer" / "config.json"
    if folder.is_file() and read_json(folder).get("distilled") and (config.distill is None or not config.init):
        key, what = (
            "init" if config.init else "init_streams",
            "is distilled, and plain training would undo its few steps",
        )
        advice = "set distill.teacher: null to learn from the data alone, or name a teacher's folder; with init"
        raise UserError(f"{key} {start}: {what}; {advice}")


def component_source(config: TrainConfig, name: str) -> ComponentSource | None:
    """Where `video_codec`, `audio_codec` or `text_encoder` comes from: the place that `components` names, otherwise
    (codecs alone) `codecs`, otherwise `init` or `init_streams`; None if none is named. A name on the hub is looked up
    there. UserError if nothing of the kind is in that place."""
    key, place = f"components.{name}", getattr(config.components, name, None)
    if place is None:
        keys = ("codecs", "init", "init_streams") if name in CODECS else ("init", "init_streams")
        key, place = next(((key, named) for key in keys if (named := getattr(config, key))), (key, None))
    if place is None:
        return None
    try:
        return find_component(name, place, trusted_packages(config))
    except UserError as error:
        advice = "; fit a pair with scripts/fit_codecs.py" if key == "codecs" else ""
        raise UserError(f"{key}: {error}{advice}") from None


def trusted_packages(config: TrainConfig) -> set[str]:
    """List packages outside this repository whose classes the configuration names; its `init` may name them too."""
    components = config.components.model_dump() if config.components is not None else {}
    named = (NamedClass.parse(str(text)) for text in (*components.values(), *config.tracks.encoders.values()))
    return {one.package for one in named if one is not None}


def fitted_codecs(config: TrainConfig) -> Path:
    """Where a run keeps the codecs that it fits to its clips, if the configuration names none."""
    return Path(config.output) / "codecs"
