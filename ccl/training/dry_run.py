"""All that a run looks at before its first step, for `--dry-run`: no models' weights in memory, nothing written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from ccl.routing import Task
from ccl.training.data import check_pictures, check_rate, check_shards
from ccl.training.held_out import read_held_out
from ccl.training.run import Adapter
from ccl.training.source import Source, clip_duration, read_source
from mtv.track_features import check_tracks
from shared.checkpoint.loading import existing_folder
from shared.codecs import Codecs
from shared.nn.attention import check_backend
from shared.nn.context_parallel import check_world
from shared.training.components import Components
from shared.training.state import check_own
from shared.utils.config import TrainConfig
from shared.utils.distributed import World
from shared.utils.errors import UserError

#: Bytes of a value.
SIZES = {"fp32": 4, "bf16": 2, "float32": 4, "float16": 2}


@dataclass(frozen=True)
class Checked:
    """A stage that could begin: its configuration, `models` (an adapter) without values, what it reads, and on how many
    `processes`. `latents`: (frames, height, width, audio tokens) of each clip."""

    config: TrainConfig
    models: Any
    components: Components
    latents: list[tuple[int, int, int, int]]
    processes: int


def launched() -> World:
    """Say which process this is of how many, by what a launcher left; no group is joined."""
    rank, size = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    return World(rank, size, torch.device("cpu"))


def check_run(config: TrainConfig, stages: Sequence[TrainConfig], adapter: type[Adapter]) -> list[Checked]:
    """Look at what `ccl.training.run` would, in its order, and at room on the disk. UserError for what it would refuse;
    the weights of a text encoder are not read, and only names and shapes of those of the models."""
    world = launched()
    check_backend(config.train.attention, "train.attention", learns=True)
    adapter.check(config, stages)
    check_deepspeed(config)
    tasks = sorted({task for task in Task if any(stage.trains(task) for stage in stages)})
    source = read_source(config, tasks)
    parts = [source.subset(stage.data.subsets) if stage is not config else source for stage in stages]
    for stage in stages:
        read_held_out(stage)
        check_world(stage.train.context_parallel, world.size, "train.context_parallel")
        check_own(stage, world)
    components = adapter.preview(config, source)
    components.check_saveable()
    check_rate(config, components.codecs)
    if any(stage.trains("mtv") for stage in stages) and source.shards is None:
        check_tracks(source.clips)
    checked = []
    for stage, part in zip(stages, parts, strict=True):
        start = config if stage is config else stages[0]  # a later stage's is not there yet
        models = without_values(stage.model_copy(update={"init": start.init}), components, adapter)
        if part.shards is not None:
            check_shards(stage, part.shards, components)
            check_pictures(part.shards, components.codecs.video.spatial_stride, models.patch)
        latents = latent_shapes(stage, part, components.codecs)
        checked.append(Checked(stage, models, components, latents, world.size))
    check_room(config, checked, encodes=source.shards is None)
    return checked


def without_values(config: TrainConfig, components: Components, adapter: type[Adapter]) -> Any:
    """Make the models of a run on the meta device, frozen and with adapters as in training. UserError for weights that
    do not fit them."""
    assert components.text.dim, "what is lazy is loaded before"
    with torch.device("meta"):
        return adapter(config, components, None)


def latent_shapes(config: TrainConfig, source: Source, codecs: Codecs) -> list[tuple[int, int, int, int]]:
    """Find (F, H, W, A) of every clip: in its record, or from its length."""
    if source.shards is not None:
        return [(*record.video[1:], record.audio[0]) for record in source.shards.records.values()]
    data, (height, width) = config.data, config.data.size
    sides = height // codecs.video.spatial_stride, width // codecs.video.spatial_stride
    shapes = []
    for clip in source.clips:
        seconds = clip_duration(clip) if data.duration is None else data.duration
        frames = max(1, round(seconds * data.fps))
        samples = round(frames / data.fps * data.sample_rate)
        lengths = len(codecs.video.clock(frames, data.fps)), len(codecs.audio.clock(samples))
        shapes.append((lengths[0], *sides, lengths[1]))
    return shapes


def check_deepspeed(config: TrainConfig) -> None:
    """Raise UserError for a `zero_optimization` that DeepSpeed would not take."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # which DeepSpeed reads when it is imported, and warns without
    from deepspeed.runtime.zero.config import get_zero_config

    try:
        get_zero_config(config.deepspeed)
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        name = ".".join(map(str, ("deepspeed.zero_optimization", *first["loc"])))
        raise UserError(f"{name}: {first['msg']}; see configs/deepspeed/") from None


def room(checked: Checked, encodes: bool) -> dict[str, int]:
    """Count the bytes that a run's OUTPUT may hold at once, by what they are: of a state fp32 weights, and the master
    weights, moments and average of those that learn; one state and one checkpoint more, while they are written."""
    config, codecs = checked.config, checked.components.codecs
    train, models = config.train, [checked.models.transformer, checked.models.control]
    parameters = [p for model in models if model is not None for p in model.parameters()]
    every, learn = (sum(p.numel() for p in parameters if p.requires_grad or not only) for only in (False, True))
    state = SIZES["fp32"] * (every + learn * (4 if train.ema else 3))
    whole = config.lora is None or bool(config.lora.modules_to_save)
    needs = {
        "states": (train.keep_checkpoints + 1) * state,
        "checkpoint": 2 * SIZES[train.export_dtype] * (every if whole else learn),
    }
    if encodes:
        channels = getattr(codecs.video, "latent_channels", 0), getattr(codecs.audio, "latent_channels", 0)
        values = sum(f * h * w * channels[0] + a * channels[1] for f, h, w, a in checked.latents)
        needs["latents"] = values * SIZES[config.data.latents_dtype]
    return needs


def check_room(config: TrainConfig, checked: Sequence[Checked], encodes: bool) -> None:
    """Raise UserError if the disk of OUTPUT has less room than its stages together need."""
    needs: dict[str, int] = {}
    for index, stage in enumerate(checked):
        for what, size in room(stage, encodes and index == 0).items():
            needs[what] = needs.get(what, 0) + size
    free = shutil.disk_usage(existing_folder(Path(config.output) / "state")).free
    if (total := sum(needs.values())) > free:
        parts = ", ".join(f"{what} {size / 1e9:.1f}" for what, size in needs.items())
        where = f"output {config.output}: {total / 1e9:.1f} GB are needed ({parts}), and {free / 1e9:.1f} GB are free"
        raise UserError(f"{where}; make room, or lower train.keep_checkpoints")
