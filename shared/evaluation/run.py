"""An evaluation as a whole: tasks and variants of the held-out clips, sampled, scored, compared and written."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from shared.evaluation.bootstrap import compare_tasks
from shared.evaluation.held_out import HeldOut, MeasuredClip
from shared.evaluation.options import EvaluationOptions
from shared.evaluation.report import Entry, summary, write_report
from shared.evaluation.sampling import Sampler
from shared.evaluation.tasks import EvaluatedModel, EvaluationTask, joint_task, measure, track_task
from shared.evaluation.track_variants import BASE, true_tracks, variants
from shared.puppets.script import HELD_OUT_SEED
from shared.utils.files import write_json

SHOWN, VARIANTS_SHOWN = 24, 6
"""Clips on the page, and those of them that show the variants of mtv too."""


def evaluate(
    model: EvaluatedModel, options: EvaluationOptions, against: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Sample and score every task; write metrics.json and index.html, and return what the first holds.

    `options` are settled; `against` is what the file --against holds.
    """
    begun = time.monotonic()
    pipeline = next(iter(model.pipelines.values()))
    held_out = HeldOut.make(pipeline, options.level, options.clips)
    metrics: dict[str, Any] = {"config": _config(model, options), "tasks": {}}
    tasks, measured = metrics["tasks"], {}
    workers = options.workers or (os.cpu_count() or 1 if pipeline.device.type == "cpu" else 1)
    with Sampler(model.pipelines, model.load, workers) as sampler:
        for task in _tasks(model, held_out, options):
            clips, result = measure(task, held_out, sampler, options)
            measured[task.name], tasks[task.name] = clips, result
    for name, result in tasks.items():  # a variant of mtv from its base: the same clips before the swap
        if name.startswith("mtv:"):
            base = BASE.get(name, "mtv")
            result["paired"] = {"base": base, "scores": compare_tasks(result, tasks[base], options.seed)}
    if against is not None:
        both = [name for name in tasks if name in against["tasks"]]
        compared = {name: compare_tasks(tasks[name], against["tasks"][name], options.seed) for name in both}
        metrics["against"] = {"file": str(options.against), "tasks": compared}
    metrics["seconds"] = round(time.monotonic() - begun, 1)
    write_report(options.output / "index.html", metrics, _entries(held_out, measured))
    write_json(options.output / "metrics.json", metrics)
    print(summary(metrics))
    print(f"{options.output / 'metrics.json'}\n{options.output / 'index.html'}")
    return metrics


def _tasks(model: EvaluatedModel, held_out: HeldOut, options: EvaluationOptions) -> Iterator[EvaluationTask]:
    """Tasks in order, mtv followed by its variants; each is made when it is its turn."""
    for task in options.tasks or ():
        if task == "mtv":
            yield from _track_tasks(model, held_out, options)
        else:
            yield joint_task(task, model, held_out, options)


def _track_tasks(model: EvaluatedModel, held_out: HeldOut, options: EvaluationOptions) -> Iterator[EvaluationTask]:
    """Task mtv and its variants; a variant for which no clip is fit is left out, with a line that says so."""
    tools = model.track_tools
    assert tools is not None, "mtv needs the track tools"
    own = true_tracks(held_out.specs, model.pipelines["mtv"].audio_encoder.sample_rate)
    names = [name.replace("-", " ") for name in options.variants or ()]
    swapped = variants(own, names, tools.without_speaker, tools.separate)
    for name in names:
        if f"mtv:{name}" not in swapped:
            print(f"mtv:{name}: left out, none of the {len(own)} clips is fit for it")
    for task, cases in {"mtv": own, **swapped}.items():
        yield track_task(task, model, held_out, cases, options)


def _entries(held_out: HeldOut, measured: Mapping[str, Mapping[int, MeasuredClip]]) -> Iterator[Entry]:
    """Clips of the page."""
    for i, (spec, captions) in enumerate(zip(held_out.specs[:SHOWN], held_out.captions, strict=False)):
        tasks = [task for task in measured if i in measured[task] and (":" not in task or i < VARIANTS_SHOWN)]
        yield Entry(spec.id, *captions, {task: measured[task][i] for task in tasks})


def _config(model: EvaluatedModel, options: EvaluationOptions) -> dict[str, Any]:
    config: dict[str, Any] = {
        "checkpoint": str(options.checkpoint), "suite": options.suite, "level": options.level, "clips": options.clips,
        "held_out_seed": HELD_OUT_SEED, "seed": options.seed, "steps": options.steps or "the pipeline's",
    }  # fmt: skip
    if "joint" in model.guidance:
        config["guidance"] = asdict(model.guidance["joint"])
    if "mtv" in model.guidance:
        config |= {"track_guidance": asdict(model.guidance["mtv"]), "variants": list(options.variants or ())}
    return config | {"no_context": options.no_context, "tasks": list(options.tasks or ())}
