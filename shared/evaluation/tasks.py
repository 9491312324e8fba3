"""The trials of an evaluation: what each task is given of each held-out clip, its samples and its scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from shared.codecs import frames_to_tensor
from shared.evaluation.comparison import per_clip
from shared.evaluation.held_out import HeldOut, MeasuredClip, batches
from shared.evaluation.sampling import Job, Sampler
from shared.evaluation.scores import FOLLOWS, MADE, ClipReading, clip_scores, fixed_times_f1, lags, score_task
from shared.evaluation.track_variants import Probe
from shared.puppets.readers import read_sound
from shared.utils.rng import derive


@dataclass(frozen=True)
class Plan:
    """How to sample: the seed of the noise, solver steps (None: the pipeline's), clips at a time, and the guidance of
    the pipeline that is called."""

    seed: int
    steps: int | None
    batch: int
    guidance: Any

    def arguments(self, task: str, clips: Sequence[int]) -> dict[str, Any]:
        """What every call has; clip i of a task has noise of its own."""
        steps = {} if self.steps is None else {"num_inference_steps": self.steps}
        return {**steps, "guidance": self.guidance, "seed": [derive(self.seed, "evaluate", task, i) for i in clips]}


@dataclass(frozen=True)
class Trial:
    """One task: its jobs and, by clip, what it is given, the true readings and, after a swap, those of before."""

    task: str
    jobs: list[Job]
    given: Mapping[int, MeasuredClip]
    true: Mapping[int, ClipReading]
    before: Mapping[int, ClipReading]


def joint_trial(task: str, held_out: HeldOut, plan: Plan) -> Trial:
    """t2av, a2v or v2a of every clip, made by a `CCLPipeline` from captions and true sounds or pictures."""
    jobs = [_joint_job(task, held_out, clips, plan) for clips in batches(held_out.specs, plan.batch)]
    return Trial(task, jobs, dict(enumerate(held_out.rendered)), dict(enumerate(held_out.true(task))), {})


def _joint_job(task: str, held_out: HeldOut, clips: list[int], plan: Plan) -> Job:
    given: dict[str, Any] = {}
    if task == "a2v":
        given["audio"] = torch.from_numpy(np.stack([held_out.rendered[i].sound for i in clips]))[:, None]
    if task == "v2a":
        given["video"] = frames_to_tensor(torch.from_numpy(np.stack([held_out.rendered[i].frames for i in clips])))
    given |= {
        "prompt": [held_out.captions[i][0] for i in clips],
        "audio_prompt": [held_out.captions[i][1] for i in clips],
        "task": task,
        "duration": held_out.specs[clips[0]].duration,
    }
    return Job(clips, [held_out.specs[i] for i in clips], "joint", given | plan.arguments(task, clips))


def track_trial(
    task: str, pipeline: Any, held_out: HeldOut, probes: Sequence[Probe], tracks_of: Callable[[Probe], Any], plan: Plan
) -> Trial:
    """mtv or a variant of it, made by an `MTVPipeline`; `tracks_of` gives a probe's tracks as it takes them.

    Clip i has the same noise in all of them, so that what changes with a track is the track's doing.
    """
    jobs = []
    for rows in batches([probe.spec for probe in probes], plan.batch):
        some = [probes[row] for row in rows]
        clips = [probe.index for probe in some]
        given = {"prompt": [probe.caption for probe in some], "tracks": [tracks_of(probe) for probe in some]}
        jobs.append(Job(clips, [probe.spec for probe in some], "mtv", given | plan.arguments("mtv", clips)))
    takes, true, before = {}, {}, {}
    for probe in probes:
        i, coded = probe.index, held_out.coded[probe.index]
        heard = read_sound(probe.mix, probe.spec.rate)
        takes[i] = MeasuredClip(coded.frames, probe.mix, probe.spec.rate, coded.seen, heard)
        true[i] = ClipReading(probe.spec, held_out.true_seen(pipeline, probe), heard)
        if task in FOLLOWS:
            before[i] = ClipReading(probe.spec, coded.seen, heard)
    return Trial(task, jobs, takes, true, before)


def measure(
    trial: Trial, held_out: HeldOut, sampler: Sampler, seed: int, level: str
) -> tuple[dict[int, MeasuredClip], dict[str, Any]]:
    """Sample a task and score it: a `MeasuredClip` per clip, and what metrics.json holds of the task. What the task is given
    is carried over unchanged."""
    started, takes = time.monotonic(), {}
    for i, made in sampler.sample(trial.jobs, trial.task).items():
        old = trial.given[i]
        frames = old.frames if made.frames is None else made.frames
        sound = old.sound if made.sound is None else made.sound
        takes[i] = MeasuredClip(frames, sound, old.rate, made.seen or old.seen, made.heard or old.heard)
    order = sorted(takes)
    true = [trial.true[i] for i in order]
    own = [ClipReading(reading.spec, takes[i].seen, takes[i].heard) for i, reading in zip(order, true, strict=True)]
    before = [trial.before[i] for i in order if i in trial.before]
    scores = score_task(trial.task, own, true, seed, before)
    by_clip = dict(zip(order, map(clip_scores, own), strict=True))
    return takes, {
        "clips": len(own),
        "scores": {name: asdict(value) for name, value in scores.items()},
        "fixed_times_f1": fixed_times_f1([reading.spec for reading in own], level),
        "lag_ms": lags(own),
        "ceiling_lag_ms": lags(true),
        "per_clip": per_clip(MADE[trial.task], by_clip, len(held_out.specs)),
        "seconds": round(time.monotonic() - started, 1),
    }
