"""Where training's clips come from: a manifest, or shards of scripts/encode.py, looked at before anything is loaded."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ccl.routing import Reads, Task
from shared.data.dataset import survey
from shared.data.manifest import Clip, read_manifest, subset
from shared.data.media import probe
from shared.data.shard_index import read_index
from shared.data.shards import ShardedLatents
from shared.utils.config import Data, TrainConfig
from shared.utils.errors import UserError


@dataclass(frozen=True)
class Source:
    """What there is to train on, before anything is loaded: clips to encode, or shards of scripts/encode.py."""

    clips: list[Clip]
    shards: ShardedLatents | None = None

    @property
    def ids(self) -> list[str]:
        """The clips' ids, in order."""
        return [clip.id for clip in self.clips] if self.shards is None else list(self.shards.records)

    def subset(self, include: Sequence[str], exclude: Sequence[str] = ()) -> Source:
        """Choose clips as `shared.data.manifest.subset` does; its errors too."""
        if self.shards is None:
            return Source(subset(self.clips, include, exclude))
        return Source([], self.shards.subset(include, exclude))


def read_clips(data: Data) -> list[Clip]:
    """Every clip of the manifests. UserError if none is left, two have one id, or one has not both streams."""
    clips = subset(
        [clip for path in data.manifests for clip in read_manifest(path)], data.subsets, data.exclude_subsets
    )
    if data.max_duration is not None:
        limit = data.max_duration + 0.5 / data.fps
        clips = [clip for clip in clips if clip_duration(clip) <= limit]
    if not clips:
        raise UserError(f"{', '.join(map(str, data.manifests))}: no clip to train on")
    count, name = max((count, name) for name, count in Counter(clip.id for clip in clips).items())
    if count > 1:
        raise UserError(f"clip id {name!r} occurs twice among the manifests; ids must differ")
    survey(clips, needs_video=True, needs_audio=True, duration=data.duration)
    return clips


def read_source(config: TrainConfig, tasks: Collection[str]) -> Source:
    """Find the clips or the shards of `data` for all tasks of the run, before anything is loaded. UserError as
    `read_clips`, or for shards that lack what tasks or options need, are of another rate or duration, or are empty."""
    data, mtv = config.data, Task.MTV in tasks
    if data.shards is None:
        return Source(read_clips(data))
    _check_settings(config, mtv)
    routes = [Task(task).route for task in tasks]
    needs = [any(getattr(route, name) is not Reads.SKIPPED for route in routes) for name in ("video", "audio")]
    reader = logging.getLogger(ShardedLatents.__module__)
    reader.disabled = True  # it would name every record on every rank
    try:
        shards = ShardedLatents(data.shard_folders, needs[0], needs[1], tracks=mtv)
    finally:
        reader.disabled = False
    shards = shards.subset(data.subsets, data.exclude_subsets)
    if data.max_duration is not None:
        limit = data.max_duration + 0.5 / data.fps
        shards = shards.only([name for name, record in shards.records.items() if record.frames / data.fps <= limit])
        if not shards.records:
            raise UserError(f"{shards.where()}: no record of up to data.max_duration {data.max_duration} s")
    return Source([], shards)


def clip_duration(clip: Clip) -> float:
    """Seconds of a clip, from its cut or from its file's header."""
    if clip.end is not None or clip.video is None:
        return (clip.end or 0.0) - clip.start
    return probe(clip.video).duration - clip.start


def _check_settings(config: TrainConfig, mtv: bool) -> None:
    """Refuse shards whose settings are not those of the configuration, before their records are looked at."""
    data, validation = config.data, config.validation
    if mtv and validation.every and validation.clips and validation.manifest is None:
        why = "samples of task mtv are driven by sound files, which data.shards do not hold"
        raise UserError(f"validation: {why}; set validation.manifest, or validation.clips=0")
    for folder in data.shard_folders:
        settings = read_index(folder)["settings"]
        for name in ("fps", "duration", "sample_rate"):
            wanted, actual = getattr(data, name), settings.get(name)
            if wanted not in (None, actual):
                raise UserError(f"data.{name} {wanted}: {folder} was encoded with {actual}; set that, or encode again")
        if mtv and not settings.get("tracks"):
            raise UserError(f"{folder}: has no features of tracks, which task mtv needs; encode with --tracks")
        if config.keyframes > 0 and not settings.get("keyframe_latents"):
            needs = f"has no latents of keyframes, which keyframes {config.keyframes} need"
            raise UserError(f"{folder}: {needs}; encode with --keyframe-latents")
