"""What training reads: encoded by the run itself, or found encoded in shards of scripts/encode.py."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ccl.routing import Reads, Task
from mtv.captions import without_speaker
from mtv.control import TRACKS
from mtv.track_features import ShardedTracks, TrackStore, encoder_key
from shared.data.dataset import survey
from shared.data.latent_shards import ShardedLatents
from shared.data.manifest import Clip, read_manifest, subset
from shared.data.media import probe
from shared.data.shard_index import read_index
from shared.data.shard_loader import ShardedText
from shared.encoders import TextEncoder
from shared.training.components import Components
from shared.training.latents import LatentStore
from shared.utils.config import Data, TrainConfig
from shared.utils.distributed import World, barrier, gather
from shared.utils.errors import UserError

#: What there is to train on, before anything is loaded: clips to encode, or shards.
Material = list[Clip] | ShardedLatents
TOLD = 20  # records left out that are named one by one
_log = logging.getLogger(__name__)


def read_material(config: TrainConfig, tasks: Collection[str]) -> Material:
    """The clips or the shards of `data`, looked at before anything else: what cannot train is refused at the start.

    `tasks`: those that the run trains, in any of its stages.
    """
    return read_shards(config, tasks) if config.data.shards is not None else read_clips(config.data)


def read_clips(data: Data) -> list[Clip]:
    """Every clip of the manifests. UserError if none is left, or one has not both streams."""
    clips = [clip for path in data.manifests for clip in read_manifest(path)]
    clips = subset(clips, data.subsets, data.exclude_subsets)
    if data.max_duration is not None:
        limit = data.max_duration + 0.5 / data.fps
        clips = [clip for clip in clips if clip_duration(clip) <= limit]
    if not clips:
        raise UserError(f"{', '.join(map(str, data.manifests))}: no clip to train on")
    survey(clips, needs_video=True, needs_audio=True, duration=data.duration)
    return clips


def read_shards(config: TrainConfig, tasks: Collection[str]) -> ShardedLatents:
    """The records of the shards that these tasks can use; those left out are told.

    Raises UserError if the shards lack what the tasks or options need (with the option of scripts/encode.py that makes
    it), were encoded at another rate or duration, or no record is left.
    """
    data, mtv = config.data, Task.MTV in tasks
    _check_settings(config, mtv)
    routes = [Task(task).route for task in tasks]
    needs = {s: any(r.reads(s) is not Reads.SKIPPED for r in routes) for s in ("video", "audio")}
    reader = logging.getLogger(ShardedLatents.__module__)
    reader.disabled = True  # it would name every record on every rank
    try:
        store = ShardedLatents(data.shard_folders, needs["video"], needs["audio"], tracks=mtv)
    finally:
        reader.disabled = False
    store = store.subset(data.subsets, data.exclude_subsets)
    if data.max_duration is not None:
        limit = data.max_duration + 0.5 / data.fps
        store = store.only([name for name, record in store.records.items() if record.frames / data.fps <= limit])
        if not store.records:
            raise UserError(f"{_named(data)}: no record of up to data.max_duration {data.max_duration} s")
    return store


@dataclass(frozen=True)
class Stores:
    """Latents of all clips, embeddings of their texts and, for task mtv, features of their tracks.

    `clips`: what they were made of, none with shards.
    """

    latents: LatentStore | ShardedLatents
    texts: TextEncoder
    tracks: TrackStore | ShardedTracks | None
    clips: list[Clip]

    @classmethod
    def of(cls, config: TrainConfig, material: Material, parts: Components, world: World) -> Stores:
        """Encode what is not encoded yet, or see that the shards were made by the components of this run."""
        rate = parts.codecs[1].sample_rate
        if config.data.sample_rate != rate:
            raise UserError(f"data.sample_rate {config.data.sample_rate}: the audio codec works at {rate}; set that")
        if isinstance(material, ShardedLatents):
            return cls._opened(config, material, parts, world)
        texts = (
            parts.text.load()
            if parts.text.embedded
            else parts.text.remembered(training_texts(config, material), latents_folder(config) / "texts", world)
        )
        return cls.encoded(config, material, parts.codecs, parts.encoders, texts, world)

    @classmethod
    def encoded(
        cls, config: TrainConfig, clips: list[Clip], codecs: Any, encoders: Any, texts: TextEncoder, world: World
    ) -> Stores:
        """Latents by `codecs` and features by `encoders`, made where they are missing and kept beside the run."""
        folder = latents_folder(config)
        latents = LatentStore(folder, clips, config.data, codecs[0], codecs[1], stills=config.keyframes > 0)
        latents.encode(world)
        if not config.trains("mtv"):
            return cls(latents, texts, None, clips)
        frames = {clip.id: latents.about[clip.id]["frames"] for clip in clips}
        tracks = TrackStore(folder / "tracks", clips, frames, config.data.fps, encoders)
        tracks.encode(world)
        return cls(latents, texts, tracks, clips)

    @classmethod
    def _opened(cls, config: TrainConfig, store: ShardedLatents, parts: Components, world: World) -> Stores:
        mtv, data, (video, audio) = config.trains("mtv"), config.data, parts.codecs
        stride = video.spatial_stride
        sizes = sorted({(record.video[2] * stride, record.video[3] * stride) for record in store.records.values()})
        if data.size not in sizes:
            found = ", ".join(f"[{height}, {width}]" for height, width in sizes)
            raise UserError(f"data.size {list(data.size)}: the shards hold {found}; set that in which to sample")
        made = {"video_codec": video, "audio_codec": audio}
        if mtv:
            made |= {track: encoder_key(parts.encoders[track]) for track in TRACKS}
        store.check(data.fps, data.sample_rate, **made)
        _check_text(config, store, parts, world)
        if world.is_main and store.problems:
            tell_left_out(store, [str(problem) for problem in store.problems])
        texts: TextEncoder = ShardedText(store)
        if mtv and config.tracks.drop_from_caption:
            if not parts.text.embedded:
                raise UserError(
                    f"tracks.drop_from_caption leaves texts that {_named(data)} cannot hold: scripts/encode.py embeds the caption "
                    "and, with --tracks, the one that does not say who speaks; train from data.manifest, or without it"
                )
            texts = parts.text.load()
        return cls(store, texts, ShardedTracks(store, parts.encoders) if mtv else None, [])

    def only(self, part: Material) -> Stores:
        """The same for some of the clips."""
        if isinstance(part, ShardedLatents):
            return replace(self, latents=part, tracks=self.tracks and ShardedTracks(part, self.tracks.encoders))
        names = [clip.id for clip in part]
        assert isinstance(self.latents, LatentStore), "clips are encoded by the run"
        tracks = self.tracks.only(names) if isinstance(self.tracks, TrackStore) else None
        return replace(self, latents=self.latents.only(names), tracks=tracks, clips=part)

    def captions(self, count: int) -> list[str]:
        """Of the first clips."""
        if not isinstance(self.latents, ShardedLatents):
            return [clip.caption for clip in self.clips[:count]]
        return [self.latents.get(name).caption for name in list(self.latents.records)[:count]]

    def buckets(self, size: tuple[int, int], stride: int, patch: int) -> tuple[Mapping[str, Any], int]:
        """The bucket of every clip, and the tokens in a unit of its first number: (F, A) where all pictures are of
        one size, otherwise with that size. `size`: pixels, of what the run encodes itself.

        UserError for a picture that is no whole number of tokens high and wide.
        """
        sizes = {(size[0] // stride, size[1] // stride)}
        if isinstance(self.latents, ShardedLatents):
            sizes = {(record.video[2], record.video[3]) for record in self.latents.records.values()}
        for height, width in sorted(sizes):
            if height % patch or width % patch:
                pixels, unit = f"{height * stride}x{width * stride}", stride * patch
                raise UserError(f"pictures of {pixels} do not fit the model; both sides must be multiples of {unit}")
        if len(sizes) > 1 and isinstance(self.latents, ShardedLatents):
            return self.latents.token_shapes(patch), 1
        ((height, width),) = sizes
        return self.latents.shapes(), (height // patch) * (width // patch)

    def report(self, world: World) -> None:
        """Say, on rank 0, which records any rank found broken while it trained; every rank calls it."""
        if isinstance(self.latents, ShardedLatents):
            found = sorted({str(problem) for part in gather(self.latents.problems) for problem in part})
            if found and world.is_main:
                tell_left_out(self.latents, found)


def tell_left_out(store: ShardedLatents, problems: list[str]) -> None:
    """Log how many records are not read and why, the first of them one by one."""
    for problem in problems[:TOLD]:
        _log.warning("%s; it is left out", problem)
    more = f", of which {TOLD} are named" if len(problems) > TOLD else ""
    _log.warning("%s: records left out: %d%s", ", ".join(map(str, store.folders)), len(problems), more)


def latents_folder(config: TrainConfig) -> Path:
    """Where a run keeps what it encodes."""
    return Path(config.data.latents or Path(config.output) / "latents")


def training_texts(config: TrainConfig, clips: list[Clip]) -> set[str]:
    """Every text that training on these clips can ask for."""
    texts = {"", *(clip.caption for clip in clips), *(clip.audio_caption for clip in clips)}
    if config.trains("mtv"):
        told = {clip.caption for clip in clips} | {untold(clip.caption) for clip in clips}
        for pattern in config.tracks.drop_from_caption:
            told |= {re.sub(pattern, "", text) for text in told}
        texts |= told
    return texts


def untold(caption: str) -> str:
    """The caption without its sentences about who speaks; as it is where it has another form than MTV's template."""
    try:
        return without_speaker(caption)
    except UserError:
        return caption


def clip_duration(clip: Clip) -> float:
    """Seconds of a clip, from its cut or from its file's header."""
    if clip.end is not None or clip.video is None:
        return (clip.end or 0.0) - clip.start
    return probe(clip.video).duration - clip.start


def _check_settings(config: TrainConfig, mtv: bool) -> None:
    """Refuse shards whose settings are not those of the configuration, before their records are looked at."""
    data, validation = config.data, config.validation
    if mtv and validation.every and validation.clips and validation.manifest is None:
        raise UserError(
            "validation: samples of task mtv are driven by sound files, which data.shards do not hold; set "
            "validation.manifest, or validation.clips=0"
        )
    for folder in data.shard_folders:
        made = read_index(folder)["settings"]
        for key, name in (("data.fps", "fps"), ("data.duration", "duration"), ("data.sample_rate", "sample_rate")):
            wanted = getattr(data, name)
            if wanted not in (None, made.get(name)):
                raise UserError(
                    f"{key} {wanted}: {folder} was encoded with {made.get(name)}; set that, or encode again"
                )
        if mtv and not made.get("tracks"):
            raise UserError(f"{folder}: has no features of tracks, which task mtv needs; encode with --tracks")
        if config.keyframes > 0 and not made.get("stills"):
            raise UserError(f"{folder}: has no stills, which keyframes {config.keyframes} need; encode with --stills")


def _check_text(config: TrainConfig, store: ShardedLatents, parts: Components, world: World) -> None:
    """Refuse a text encoder other than the shards'. Rank 0 looks at the weights, and keeps none of them."""
    text, place = parts.text, _named(config.data)
    wide, made = store.text["dim"], store.settings["text_dtype"]
    if text.dim != wide:
        here = f"components.text_encoder: its embeddings are {text.dim} wide"
        raise UserError(f"{here}, those in {place} {wide}; name the one that made these")
    if not text.embedded and text.dtype_name != made:
        raise UserError(f"components.text_dtype {text.dtype_name}: {place} was encoded in {made}; set that")
    if world.is_main:
        store.check(config.data.fps, config.data.sample_rate, text_encoder=text.load())
    barrier()


def _named(data: Data) -> str:
    return ", ".join(map(str, data.shard_folders))
