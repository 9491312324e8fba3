"""What training reads: encoded by the run itself, or found encoded in shards of scripts/encode.py."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ccl.training.source import Source, clip_dataset
from mtv.captions import drop_speaker
from mtv.track_features import TrackBatches, check_tracks, encode_tracks
from mtv.tracks import clip_parts
from shared.codecs import Codecs
from shared.data.bad_clips import Problem, attempt, noted, settle
from shared.data.clip_key import clip_key
from shared.data.clip_texts import ClipTexts, audio_text, video_text
from shared.data.dataset import check_clip, read_ahead
from shared.data.encode_clip import encode_clip
from shared.data.manifest import Clip
from shared.data.shard_loader import ShardedText
from shared.data.shard_writer import NewRecord, fill_shards, gather_problems
from shared.data.shards import LatentShards, ShardedLatents
from shared.encoders import TextEncoder
from shared.encoders.timed_prompts import TimedPrompts
from shared.training.components import Components
from shared.utils.config import TrainConfig
from shared.utils.distributed import World, barrier, gather
from shared.utils.errors import UserError
from shared.utils.fingerprint import fingerprint

TOLD = 20  # shards and reasons for which records are left out that are named
THREADS = 4  # that decode ahead
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """Latents of all clips, embeddings of their texts and, for task mtv, features of their tracks."""

    latents: LatentShards
    texts: TextEncoder
    tracks: TrackBatches | None
    clips: list[Clip]  # what they were made of, none with shards of scripts/encode.py
    left_out: list[Problem] = field(default_factory=list)  # clips that could not be encoded

    @classmethod
    def of(cls, config: TrainConfig, source: Source, components: Components, world: World) -> TrainingData:
        """Encode what is not encoded yet, or see that the shards were made by the components of this run."""
        check_rate(config, components.codecs)
        if source.shards is not None:
            components.text.learn(source.shards.words)
            return cls.opened(config, source.shards, components, world)
        captions = training_texts(config, source.clips)
        components.text.learn(captions)
        texts = components.text.cached(captions, latents_folder(config) / "texts", world)
        return cls.encoded(config, source.clips, components, texts, world)

    @classmethod
    def encoded(
        cls, config: TrainConfig, clips: list[Clip], components: Components, texts: TextEncoder, world: World
    ) -> TrainingData:
        """Latents and features of tracks by `components`, made where they are missing and kept beside the run."""
        mtv = config.trains("mtv")
        if mtv:
            check_tracks(clips)
        latents, bad = encode_latents(config, clips, components.codecs, world)
        tracks, good = None, [clip for clip in clips if clip.id in latents.records]
        if mtv:
            folder, data, encoders = latents_folder(config) / "tracks", config.data, components.encoders
            shards, worse = encode_tracks(folder, good, latents, data.fps, encoders, data.latents_dtype, world)
            bad, good = [*bad, *worse], [clip for clip in good if clip.id in shards.records]
            tracks = TrackBatches(shards, encoders)
        settle(bad, len(clips), config.data.on_bad_clip)
        return cls(latents.only([clip.id for clip in good]) if bad else latents, texts, tracks, good, bad)

    @classmethod
    def opened(cls, config: TrainConfig, shards: ShardedLatents, components: Components, world: World) -> TrainingData:
        """See that shards of scripts/encode.py were made by the components of this run. UserError if not."""
        check_shards(config, shards, components)
        if world.is_main:  # which looks at the weights, and keeps none of them
            shards.check(text_encoder=components.text.load())
        barrier()
        if world.is_main and shards.problems:
            tell_left_out(shards, shards.problems)
        mtv, texts = config.trains("mtv"), cast(TextEncoder, ShardedText(shards))
        if mtv and config.tracks.drop_from_caption:
            texts = components.text.load()
        return cls(shards, texts, TrackBatches(shards, components.encoders) if mtv else None, [])

    def only(self, part: Source) -> TrainingData:
        """Choose the clips of `part`."""
        there = [name for name in part.ids if name in self.latents.records or not self.left_out]
        if not there:
            raise UserError(f"no clip is left of {len(part.ids)}; left_out.jsonl in the run's output says why")
        latents, tracks = self.latents.only(there), self.tracks
        if tracks is not None:
            shards = latents if tracks.shards is self.latents else tracks.shards.only(there)
            tracks = TrackBatches(shards, tracks.encoders)
        return replace(self, latents=latents, tracks=tracks, clips=[c for c in part.clips if c.id in latents.records])

    def prompts(self, count: int) -> list[TimedPrompts]:
        """Texts of the first clips."""
        return [video_text(self.latents.get(name)) for name in list(self.latents.records)[:count]]

    def buckets(self, stride: int, patch: int) -> tuple[Mapping[str, Any], int]:
        """Bucket of every clip, and the tokens in a unit of its first number: (F, A), with size and frame rate where
        there are several. UserError for a picture that is no whole number of tokens high and wide."""
        sizes = check_pictures(self.latents, stride, patch)
        if len(sizes) > 1 or len({record.fps for record in self.latents.records.values()}) > 1:
            return self.latents.token_shapes(patch), 1
        ((height, width),) = sizes
        return self.latents.shapes(), (height // patch) * (width // patch)

    def report(self, world: World) -> None:
        """Say, on rank 0, which records any rank found broken while it trained; every rank calls it."""
        problems = sorted({problem for part in gather(self.latents.problems) for problem in part}, key=str)
        if problems and world.is_main:
            tell_left_out(self.latents, problems)


def check_pictures(latents: LatentShards, stride: int, patch: int) -> list[tuple[int, int]]:
    """List the sizes of pictures, in latents. UserError for one that is no whole number of tokens high and wide."""
    sizes = sorted({(record.video[2], record.video[3]) for record in latents.records.values()})
    for height, width in sizes:
        if height % patch or width % patch:
            pixels, unit = f"{height * stride}x{width * stride}", stride * patch
            raise UserError(f"pictures of {pixels} do not fit the model; both sides must be multiples of {unit}")
    return sizes


def encode_latents(
    config: TrainConfig, clips: list[Clip], codecs: Codecs, world: World
) -> tuple[LatentShards, list[Problem]]:
    """Latents of the clips, with the captions of the manifest as it is now; what the run's folder lacks is made there
    first. Clips that cannot be read, lack a stream, or are silent are told and left out; the others are kept."""
    data, keyframes, parts = config.data, config.keyframes > 0, config.parts
    by_id, rate = {clip.id: clip for clip in clips}, "keep_fps" if data.keep_fps else "fps"
    options = data.model_dump_json(include={rate, "size", "sample_rate", "duration", "latents_dtype"})
    dtype = getattr(torch, data.latents_dtype)
    common = [options, fingerprint(codecs.video), fingerprint(codecs.audio), *(["keyframes"] if keyframes else [])]
    common += [f"parts {' '.join(parts)}"] if parts else []
    keys, bad = dict[str, str](), list[Problem]()
    for clip in clips:
        with noted(bad, clip.id):
            tracks = sorted(clip.tracks) if parts else []
            keys[clip.id] = clip_key(clip, [clip.video, clip.audio, *map(clip.tracks.get, tracks)], [*common, *tracks])

    def make(names: Sequence[str]) -> Iterator[NewRecord]:
        dataset = clip_dataset([by_id[name] for name in names], data)
        samples = read_ahead(attempt(dataset.__getitem__), range(len(dataset)), THREADS)
        for name, sample in zip(names, samples, strict=True):
            encoded = None
            with noted(bad, name):
                if isinstance(sample, UserError):
                    raise sample
                check_clip(sample, needs_video=True, needs_audio=True)
                fps = sample.fps or data.fps
                given = partial(given_parts, by_id[name], parts, fps=fps, rate=codecs.audio.sample_rate)
                more = keyframes, None, given if parts else None
                encoded = encode_clip(sample, codecs, data.fps, world.device, dtype, *more)
            if encoded is not None:
                yield encoded[0], encoded[1] | {"key": keys[name]}

    captions = {clip.id: ClipTexts.of(clip) for clip in clips}
    shards = fill_shards(latents_folder(config), keys, make, world, "encoding clips", captions)
    return shards, gather_problems(bad)


def given_parts(clip: Clip, parts: Sequence[str], frames: int, fps: float, rate: int) -> dict[str, Tensor]:
    """Read those of `parts` that sound in a clip, as `clip_parts`. UserError if none does."""
    given = {name: sound for name, sound in clip_parts(clip, frames, fps, rate).items() if name in parts}
    if not given:
        why = f"none of its {' and '.join(parts)} sounds, of which task part gives one"
        raise UserError(f"clip {clip.id!r}: {why}; add its track or leave the clip out")
    return given


def tell_left_out(shards: LatentShards, problems: Sequence[Problem]) -> None:
    """Log how many records are not read, and why: each shard and reason once, the first of them."""
    reasons: dict[str, list[Problem]] = {}
    for problem in problems:
        reasons.setdefault(problem.message.replace(f"clip {problem.id!r}: ", ""), []).append(problem)
    for reason, alike in list(reasons.items())[:TOLD]:
        first = f"{reason}: {len(alike)} clips, {alike[0].id!r} first" if len(alike) > 1 else str(alike[0])
        _log.warning("%s; left out", first)
    more = f", of which {TOLD} kinds are named" if len(reasons) > TOLD else ""
    _log.warning("%s: records left out: %d%s", shards.where(), len(problems), more)


def latents_folder(config: TrainConfig) -> Path:
    """Where a run keeps what it encodes."""
    return Path(config.data.latents or Path(config.output) / "latents")


def training_texts(config: TrainConfig, clips: list[Clip]) -> set[str]:
    """Every text that training on these clips can ask for."""
    if not config.routes_text:
        clips = [clip.model_copy(update={"prompts": [], "audio_prompts": []}) for clip in clips]
    videos = {text for clip in clips for text in video_text(clip).texts}
    forms = {form for text in videos for form in (text, drop_speaker(text))}
    for pattern in config.tracks.drop_from_caption:
        forms |= {re.sub(pattern, "", text) for text in forms}
    texts = {"", *videos, *(text for clip in clips for text in audio_text(clip).texts)}
    return texts | forms if config.trains("mtv") else texts


def check_rate(config: TrainConfig, codecs: Codecs) -> None:
    """Raise UserError unless the sound is read at the audio codec's rate."""
    if config.data.sample_rate != codecs.audio.sample_rate:
        works = f"the audio codec works at {codecs.audio.sample_rate}; set that"
        raise UserError(f"data.sample_rate {config.data.sample_rate}: {works}")


def check_shards(config: TrainConfig, shards: ShardedLatents, components: Components) -> None:
    """Raise UserError for shards of other pictures, codecs, encoders or texts than the run's; the text encoder is not
    loaded, so that its weights are not compared."""
    mtv, data, codecs, text = config.trains("mtv"), config.data, components.codecs, components.text
    stride = codecs.video.spatial_stride
    sizes = sorted({(record.video[2] * stride, record.video[3] * stride) for record in shards.records.values()})
    if data.size not in sizes:
        held = ", ".join(f"[{height}, {width}]" for height, width in sizes)
        raise UserError(f"data.size {list(data.size)}: the shards hold {held}; set that in which to sample")
    tracks = components.encoders if mtv else {}
    shards.check(video_codec=codecs.video, audio_codec=codecs.audio, **tracks)
    where, dtype = shards.where(), shards.settings["text_dtype"]
    if text.dim != shards.text["dim"]:
        widths = f"its embeddings are {text.dim} wide, those in {where} {shards.text['dim']}"
        raise UserError(f"components.text_encoder: {widths}; name the one that made these")
    if not text.is_embedded and text.dtype_name != dtype:
        raise UserError(f"components.text_dtype {text.dtype_name}: {where} was encoded in {dtype}; set that")
    if mtv and config.tracks.drop_from_caption and not text.is_embedded:
        why = "embeds the caption and, with --tracks, the one that does not say who speaks"
        what = f"leaves texts that {where} cannot hold: scripts/encode.py {why}"
        raise UserError(f"tracks.drop_from_caption {what}; train from data.manifest, or without it")
