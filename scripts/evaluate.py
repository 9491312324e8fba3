"""Measure a checkpoint on held-out clips of the stage: is what is seen when it is heard, and is it what the
caption says?

    python scripts/evaluate.py --checkpoint assets/stage --suite stage --level simple --clips 24 --output
    outputs/eval

Writes OUTPUT/metrics.json (every score with ceiling, floor, headline and bootstrap interval) and
OUTPUT/index.html, which shows the first clips. The clips come from a seed of their own (HELD_OUT_SEED), which
no training data may use. With --no-context every clip is sampled on the route 0m, on which no stream reads
the other: sync must fall to the floor.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.checkpoint import check_checkpoint, load_checkpoint
from shared.cli import Parser, per_stream
from shared.data.stage_script import LEVELS
from shared.errors import UserError, run_main
from shared.rng import derive

if TYPE_CHECKING:
    from ccl.guidance import Guidance
    from ccl.pipeline import CCLPipeline
    from shared.data.stage_script import Spec
    from shared.metrics.held_out import HeldOut, Take
    from shared.metrics.report import Entry
    from shared.metrics.stage_read import Heard, Seen

TASKS = ("t2av", "a2v", "v2a")
SHOWN = 24


def main(argv: Sequence[str] | None = None) -> None:
    """Check, load, measure, write."""
    options = parse(argv)
    check_checkpoint(options.checkpoint)
    prepare(options.output)
    import torch

    from ccl.pipeline import CCLPipeline

    device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    pipeline = load_checkpoint(CCLPipeline, options.checkpoint, None, device)
    evaluate(pipeline, options)


def evaluate(pipeline: CCLPipeline, options: argparse.Namespace) -> dict[str, Any]:
    """Sample and score every task; write metrics.json and index.html and return what the first holds."""
    from shared.metrics.held_out import HeldOut
    from shared.metrics.report import write_report
    from shared.metrics.scores import fixed_times_f1

    guidance, begun = make_guidance(options), time.monotonic()
    held_out = HeldOut.make(pipeline, options.level, options.clips)
    metrics: dict[str, Any] = {"config": config(options, guidance), "tasks": {}}
    guess = fixed_times_f1(held_out.specs, options.level)
    made = {}
    for task in options.tasks:
        started = time.monotonic()
        made[task] = sample(pipeline, held_out, task, options, guidance)
        metrics["tasks"][task] = score(task, held_out, made[task], options.seed, guess)
        metrics["tasks"][task]["seconds"] = round(time.monotonic() - started, 1)
    metrics["seconds"] = round(time.monotonic() - begun, 1)
    write_report(options.output / "index.html", metrics, entries(held_out, made))
    write_json(options.output / "metrics.json", metrics)
    print(summary(metrics))
    print(f"{options.output / 'metrics.json'}\n{options.output / 'index.html'}")
    return metrics


@dataclass(frozen=True)
class Job:
    """One call of the pipeline: clips of one length, and what the task is given of each, sound [B, 1, N] or video
    [B, 3, T, H, W]."""

    clips: list[int]
    specs: list[Spec]
    arguments: dict[str, Any]


#: Per clip of a job: frames and their reading, sound and its reading; None for what the task is given.
Made = tuple[NDArray[np.uint8] | None, "Seen | None", NDArray[np.float32] | None, "Heard | None"]


def sample(
    pipeline: CCLPipeline, held_out: HeldOut, task: str, options: argparse.Namespace, guidance: Guidance
) -> list[Take]:
    """One `Take` per held-out clip, made in batches of one length. What the task is given is carried over
    unchanged."""
    from tqdm import tqdm

    from shared.metrics.held_out import Take, batches

    jobs = [job(held_out, clips, task, options, guidance) for clips in batches(held_out.specs, options.batch)]
    takes: dict[int, Take] = {}
    with tqdm(total=len(held_out.specs), desc=task, unit="clip") as bar:
        for clips, made in work_off(pipeline, jobs, options):
            for i, (frames, seen, sound, heard) in zip(clips, made, strict=True):
                old = held_out.rendered[i]
                takes[i] = Take(
                    old.frames if frames is None else frames,
                    old.sound if sound is None else sound,
                    seen or old.seen,
                    heard or old.heard,
                )
            bar.update(len(clips))
    return [takes[i] for i in range(len(held_out.specs))]


def job(held_out: HeldOut, clips: list[int], task: str, options: argparse.Namespace, guidance: Guidance) -> Job:
    import torch

    from shared.codecs import frames_to_tensor

    given: dict[str, Any] = {} if options.steps is None else {"num_inference_steps": options.steps}
    if task == "a2v":
        given["audio"] = torch.from_numpy(np.stack([held_out.rendered[i].sound for i in clips]))[:, None]
    if task == "v2a":
        given["video"] = frames_to_tensor(torch.from_numpy(np.stack([held_out.rendered[i].frames for i in clips])))
    given |= {
        "prompt": [held_out.captions[i][0] for i in clips],
        "audio_prompt": [held_out.captions[i][1] for i in clips],
        "task": task,
        "duration": held_out.specs[clips[0]].duration,
        "guidance": guidance,
        "seed": [derive(options.seed, "evaluate", task, i) for i in clips],
    }
    return Job(clips, [held_out.specs[i] for i in clips], given)


def work_off(
    pipeline: CCLPipeline, jobs: Sequence[Job], options: argparse.Namespace
) -> Iterator[tuple[list[int], list[Made]]]:
    """Run the jobs, on a CPU in several processes of one thread each: small models gain little from threads."""
    workers = options.workers or (os.cpu_count() or 1 if pipeline.device.type == "cpu" else 1)
    workers = min(workers, len(jobs))
    if workers == 1:
        yield from ((one.clips, run(pipeline, one)) for one in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, start_worker, (options.checkpoint, str(pipeline.device))) as pool:
        for future in as_completed([pool.submit(run_in_worker, one) for one in jobs]):
            yield future.result()


def run(pipeline: CCLPipeline, one: Job) -> list[Made]:
    from shared.metrics.stage_read import read_picture, read_sound

    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(**one.arguments)
    results: list[Made] = []
    for row, spec in enumerate(one.specs):
        frames = None if made.video is None else made.video[row]
        sound = None if made.audio is None else made.audio[row]
        seen = None if frames is None else read_picture(frames, spec.fps, spec)
        results.append((frames, seen, sound, None if sound is None else read_sound(sound, spec.rate)))
    return results


_in_worker: dict[str, CCLPipeline] = {}


def start_worker(checkpoint: Path, device: str) -> None:
    import torch

    from ccl.pipeline import CCLPipeline

    torch.set_num_threads(1)
    _in_worker["pipeline"] = load_checkpoint(CCLPipeline, checkpoint, None, device)


def run_in_worker(one: Job) -> tuple[list[int], list[Made]]:
    return one.clips, run(_in_worker["pipeline"], one)


def score(task: str, held_out: HeldOut, made: Sequence[Take], seed: int, guess: float | None) -> dict[str, Any]:
    from shared.metrics.held_out import readings
    from shared.metrics.scores import lags, score_task

    own = readings(held_out.specs, [m.seen for m in made], [m.heard for m in made])
    true = held_out.true(task)
    scores = score_task(task, own, true, seed)
    return {
        "clips": len(own),
        "scores": {name: asdict(value) for name, value in scores.items()},
        "fixed_times_f1": guess,
        "lag_ms": lags(own),
        "ceiling_lag_ms": lags(true),
    }


def entries(held_out: HeldOut, made: dict[str, list[Take]]) -> Iterator[Entry]:
    """The clips of the page."""
    from shared.metrics.report import Entry, Panel

    for i, (spec, captions) in enumerate(zip(held_out.specs[:SHOWN], held_out.captions, strict=False)):
        panels = [
            Panel(task, t[i].frames, spec.fps, t[i].sound, spec.rate, t[i].seen, t[i].heard) for task, t in made.items()
        ]
        yield Entry(spec.id, *captions, panels)


def config(options: argparse.Namespace, guidance: Guidance) -> dict[str, Any]:
    from shared.metrics.held_out import HELD_OUT_SEED

    return {
        "checkpoint": str(options.checkpoint), "suite": options.suite,
        "level": options.level, "clips": options.clips,
        "held_out_seed": HELD_OUT_SEED, "seed": options.seed, "steps": options.steps or "the pipeline's",
        "guidance": asdict(guidance), "no_context": options.no_context, "tasks": list(options.tasks),
    }  # fmt: skip


def summary(metrics: dict[str, Any]) -> str:
    """The headlines as a small table."""
    lines = [f"{'':20s}{'score':>8s}{'ceiling':>9s}{'floor':>8s}{'headline':>10s}"]
    for task, result in metrics["tasks"].items():
        lines.append(task)
        for name, values in result["scores"].items():
            if values["clips"]:
                found = [values[key] for key in ("value", "ceiling", "floor", "headline")]
                cells = [math.nan if value is None else value for value in found]
                lines.append("  {:18s}{:8.3f}{:9.3f}{:8.3f}{:10.3f}".format(name.replace("_", " "), *cells))
    return "\n".join(lines)


def write_json(path: Path, content: dict[str, Any]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def prepare(output: Path) -> None:
    """Make the folder. Raises UserError where that cannot be."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output}: {error.strerror}; give a folder that can be written to") from None
    if not os.access(output, os.W_OK | os.X_OK):
        raise UserError(f"--output {output}: cannot be written to; give another folder")


def make_guidance(options: argparse.Namespace) -> Guidance:
    from ccl.guidance import Form, Guidance

    scales = {"text_scale": options.text_scale, "context_scale": options.context_scale}
    given = {name: value for name, value in scales.items() if value is not None}
    if options.no_context:
        return Guidance(Form.DUAL, **{**given, "context_scale": (0.0, 0.0)})
    return Guidance(Form(options.guidance), **given)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, metavar="DIR")
    add("--suite", choices=["stage"], default="stage", help="the embedded world (docs/design.md section 9)")
    add("--level", choices=LEVELS, default="simple")
    add("--clips", type=int, default=128, help="held-out clips per task; default: 128")
    add("--output", type=Path, required=True, metavar="DIR", help="for metrics.json and index.html")
    add("--tasks", default=",".join(TASKS), help=f"some of {','.join(TASKS)}; default: all")
    add("--seed", type=int, default=0, help="of the noise; default: 0")
    add("--steps", type=int, help="solver steps; default: the pipeline's")
    add("--guidance", choices=["dual", "joint", "context", "text", "none"], default="dual")
    add("--text-scale", metavar="V[,A]", help="how much the text counts, for video and sound")
    add("--context-scale", metavar="V[,A]", help="how much the other modality counts")
    add("--no-context", action="store_true", help="sample on the route 0m: no stream reads the other")
    add("--batch", type=int, default=16, help="clips sampled at a time; default: 16")
    add("--workers", type=int, help="processes that sample; default: one per core on a CPU, one on a GPU")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: a GPU if there is one")
    return checked(parser.parse_args(argv))


def checked(options: argparse.Namespace) -> argparse.Namespace:
    for name, least in (("clips", 2), ("batch", 1), ("steps", 1), ("workers", 1)):
        if (value := getattr(options, name)) is not None and value < least:
            raise UserError(f"--{name} {value}: at least {least} is needed")
    options.tasks = tuple(task.strip() for task in options.tasks.split(","))
    if unknown := [task for task in options.tasks if task not in TASKS]:
        raise UserError(f"--tasks {unknown[0]}: give some of {','.join(TASKS)}")
    for name in ("text_scale", "context_scale"):
        if (text := getattr(options, name)) is not None:
            setattr(options, name, per_stream(f"--{name.replace('_', '-')}", text))
    if options.no_context and (options.guidance != "dual" or options.context_scale is not None):
        raise UserError("--no-context leaves the other modality out; give no --guidance or --context-scale with it")
    return options


if __name__ == "__main__":
    run_main(main)
