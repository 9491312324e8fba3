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
from shared.evaluation.options import EvaluationOptions
from shared.evaluation.sampling import Loader, Sampler, SamplingJob
from shared.evaluation.scores import FOLLOWED, SCORES, ClipReading, clip_scores, fixed_times_f1, lags, score_task
from shared.evaluation.track_variants import Reword, Separate, TrackCase
from shared.puppets.readers import read_sound
from shared.utils.rng import derive


class TrackTools(NamedTuple):
    """What audio-driven video brings along; the first gives a case's tracks as the pipeline takes them."""

    tracks_of: Callable[[TrackCase], Any]
    without_speaker: Reword
    separate: Separate


class EvaluatedModel(NamedTuple):
    """Pipelines by name, "joint" and "mtv", the guidance of each, and a loader of the same for another process."""

    pipelines: Mapping[str, Any]
    guidance: Mapping[str, Any]
    load: Loader
    track_tools: TrackTools | None = None


class EvaluationTask(NamedTuple):
    """One task: its jobs and, by clip, what it is given, the true readings and, after a swap, those of before."""

    name: str
    jobs: list[SamplingJob]
    given: Mapping[int, MeasuredClip]
    true: Mapping[int, ClipReading]
    before: Mapping[int, ClipReading]


def joint_task(name: str, model: EvaluatedModel, held_out: HeldOut, options: EvaluationOptions) -> EvaluationTask:
    """t2av, a2v or v2a of every clip, made by a `CCLPipeline` from captions and true sounds or pictures."""
    jobs, rendered = [], held_out.rendered
    for clips in batches(held_out.specs, options.batch):
        call = arguments(options, model.guidance["joint"], name, clips)
        prompts, audio_prompts = zip(*(held_out.captions[i] for i in clips), strict=True)
        specs = [held_out.specs[i] for i in clips]
        call |= {"prompt": list(prompts), "audio_prompt": list(audio_prompts), "task": name}
        call["duration"] = specs[0].duration
        if name == "a2v":
            call["audio"] = torch.from_numpy(np.stack([rendered[i].sound for i in clips]))[:, None]
        if name == "v2a":
            call["video"] = frames_to_tensor(torch.from_numpy(np.stack([rendered[i].frames for i in clips])))
        jobs.append(SamplingJob(clips, specs, "joint", call))
    return EvaluationTask(name, jobs, dict(enumerate(rendered)), dict(enumerate(held_out.true(name))), {})


def track_task(
    name: str, model: EvaluatedModel, held_out: HeldOut, cases: Sequence[TrackCase], options: EvaluationOptions
) -> EvaluationTask:
    """Task mtv or a variant of it, made by an `MTVPipeline`.

    Clip i has the same noise in all of them, so that what changes with a track is the track's doing.
    """
    assert model.track_tools is not None, "mtv needs the track tools"
    jobs, given, true, before = [], {}, {}, {}
    for rows in batches([case.spec for case in cases], options.batch):
        some = [cases[row] for row in rows]
        clips = [case.index for case in some]
        call = arguments(options, model.guidance["mtv"], "mtv", clips)
        call["prompt"] = [case.caption for case in some]
        call["tracks"] = [model.track_tools.tracks_of(case) for case in some]
        jobs.append(SamplingJob(clips, [case.spec for case in some], "mtv", call))
    for case in cases:
        i, coded, rate = case.index, held_out.coded[case.index], case.spec.rate
        audio = read_sound(case.mix, rate)
        given[i] = replace(coded, sound=case.mix, rate=rate, audio=audio)
        true[i] = ClipReading(case.spec, held_out.true_video(model.pipelines["mtv"], case), audio)
        if name in FOLLOWED:
            before[i] = ClipReading(case.spec, coded.video, audio)
    return EvaluationTask(name, jobs, given, true, before)


def arguments(options: EvaluationOptions, guidance: Any, task: str, clips: Sequence[int]) -> dict[str, Any]:
    """Arguments that every call of a pipeline has; clip i of a task has noise of its own."""
    steps = {} if options.steps is None else {"num_inference_steps": options.steps}
    return {**steps, "guidance": guidance, "seed": [derive(options.seed, "evaluate", task, i) for i in clips]}


def measure(
    task: EvaluationTask, held_out: HeldOut, sampler: Sampler, options: EvaluationOptions
) -> tuple[dict[int, MeasuredClip], dict[str, Any]]:
    """Sample a task and score it: each clip as measured, with what the task is given as it was, and what metrics.json
    holds of the task."""
    started = time.monotonic()
    clips = {i: replace(task.given[i], **sampled) for i, sampled in sampler.sample(task.jobs, task.name).items()}
    order = sorted(clips)
    true = [task.true[i] for i in order]
    own = [ClipReading(reading.spec, clips[i].video, clips[i].audio) for i, reading in zip(order, true, strict=True)]
    before = [task.before[i] for i in order if i in task.before]
    scores = score_task(task.name, own, true, options.seed, before)
    by_clip = dict(zip(order, map(clip_scores, own), strict=True))
    return clips, {
        "clips": len(own), "scores": {name: asdict(value) for name, value in scores.items()},
        "fixed_times_f1": fixed_times_f1([reading.spec for reading in own], options.level),
        "lag_ms": lags(own), "ceiling_lag_ms": lags(true),
        "per_clip": per_clip(SCORES[task.name], by_clip, len(held_out.specs)),
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
