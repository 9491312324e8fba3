"""Micro-batches of the joint objective, as a pure function of (step, micro-step, rank)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from ccl.routing import Task
from ccl.training.objective import Batch, draw_clean_frames, draw_keyframes
from mtv.control import TrackFeatures
from shared.codecs import AudioCodec, VideoCodec
from shared.data.bucketing import BatchPlan, draw_tasks
from shared.encoders import TextEncoder
from shared.nn.clock import LatentClock
from shared.training.latents import Latents
from shared.utils.config import TrainConfig
from shared.utils.rng import generator


class Store(Protocol):
    """Clips by name: `shared.training.latents.LatentStore`, or `shared.data.latent_shards.ShardedLatents`."""

    def shapes(self) -> dict[str, tuple[int, int]]:
        """(F, A) of every clip: video latent frames and audio tokens."""
        ...

    def get(self, name: str) -> Latents:
        """The latents of clip `name`, or of another of its shape where that is broken."""
        ...


class JointBatches:
    """`batches(step, micro, rank) -> Batch`: clips, tasks, texts and clean frames are drawn from the seed and the step.

    Every rank draws the same tasks in the same order, so that all run the same parts of the model.
    """

    def __init__(
        self,
        config: TrainConfig,
        store: Store,
        codecs: tuple[VideoCodec, AudioCodec],
        text_encoder: TextEncoder,
        tokens_per_frame: int,
        world_size: int,
        tracks: Callable[[int, list[str]], TrackFeatures] | None = None,
        untold: Callable[[str], str] = lambda caption: caption,
        buckets: Mapping[str, Any] | None = None,
    ) -> None:
        """For task mtv: `tracks(step, ids)` drives these clips; `untold(caption)` does not say who speaks.

        `buckets`: of every clip, in the place of the store's `shapes`, where pictures of several sizes are kept apart.
        """
        train = config.train
        self.tracks, self.untold = tracks, untold
        self.config, self.store, self.codecs, self.text_encoder = config, store, codecs, text_encoder
        self.plan = BatchPlan(
            store.shapes() if buckets is None else buckets, config.seed, train.micro_batch, world_size,
            train.gradient_accumulation_steps, train.token_budget, tokens_per_frame,
        )  # fmt: skip

    def __call__(self, step: int, micro: int, rank: int) -> Batch:
        ids = self.plan.at(step, micro, rank)
        drawn = len(ids) if self.config.train.mixed_tasks else 1
        tasks = draw_tasks(self.config.phase_at(step).tasks, self.config.seed, step, micro, drawn)
        return self.build(ids, [str(task) for task in tasks] * (len(ids) // drawn), step)

    def build(self, ids: list[str], tasks: list[str], step: int) -> Batch:
        """The batch of these clips (one bucket) on these tasks; what is random in it is keyed by step and clip."""
        clips = [self.store.get(i) for i in ids]
        texts = [self._texts(clip, Task(task), step) for clip, task in zip(clips, tasks, strict=True)]
        seed, rate = self.config.seed, self.config.clean_frames
        video_clock, audio_clock = self.clocks(clips[0])
        clean = draw_clean_frames(rate, seed, step, ids, len(video_clock))
        free = torch.tensor([Task(task).makes_video for task in tasks]) & ~clean.any(1)
        video, kept = self._keyframes(clips, step, free)
        return Batch(
            step=step,
            ids=ids,
            tasks=tasks,
            video=video,
            audio=torch.stack([clip.audio for clip in clips]),
            text=self.text_encoder.encode([seen for seen, _ in texts]),
            audio_text=self.text_encoder.encode([heard for _, heard in texts]),
            clean_frames=clean | kept,
            video_clock=video_clock,
            audio_clock=audio_clock,
            tracks=self.tracks(step, [clip.id for clip in clips]) if self.tracks and Task.MTV in tasks else None,
        )

    def _keyframes(self, clips: list[Latents], step: int, free: Tensor) -> tuple[Tensor, Tensor]:
        """Video latents [B, C, F, h, w] with stills in the place of keyframes, and where these are, [B, F].

        Only the samples that are `free` have keyframes: they make video, and do not begin with clean frames already.
        """
        video = torch.stack([clip.video for clip in clips])
        config = self.config
        kept = draw_keyframes(config.keyframes, config.seed, step, [clip.id for clip in clips], video.shape[2])
        kept &= free[:, None]
        if kept.any():
            stills = [clip.stills for clip in clips if clip.stills is not None]
            video = torch.where(kept[:, None, :, None, None], torch.stack(stills), video)
        return video, kept

    def clocks(self, clip: Latents) -> tuple[LatentClock, LatentClock]:
        return self.codecs[0].clock(clip.frames, self.config.data.fps), self.codecs[1].clock(clip.samples)

    def _texts(self, clip: Latents, task: Task, step: int) -> tuple[str, str]:
        """What the video and the audio stream read: both lose their text together."""
        config = self.config
        drop, form = torch.rand(2, generator=generator(config.seed, "text", step, clip.id)).tolist()
        if drop < config.text_dropout_for(task.value):
            return "", ""
        if task is Task.MTV:
            hidden = float(torch.rand((), generator=generator(config.seed, "untold", step, clip.id)))
            text = self.untold(clip.caption) if hidden < config.tracks.drop_speaker_prob else clip.caption
            for pattern, rate in config.tracks.drop_from_caption.items():
                if float(torch.rand((), generator=generator(config.seed, "untold", pattern, step, clip.id))) < rate:
                    text = re.sub(pattern, "", text)
            return text, text
        return clip.caption, clip.audio_caption if form < config.audio_caption_rate else clip.caption
