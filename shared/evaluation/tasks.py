"""The tasks of an evaluation: what each is given of each held-out clip, its samples and its scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from shared.codecs import frames_to_tensor
from shared.evaluation.bootstrap import per_clip
from shared.evaluation.held_out import HeldOut, MeasuredClip, batches
from shared.evaluation.sampling import Sampler, SamplingJob
from shared.evaluation.scores import FOLLOWED, SCORES, ClipReading, clip_scores, fixed_times_f1, lags, score_task
from shared.evaluation.track_variants import TrackCase
from shared.puppets.readers import read_sound
from shared.utils.rng import derive


class SamplingSettings(NamedTuple):
    """How to sample: the seed of the noise, solver steps (None: the pipeline's), clips at a time, and the guidance of
    the pipeline that is called."""

    seed: int
    steps: int | None
    batch: int
    guidance: Any

    def arguments(self, task: str, clips: Sequence[int]) -> dict[str, Any]:
        """Arguments that every call has; clip i of a task has noise of its own."""
        steps = {} if self.steps is None else {"num_inference_steps": self.steps}
        return {**steps, "guidance": self.guidance, "seed": [derive(self.seed, "evaluate", task, i) for i in clips]}


class EvaluationTask(NamedTuple):
    """One task: its jobs and, by clip, what it is given, the true readings and, after a swap, those of before."""

    name: str
    jobs: list[SamplingJob]
    given: Mapping[int, MeasuredClip]
    true: Mapping[int, ClipReading]
    before: Mapping[int, ClipReading]


def joint_task(name: str, held_out: HeldOut, settings: SamplingSettings) -> EvaluationTask:
    """t2av, a2v or v2a of every clip, made by a `CCLPipeline` from captions and true sounds or pictures."""
    jobs, rendered = [], held_out.rendered
    for clips in batches(held_out.specs, settings.batch):
        prompts, audio_prompts = zip(*(held_out.captions[i] for i in clips), strict=True)
        given: dict[str, Any] = {"prompt": list(prompts), "audio_prompt": list(audio_prompts)} | settings.arguments(
            name, clips
        )
        if name == "a2v":
            given["audio"] = torch.from_numpy(np.stack([rendered[i].sound for i in clips]))[:, None]
        if name == "v2a":
            given["video"] = frames_to_tensor(torch.from_numpy(np.stack([rendered[i].frames for i in clips])))
        specs = [held_out.specs[i] for i in clips]
        given |= {"task": name, "duration": specs[0].duration}
        jobs.append(SamplingJob(clips, specs, "joint", given))
    return EvaluationTask(name, jobs, dict(enumerate(rendered)), dict(enumerate(held_out.true(name))), {})


def track_task(
    name: str, pipeline: Any, held_out: HeldOut, cases: Sequence[TrackCase], tracks_of: Callable[[TrackCase], Any],
    settings: SamplingSettings,
) -> EvaluationTask:  # fmt: skip
    """Task mtv or a variant of it, made by an `MTVPipeline`; `tracks_of` gives a case's tracks as it takes them.

    Clip i has the same noise in all of them, so that what changes with a track is the track's doing.
    """
    jobs = []
    for rows in batches([case.spec for case in cases], settings.batch):
        some = [cases[row] for row in rows]
        clips = [case.index for case in some]
        given = {"prompt": [case.caption for case in some], "tracks": [tracks_of(case) for case in some]}
        jobs.append(SamplingJob(clips, [case.spec for case in some], "mtv", given | settings.arguments("mtv", clips)))
    given_clips, true, before = {}, {}, {}
    for case in cases:
        i, coded, rate = case.index, held_out.coded[case.index], case.spec.rate
        audio = read_sound(case.mix, rate)
        given_clips[i] = replace(coded, sound=case.mix, rate=rate, audio=audio)
        true[i] = ClipReading(case.spec, held_out.true_video(pipeline, case), audio)
        if name in FOLLOWED:
            before[i] = ClipReading(case.spec, coded.video, audio)
    return EvaluationTask(name, jobs, given_clips, true, before)


def measure(
    task: EvaluationTask, held_out: HeldOut, sampler: Sampler, seed: int, level: str
) -> tuple[dict[int, MeasuredClip], dict[str, Any]]:
    """Sample a task and score it: each clip as measured, with what the task is given as it was, and what metrics.json
    holds of the task."""
    started = time.monotonic()
    clips = {i: replace(task.given[i], **sampled) for i, sampled in sampler.sample(task.jobs, task.name).items()}
    order = sorted(clips)
    true = [task.true[i] for i in order]
    own = [ClipReading(reading.spec, clips[i].video, clips[i].audio) for i, reading in zip(order, true, strict=True)]
    before = [task.before[i] for i in order if i in task.before]
    scores = score_task(task.name, own, true, seed, before)
    by_clip = dict(zip(order, map(clip_scores, own), strict=True))
    return clips, {
        "clips": len(own), "scores": {name: asdict(value) for name, value in scores.items()},
        "fixed_times_f1": fixed_times_f1([reading.spec for reading in own], level),
        "lag_ms": lags(own), "ceiling_lag_ms": lags(true),
        "per_clip": per_clip(SCORES[task.name], by_clip, len(held_out.specs)),
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
