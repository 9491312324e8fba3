"""Micro-batches of the joint objective, as a pure function of (step, micro-step, rank)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ccl.parts import draw_track
from ccl.routing import Task
from ccl.spans import draw_spans
from ccl.training.objective import Batch, draw_clean_frames, draw_keyframes
from mtv.captions import drop_speaker
from mtv.control import TrackFeatures
from shared.codecs import Codecs
from shared.data.bucketing import BatchPlan, draw_tasks
from shared.data.clip_texts import audio_text, video_text
from shared.data.latents import Latents
from shared.data.shards import LatentShards
from shared.encoders import TextEncoder
from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.timed_text import text_over_time
from shared.utils.config import TrainConfig
from shared.utils.rng import generator

AHEAD = 4  # steps whose clips are read from an object store while one is made


class ClipBatches:
    """`build(ids, tasks, step)`: a batch of these clips, in which all that is random is keyed by seed, step and clip.
    For task mtv `tracks(step, ids)` drives them."""

    def __init__(
        self, config: TrainConfig, latents: LatentShards, codecs: Codecs, text_encoder: TextEncoder,
        tracks: Callable[[int, list[str]], TrackFeatures] | None = None,
    ) -> None:  # fmt: skip
        self.config, self.latents, self.codecs, self.text_encoder = config, latents, codecs, text_encoder
        self.tracks, self.guided = tracks, config.distill is not None and config.distill.teacher is not None

    def build(self, ids: list[str], tasks: list[str], step: int) -> Batch:
        """Make the batch of these clips (one bucket) on these tasks; what is random in it is keyed by step and clip."""
        clips = [self.latents.get(i) for i in ids]
        texts = [self._texts(clip, Task(task), step) for clip, task in zip(clips, tasks, strict=True)]
        config, names = self.config, [clip.id for clip in clips]
        video_clock = self.codecs.video.clock(clips[0].frames, clips[0].fps or config.data.fps)
        audio_clock = self.codecs.audio.clock(clips[0].samples)
        clean = draw_clean_frames(config.clean_frames, config.seed, step, ids, len(video_clock))
        video = torch.stack([clip.video for clip in clips])
        # keyframes, images that stand still: of samples that make video and do not begin with clean frames already
        free = torch.tensor([Task(task).route.video_noisy for task in tasks]) & ~clean.any(1)
        keyframes = draw_keyframes(config.keyframes, config.seed, step, names, video.shape[2]) & free[:, None]
        if keyframes.any():
            images = [clip.keyframe_latents for clip in clips if clip.keyframe_latents is not None]
            video = torch.where(keyframes[:, None, :, None, None], torch.stack(images), video)
        clean, spans = clean | keyframes, None
        if config.clean_spans > 0:  # of samples in whose video nothing is clean yet, or is no matter
            video_spans, spans = draw_spans(
                config.clean_spans, config.seed, step, ids, tasks, (video_clock, audio_clock)
            )
            taken = clean.any(1) & torch.tensor([Task(task).route.video_noisy for task in tasks])
            clean, spans = clean | video_spans & ~taken[:, None], spans & ~taken[:, None]
        part, part_track = self._parts(clips, tasks, step)
        return Batch(
            step=step, ids=ids, tasks=tasks,
            video=video, audio=torch.stack([clip.audio for clip in clips]),
            text=text_over_time([of_video for of_video, _ in texts], video_clock, self.text_encoder.encode),
            audio_text=text_over_time([of_audio for _, of_audio in texts], audio_clock, self.text_encoder.encode),
            clean_frames=clean, clean_tokens=spans, part=part, part_track=part_track,
            video_clock=video_clock, audio_clock=audio_clock,
            tracks=self.tracks(step, names) if self.tracks and Task.MTV in tasks else None,
            empty_text=self.text_encoder.encode([""] * len(clips)) if self.guided else None,
        )  # fmt: skip

    def _parts(self, clips: list[Latents], tasks: list[str], step: int) -> tuple[Tensor | None, Tensor | None]:
        """Given tracks [B, A, C] and which they are [B], of the samples on task part; None where there are none."""
        if Task.PART not in tasks:
            return None, None
        given, tracks, known = [torch.zeros_like(clip.audio) for clip in clips], [0] * len(clips), self.config.parts
        for row, (clip, task) in enumerate(zip(clips, tasks, strict=True)):
            if task == Task.PART:
                there = [name for name in known if name in clip.parts]
                name = draw_track(self.config.seed, step, clip.id, there)
                given[row], tracks[row] = clip.parts[name], known.index(name)
        return torch.stack(given), torch.tensor(tracks)

    def _texts(self, clip: Latents, task: Task, step: int) -> tuple[TimedPrompts, TimedPrompts]:
        """Texts of the video and the audio stream: both lose all of their text together."""
        config = self.config
        drop, form = torch.rand(2, generator=generator(config.seed, "text", step, clip.id)).tolist()
        if drop < config.text_dropout_for(task.value):
            return TimedPrompts.of(""), TimedPrompts.of("")
        text = video_text(clip) if config.routes_text else TimedPrompts.of(clip.caption)
        if task is Task.MTV:
            hidden = float(torch.rand((), generator=generator(config.seed, "untold", step, clip.id)))
            text = text.changed(drop_speaker) if hidden < config.tracks.drop_speaker_prob else text
            for pattern, rate in config.tracks.drop_from_caption.items():
                if float(torch.rand((), generator=generator(config.seed, "untold", pattern, step, clip.id))) < rate:
                    text = text.changed(partial(re.sub, pattern, ""))
            return text, text
        return text, audio_text(clip) if form < config.audio_caption_rate else text


class JointBatches(ClipBatches):
    """`batches(step, micro, rank) -> Batch`: clips, tasks, texts and clean frames are drawn from the seed and the step.
    Every rank draws the same tasks in the same order, so that all run the same parts of the model."""

    def __init__(
        self, config: TrainConfig, latents: LatentShards, codecs: Codecs, text_encoder: TextEncoder,
        tokens_per_frame: int, world_size: int,
        tracks: Callable[[int, list[str]], TrackFeatures] | None = None, buckets: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """`buckets`: of every clip, else its shape."""
        super().__init__(config, latents, codecs, text_encoder, tracks)
        train = config.train
        self.plan = BatchPlan(
            latents.shapes() if buckets is None else buckets, config.seed, train.micro_batch, world_size,
            train.gradient_accumulation_steps, train.token_budget, tokens_per_frame,
        )  # fmt: skip

    def __call__(self, step: int, micro: int, rank: int) -> Batch:
        ids = self.plan.at(step, micro, rank)
        self.latents.read_ahead(i for k in range(AHEAD) for i in self.plan.at(step + k, micro, rank))
        drawn = len(ids) if self.config.train.mixed_tasks else 1
        tasks = draw_tasks(self.config.phase_at(step).tasks, self.config.seed, step, micro, drawn)
        batch = self.build(ids, [str(task) for task in tasks] * (len(ids) // drawn), step)
        return replace(batch, clips=self.plan.clips_per_micro(step))
