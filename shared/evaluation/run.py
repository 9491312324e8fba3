"""An evaluation as a whole: tasks and variants of the held-out clips, sampled, scored, compared and written."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from shared.codecs import frames_to_tensor
from shared.evaluation.bootstrap import compare_tasks, per_clip
from shared.evaluation.held_out import HeldOut, Loader, MeasuredClip, Sampler, SamplingJob, TaskSamples, batches
from shared.evaluation.kept_samples import KeptSamples
from shared.evaluation.measures import MEASURES, SceneClip, measure_clips, streams
from shared.evaluation.options import EvaluationOptions
from shared.evaluation.report import summary, write_report
from shared.evaluation.scores import FOLLOWED, SCORES, ClipReading, clip_scores, fixed_times_f1, lags, score_task
from shared.evaluation.seams import around, retaken, seam_scores
from shared.evaluation.sheet import SHEET, sheet_jobs, write_sheet
from shared.evaluation.shots import SHOTS, HeldOutShots, by_shot, cut_scores, joined
from shared.evaluation.track_variants import BASE, Reword, Separate, TrackCase, true_tracks, variants
from shared.puppets.script import HELD_OUT_SEED, Spec
from shared.puppets.sound import synthesise
from shared.utils.files import write_json
from shared.utils.portable import portable
from shared.utils.rng import derive

SHOWN, VARIANTS_SHOWN, SHOWS_SHOWN = 24, 6, 12
"""Clips on the page, those of them that show the variants of mtv too, and shows of several shots."""

FROM_TEXT = {"i2av": "t2av", "i2v": "t2v", "retake": "t2av"}
"""The pipeline's task of those that only give it more."""


class TrackTools(NamedTuple):
    """What audio-driven video brings along; the first gives a case's tracks as the pipeline takes them."""

    tracks_of: Callable[[TrackCase], Any]
    without_speaker: Reword
    separate: Separate


class EvaluatedModel(NamedTuple):
    """Pipelines by name, "joint" and "mtv", the guidance of each, and a loader of the same for another process;
    `timed`: makes a prompt over time of seconds and texts."""

    pipelines: Mapping[str, Any]
    guidance: Mapping[str, Any]
    load: Loader
    track_tools: TrackTools | None = None
    timed: Callable[[tuple[float, ...], tuple[str, ...]], Any] | None = None


class EvaluationTask(NamedTuple):
    """One task: its jobs and, by clip, its script, what it is given, the true clip and, after a swap, the true readings
    of before; the seconds of seams between what is given and what is made."""

    name: str
    jobs: list[SamplingJob]
    specs: Mapping[int, Spec]
    given: Mapping[int, MeasuredClip]
    true: Mapping[int, MeasuredClip]
    before: Mapping[int, ClipReading]
    seams: Mapping[int, Sequence[float]] | None = None


def evaluate(
    model: EvaluatedModel, options: EvaluationOptions, against: Mapping[str, Any] | None = None,
    kept: KeptSamples | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Sample and score every task; write metrics.json and index.html, and return what the first holds. What `kept` has
    is not sampled again."""
    begun = time.monotonic()
    pipeline = next(iter(model.pipelines.values()))
    of_one_shot = 0 if options.tasks == ("shots",) else options.clips
    how = options.seconds, options.held_out, options.held_out_twins
    look = options.style, options.conflict, options.name_style
    held_out = HeldOut.make(pipeline, options.level, of_one_shot, *how, options.each, *look)
    shots = HeldOutShots.make(pipeline, options.clips, *how) if "shots" in (options.tasks or ()) else None
    metrics: dict[str, Any] = {"config": _config(model, options), "tasks": {}}
    metrics["measures"] = {name: measure._asdict() for name, measure in MEASURES.items()}
    tasks, measured = metrics["tasks"], {}
    workers = options.workers or (os.cpu_count() or 1 if pipeline.device.type == "cpu" else 1)
    every = [*_tasks(model, held_out, shots, options)]
    sheet = sheet_jobs(held_out, options.batch) if options.sheet else []
    with Sampler(model.pipelines, model.load, workers, kept) as sampler:
        sampled = sampler.sample([*(job for task in every for job in task.jobs), *sheet])
        for task in every:
            clips = shots if task.name == "shots" and shots is not None else held_out
            measured[task.name], tasks[task.name] = measure(task, sampled[task.name], clips, options)
            if task.name == "part":
                tasks["part:given"] = against_given(task, sampled["part"], held_out, options)
        _compare(metrics, options, against)
        metrics["seconds"] = round(time.monotonic() - begun, 1)
        entries = [*_entries(held_out, measured), *_show_entries(shots, sampled, measured)]
        write_report(options.output / "index.html", metrics, entries, sampler.map)
    if options.sheet is not None:
        write_sheet(options.sheet, held_out, sampled[SHEET])
    write_json(options.output / "metrics.json", metrics)
    print(summary(metrics))
    print(f"{options.output / 'metrics.json'}\n{options.output / 'index.html'}")
    return metrics


def _compare(metrics: dict[str, Any], options: EvaluationOptions, against: Mapping[str, Any] | None) -> None:
    """Add the differences of each variant of mtv from its base, the same clips before the swap, and of all `against`
    another evaluation."""
    tasks = metrics["tasks"]
    for name, result in tasks.items():
        if name.startswith("mtv:"):
            base = BASE.get(name, "mtv")
            pairs = (result, tasks[base]), (result["measures"], tasks[base]["measures"])
            scores, measures = (compare_tasks(new, old, options.seed) for new, old in pairs)
            result["paired"] = {"base": base, "scores": scores, "measures": measures}
    if against is not None:
        both = [name for name in tasks if name in against["tasks"]]
        compared = {name: compare_tasks(tasks[name], against["tasks"][name], options.seed) for name in both}
        measured = {
            name: compare_tasks(tasks[name]["measures"], against["tasks"][name]["measures"], options.seed)
            for name in both
            if "measures" in against["tasks"][name]
        }
        metrics["against"] = {"file": portable(options.against), "tasks": compared, "measures": measured}


def _tasks(
    model: EvaluatedModel, held_out: HeldOut, shots: HeldOutShots | None, options: EvaluationOptions
) -> Iterator[EvaluationTask]:
    """Tasks; shots and mtv are last, then those of its variants for which a clip is fit."""
    tasks, tools = options.tasks or (), model.track_tools
    for name in (name for name in tasks if name not in ("shots", "mtv")):
        made = joint_task(name, model, held_out, options)
        if made.jobs:
            yield made
        else:
            print(f"{name}: left out, nobody speaks in the {len(held_out.specs)} clips")
    if shots is not None:
        yield shots_task(model, shots, options)
    if "mtv" not in tasks:
        return
    assert tools is not None, "mtv needs the track tools"
    own = true_tracks(held_out.specs, model.pipelines["mtv"].audio_encoder.sample_rate)
    names = [name.replace("-", " ") for name in options.variants or ()]
    swapped = variants(own, names, tools.without_speaker, tools.separate)
    for name in names:
        if f"mtv:{name}" not in swapped:
            print(f"mtv:{name}: left out, none of the {len(own)} clips is fit for it")
    for task, cases in {"mtv": own, **swapped}.items():
        yield track_task(task, model, held_out, cases, options)


def joint_task(name: str, model: EvaluatedModel, held_out: HeldOut, options: EvaluationOptions) -> EvaluationTask:
    """One of JOINT_TASKS of every clip, made by a `CCLPipeline` from captions and what is true."""
    jobs, rendered, seams = [], held_out.rendered, dict[int, Sequence[float]]()
    fit = [i for i, spec in enumerate(held_out.specs) if name != "part" or any(c.syllables for c in spec.characters)]
    for rows in batches([held_out.specs[i] for i in fit], options.batch):
        clips = [fit[row] for row in rows]  # a part has the noise of a2v, which it is compared with
        call = arguments(options, model.guidance["joint"], "a2v" if name == "part" else name, clips)
        prompts, audio_prompts = zip(*(held_out.captions[i] for i in clips), strict=True)
        specs = [held_out.specs[i] for i in clips]
        call |= {
            "prompt": list(prompts),
            "audio_prompt": list(audio_prompts),
            "task": FROM_TEXT.get(name, name),
        }
        call["duration"] = specs[0].duration
        if options.as_users_do:
            del call["guidance"], call["audio_prompt"]
        if name == "a2v":
            call["audio"] = torch.from_numpy(np.stack([rendered[i].sound for i in clips]))[:, None]
        if name == "part":
            call["given_speech"] = np.stack([speech_of(spec) for spec in specs])[:, None], specs[0].rate
        if name in ("v2a", "retake"):
            call["video"] = frames_to_tensor(torch.from_numpy(np.stack([rendered[i].frames for i in clips])))
        if name == "retake":
            call |= _retake(model.pipelines["joint"], [rendered[i] for i in clips], specs[0])
            seams |= dict.fromkeys(clips, (call["keep"][0][1], call["keep"][1][0]))
        if name.startswith("i2"):
            first = frames_to_tensor(torch.from_numpy(np.stack([rendered[i].frames[:1] for i in clips])))
            call["image"] = first[:, :, 0]
        jobs.append(SamplingJob(name, clips, specs, "joint", call, options.as_users_do))
    scripts, true = dict(enumerate(held_out.specs)), dict(enumerate(held_out.true(name)))
    return EvaluationTask(name, jobs, scripts, dict(enumerate(rendered)), true, {}, seams or None)


def _retake(pipeline: Any, clips: Sequence[MeasuredClip], spec: Spec) -> dict[str, Any]:
    """Arguments of a call that keeps both streams of true clips but for seconds in the middle."""
    start, end = retaken(pipeline.video_codec.clock(spec.frames, spec.fps))
    sound = torch.from_numpy(np.stack([clip.sound for clip in clips]))[:, None]
    return {"audio": sound, "keep": [(0.0, start), (end, spec.duration)]}


def speech_of(spec: Spec) -> NDArray[np.float32]:
    """All speech of a script, [N]."""
    voices = [stem for name, stem in synthesise(spec).items() if name.startswith("speech")]
    return np.sum(voices, axis=0, dtype=np.float32)


def against_given(
    task: EvaluationTask, samples: TaskSamples, held_out: HeldOut, options: EvaluationOptions
) -> dict[str, Any]:
    """Score the pictures that were made for a given part against the true sound, which has this part: as a2v is."""
    pictures = {i: {name: made[name] for name in ("frames", "video", "scene")} for i, made in samples.clips.items()}
    true = dict(enumerate(held_out.true("a2v")))
    return measure(task._replace(name="part:given", true=true), samples._replace(clips=pictures), held_out, options)[1]


def shots_task(model: EvaluatedModel, held_out: HeldOutShots, options: EvaluationOptions) -> EvaluationTask:
    """Task t2av of every show of two shots, from its captions over time; its shots are the clips that are measured."""
    assert model.timed is not None, "shots need prompts over time"
    jobs = []
    for clips in batches(held_out.whole, options.batch):
        call = arguments(options, model.guidance["joint"], "shots", clips)
        texts = [held_out.texts(i) for i in clips]
        call["prompt"] = [model.timed(starts, seen) for starts, seen, _ in texts]
        call["audio_prompt"] = [model.timed(starts, heard) for starts, _, heard in texts]
        call |= {"task": "t2av", "duration": held_out.whole[clips[0]].duration}
        if options.as_users_do:
            del call["guidance"], call["audio_prompt"]
        specs, shows = [held_out.whole[i] for i in clips], [held_out.shows[i] for i in clips]
        jobs.append(SamplingJob("shots", clips, specs, "joint", call, options.as_users_do, shows))
    coded = dict(enumerate(held_out.coded))
    return EvaluationTask("shots", jobs, dict(enumerate(held_out.specs)), coded, coded, {})


def track_task(
    name: str, model: EvaluatedModel, held_out: HeldOut, cases: Sequence[TrackCase], options: EvaluationOptions
) -> EvaluationTask:
    """Task mtv or a variant of it by an `MTVPipeline`; clip i has the same noise in all, so only tracks differ."""
    assert model.track_tools is not None, "mtv needs the track tools"
    jobs, true, before = [], {}, {}
    for rows in batches([case.spec for case in cases], options.batch):
        some = [cases[row] for row in rows]
        clips = [case.index for case in some]
        call = arguments(options, model.guidance["mtv"], "mtv", clips)
        call["prompt"] = [case.caption for case in some]
        call["tracks"] = [model.track_tools.tracks_of(case) for case in some]
        jobs.append(SamplingJob(name, clips, [case.spec for case in some], "mtv", call))
    for case in cases:
        true[case.index] = held_out.true_driven(model.pipelines["mtv"], case)
        if name in FOLLOWED:
            audio = true[case.index].audio
            before[case.index] = ClipReading(case.spec, held_out.coded[case.index].video, audio)
    return EvaluationTask(name, jobs, {case.index: case.spec for case in cases}, true, true, before)


def arguments(options: EvaluationOptions, guidance: Any, task: str, clips: Sequence[int]) -> dict[str, Any]:
    """Arguments that every call of a pipeline has; clip i of a task has noise of its own."""
    steps = {} if options.steps is None else {"num_inference_steps": options.steps}
    return {**steps, "guidance": guidance, "seed": [derive(options.seed, "evaluate", task, i) for i in clips]}


def measure(
    task: EvaluationTask, samples: TaskSamples, held_out: HeldOut | HeldOutShots, options: EvaluationOptions
) -> tuple[dict[int, MeasuredClip], dict[str, Any]]:
    """Score a task: each clip (of shows, each shot) with what it was given, and what metrics.json holds of the task."""
    of_shots = task.name == "shots"
    made = by_shot(samples.clips) if of_shots else samples.clips
    clips = {i: replace(task.given[i], **sampled) for i, sampled in made.items()}
    order, pairs = sorted(clips), (clips, task.true)
    own, true = ([ClipReading(task.specs[i], some[i].video, some[i].audio) for i in order] for some in pairs)
    before = [task.before[i] for i in order if i in task.before]
    scores = score_task(task.name, own, true, options.seed, before)
    by_clip = dict(zip(order, map(clip_scores, own), strict=True))
    both = len(streams(task.name).there) == 2
    near = [around(task.specs[i].frames, task.specs[i].fps, task.seams[i]) for i in order] if task.seams else None
    scenes = [[SceneClip(task.specs[i], some[i].scene, some[i].audio) for i in order] for some in pairs]
    evaluations = samples.evaluations / len(samples.clips) if samples.evaluations else None
    return clips, {
        "clips": len(own), "scores": {name: asdict(value) for name, value in scores.items()},
        "fixed_times_f1": None if of_shots else fixed_times_f1([reading.spec for reading in own], options.level),
        "lag_ms": lags(own if both else []), "ceiling_lag_ms": lags(true if both else []),
        "per_clip": per_clip(SCORES[task.name], by_clip, len(held_out.specs)),
        "measures": measure_clips(task.name, scenes[0], scenes[1], order, held_out.cell, options.seed),
        "seconds": round(samples.seconds, 3), "evaluations": evaluations,
        **({"cut": cut_scores(scenes[0], scenes[1], order, options.seed)} if of_shots else {}),
        **({"cut": seam_scores(scenes[0], scenes[1], near, order, options.seed)} if near else {}),
    }  # fmt: skip


def _entries(held_out: HeldOut, measured: Mapping[str, Mapping[int, MeasuredClip]]) -> Iterator[dict[str, Any]]:
    """Clips of the page."""
    for i, (spec, (text, sounds)) in enumerate(zip(held_out.specs[:SHOWN], held_out.captions, strict=False)):
        tasks = [task for task in measured if i in measured[task] and (":" not in task or i < VARIANTS_SHOWN)]
        clips = {task: measured[task][i] for task in tasks}
        yield {"id": spec.id, "caption": text, "audio_caption": sounds, "clips": clips}


def _show_entries(
    shots: HeldOutShots | None, sampled: Mapping[str, TaskSamples], measured: Mapping[str, Mapping[int, MeasuredClip]]
) -> Iterator[dict[str, Any]]:
    """Clips of the page that are shows, each as one clip with its captions and the seconds from which they hold."""
    for i in range(0 if shots is None else min(SHOWS_SHOWN, len(shots.shows))):
        assert shots is not None
        starts, seen, heard = shots.texts(i)
        texts = [" ".join(f"[{t:g} s] {text}" for t, text in zip(starts, some, strict=True)) for some in (seen, heard)]
        whole, parts = sampled["shots"].clips[i], [measured["shots"][SHOTS * i + k] for k in range(SHOTS)]
        clip = joined(parts, whole["frames"], whole["sound"])
        yield {"id": shots.whole[i].id, "caption": texts[0], "audio_caption": texts[1], "clips": {"shots": clip}}


def _config(model: EvaluatedModel, options: EvaluationOptions) -> dict[str, Any]:
    config: dict[str, Any] = {
        "checkpoint": portable(options.checkpoint), "suite": options.suite, "level": options.level,
        "clips": options.clips, "held_out_seed": HELD_OUT_SEED, "seed": options.seed,
        "steps": options.steps or "the pipeline's",
    }  # fmt: skip
    if "joint" in model.guidance:
        config["guidance"] = asdict(model.guidance["joint"])
    if "mtv" in model.guidance:
        config |= {"track_guidance": asdict(model.guidance["mtv"]), "variants": list(options.variants or ())}
    asked: dict[str, Any] = {"seconds": options.seconds, "fps": options.fps, "as_users_do": options.as_users_do or None}
    others = "held_out", "held_out_twins", "each", "step_cache", "conflict", "name_style"
    asked |= {name: getattr(options, name) or None for name in others}
    asked["style"] = None if options.style == "stage" else options.style
    config |= {name: value for name, value in asked.items() if value is not None}
    return config | {"no_context": options.no_context, "tasks": list(options.tasks or ())}
