"""Where training's clips come from: a manifest, or shards of scripts/encode.py, looked at before anything is loaded."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from ccl.routing import Reads, Task
from shared.data.bad_clips import Problem, noted, settle, tell_limit
from shared.data.dataset import ClipDataset, decode_problems, header_problems
from shared.data.manifest import Clip, manifest_entries, read_manifest, subset
from shared.data.media import probe
from shared.data.shard_index import read_index
from shared.data.shards import ShardedLatents
from shared.utils.config import Data, TrainConfig
from shared.utils.errors import UserError

DECODED = 1000  # clips that are decoded so that one refusal names all the bad ones; more would take long


@dataclass(frozen=True)
class Source:
    """What there is to train on, before anything is loaded: clips to encode, or shards of scripts/encode.py."""

    clips: list[Clip]
    shards: ShardedLatents | None = None
    left_out: list[Problem] = field(default_factory=list)  # what is not used, and why

    @property
    def ids(self) -> list[str]:
        """The clips' ids, in order."""
        return [clip.id for clip in self.clips] if self.shards is None else list(self.shards.records)

    def subset(self, include: Sequence[str], exclude: Sequence[str] = ()) -> Source:
        """Choose clips as `shared.data.manifest.subset` does; its errors too."""
        if self.shards is None:
            return replace(self, clips=subset(self.clips, include, exclude))
        return replace(self, shards=self.shards.subset(include, exclude))


def read_clips(data: Data) -> Source:
    """Read every clip of the manifests; those that cannot be used are left out if `data.on_bad_clip` says so.

    UserError if none is left or two have one id, and one that names all clips that are bad by their headers.
    """
    entries = [entry for path in data.manifests for entry in manifest_entries(path)]
    bad = [entry for entry in entries if isinstance(entry, Problem)]
    clips, limits = _chosen([entry for entry in entries if isinstance(entry, Clip)], data, bad)
    for key, problems in limits.items():
        tell_limit(key, problems, len(entries))
    if not (clips or bad):
        why = "".join(f"; {key} leaves out {len(problems)} of {len(entries)}" for key, problems in limits.items())
        raise UserError(f"{', '.join(map(str, data.manifests))}: no clip to train on{why}")
    if repeated := [name for name, count in Counter(clip.id for clip in clips).items() if count > 1]:
        raise UserError(f"clip id {repeated[0]!r} occurs twice among the manifests; ids must differ")
    bad += header_problems(clips, needs_video=True, needs_audio=True, duration=data.duration)
    found = {problem.id for problem in bad}
    good, count = [clip for clip in clips if clip.id not in found], len(clips) + len(found - {c.id for c in clips})
    if bad and data.on_bad_clip == "refuse" and len(good) <= DECODED:  # name the others, too
        bad += decode_problems(clip_dataset(good, data))
    settle(bad, count, data.on_bad_clip)
    return Source(good, left_out=[*(problem for problems in limits.values() for problem in problems), *bad])


def clip_dataset(clips: Sequence[Clip], data: Data) -> ClipDataset:
    """Clips as `data` has them read."""
    return ClipDataset(clips, data.fps, data.size, data.sample_rate, data.duration, data.keep_fps)


def _chosen(clips: list[Clip], data: Data, bad: list[Problem]) -> tuple[list[Clip], dict[str, list[Problem]]]:
    """Choose clips by subset and length: those, and by key what leaves others out; files without a length are `bad`."""
    reasons: dict[str, list[Problem]] = {}
    chosen = subset(clips, data.subsets, data.exclude_subsets) if clips else []
    taken = set(map(id, chosen))  # the objects: two manifests may have one name
    for clip in (clip for clip in clips if id(clip) not in taken):
        key = "data.exclude_subsets" if set(clip.subsets) & set(data.exclude_subsets) else "data.subsets"
        told = f"is in {', '.join(clip.subsets) or 'no subset'}"
        reasons.setdefault(key, []).append(Problem(clip.id, f"clip {clip.id!r}: left out by {key}: it {told}"))
    if data.max_duration is not None:
        key, limit, short = "data.max_duration", data.max_duration + 0.5 / data.fps, list[Clip]()
        for clip in chosen:
            with noted(bad, clip.id):
                if (seconds := clip_duration(clip)) <= limit:
                    short.append(clip)
                else:
                    told = f"it lasts {seconds:.2f} s, more than {data.max_duration:g}"
                    problem = Problem(clip.id, f"clip {clip.id!r}: left out by {key}: {told}")
                    reasons.setdefault(key, []).append(problem)
        chosen = short
    return chosen, reasons


def read_source(config: TrainConfig, tasks: Collection[str]) -> Source:
    """Find the clips or the shards of `data` for all tasks of the run, before anything is loaded. UserError as
    `read_clips`, or for shards that lack what tasks or options need, are of another rate or duration, or are empty."""
    data, mtv = config.data, Task.MTV in tasks
    if config.validation.every and config.validation.manifest:
        read_manifest(config.validation.manifest)  # refused now, and not when the first samples are due
    if data.shards is None:
        return read_clips(data)
    parts = list(config.model.get("parts", ())) if Task.PART in tasks else []
    _check_settings(config, mtv, bool(parts))
    routes = [Task(task).route for task in tasks]
    needs = [any(getattr(route, name) is not Reads.SKIPPED for route in routes) for name in ("video", "audio")]
    reader = logging.getLogger(ShardedLatents.__module__)
    reader.disabled = True  # it would name every record on every rank
    try:
        shards = ShardedLatents(data.shard_folders, needs[0], needs[1], mtv, parts=parts)
    finally:
        reader.disabled = False
    shards = shards.subset(data.subsets, data.exclude_subsets)
    if data.max_duration is None:
        return Source([], shards)
    limit, key = data.max_duration + 0.5 / data.fps, "data.max_duration"
    seconds = {name: record.frames / (record.fps or data.fps) for name, record in shards.records.items()}
    longer = [
        Problem(name, f"clip {name!r}: left out by {key}: it lasts {lasts:.2f} s")
        for name, lasts in seconds.items()
        if lasts > limit
    ]
    tell_limit(key, longer, len(shards.records))
    gone = {problem.id for problem in longer}
    shards = shards.only([name for name in shards.records if name not in gone])
    if not shards.records:
        raise UserError(f"{shards.where()}: no record of up to data.max_duration {data.max_duration} s")
    return Source([], shards, longer)


def clip_duration(clip: Clip) -> float:
    """Seconds of a clip, from its cut or from its file's header."""
    if clip.end is not None or clip.video is None:
        return (clip.end or 0.0) - clip.start
    return probe(clip.video).duration - clip.start


def _check_settings(config: TrainConfig, mtv: bool, parts: bool) -> None:
    """Refuse shards whose settings are not those of the configuration, before their records are looked at."""
    data, validation = config.data, config.validation
    if mtv and validation.every and validation.clips and validation.manifest is None:
        why = "samples of task mtv are driven by sound files, which data.shards do not hold"
        raise UserError(f"validation: {why}; set validation.manifest, or validation.clips=0")
    for folder in data.shard_folders:
        settings = read_index(folder)["settings"]
        if data.keep_fps != settings.get("keep_fps", False):
            told = f"data.keep_fps {str(data.keep_fps).lower()}: {folder} was encoded"
            how = "without --keep-fps" if data.keep_fps else "with --keep-fps"
            raise UserError(f"{told} {how}; set the other, or encode again")
        for name in ("duration", "sample_rate") if data.keep_fps else ("fps", "duration", "sample_rate"):
            wanted, actual = getattr(data, name), settings.get(name)
            if wanted not in (None, actual):
                raise UserError(f"data.{name} {wanted}: {folder} was encoded with {actual}; set that, or encode again")
        if mtv and not settings.get("tracks"):
            raise UserError(f"{folder}: has no features of tracks, which task mtv needs; encode with --tracks")
        if parts and not settings.get("part_latents"):
            needs = "has no latents of speech and effects, which task part needs"
            raise UserError(f"{folder}: {needs}; encode with --part-latents")
        if config.keyframes > 0 and not settings.get("keyframe_latents"):
            needs = f"has no latents of keyframes, which keyframes {config.keyframes} need"
            raise UserError(f"{folder}: {needs}; encode with --keyframe-latents")
