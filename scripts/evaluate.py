"""Measure a checkpoint on held-out clips of the stage: is what is seen when it is heard, and is it what the
caption says?

    python scripts/evaluate.py --checkpoint assets/puppets --suite stage --level simple --clips 24 --output
    outputs/eval

Writes OUTPUT/metrics.json (every score with ceiling, floor, headline and bootstrap interval) and
OUTPUT/index.html, which shows the first clips. The clips come from a seed of their own (HELD_OUT_SEED), which
no training data may use. With --no-context every clip is sampled on the route 0m, on which no stream reads
the other: sync must fall to the floor.

Task mtv drives the video by the clips' true tracks, and again with one track swapped (--variants): what belongs to it
must follow, the rest stay. --against compares clip by clip with the metrics.json of another evaluation.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.checkpoint.folder import check_checkpoint, load_checkpoint
from shared.puppets.script import LEVELS
from shared.utils.cli_old import Parser, per_stream
from shared.utils.errors import UserError, run_main

if TYPE_CHECKING:
    from ccl.guidance import Guidance
    from mtv.guidance import TrackGuidance
    from mtv.tracks import Tracks
    from shared.evaluation.held_out import HeldOut, Take
    from shared.evaluation.report import Entry
    from shared.evaluation.sampling import Sampler
    from shared.evaluation.tasks import Plan, Trial
    from shared.evaluation.track_probes import Probe

JOINT = ("t2av", "a2v", "v2a")
TASKS = (*JOINT, "mtv")
VARIANTS = ("speech-swapped", "effects-swapped", "music-swapped", "silent-speech", "speaker-untold", "dsp")
TRACK_SCALES = ("speech_scale", "effects_scale", "music_scale")
SHOWN, VARIANTS_SHOWN = 24, 6
"""Clips on the page, and those of them that show the variants of mtv too."""


def main(argv: Sequence[str] | None = None) -> None:
    """Check, load, measure, write."""
    options = parse(argv)
    settle_tasks(options, check_checkpoint(options.checkpoint))
    other = read_other(options)
    prepare(options.output)
    import torch

    device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    evaluate(load(options.checkpoint, options.tasks, device), options, other)


def load(checkpoint: Path, tasks: Sequence[str], device: str) -> dict[str, Any]:
    """The pipelines that the tasks need, "joint" and "mtv"; both share one set of weights."""
    from ccl.pipeline import CCLPipeline  # both, always: a folder's parts are loaded from modules that are imported
    from mtv.pipeline import MTVPipeline

    if not set(tasks) & set(JOINT):
        return {"mtv": load_checkpoint(MTVPipeline, checkpoint, None, device)}
    joint = load_checkpoint(CCLPipeline, checkpoint, None, device)
    return {"joint": joint, "mtv": MTVPipeline.from_pipe(joint)} if "mtv" in tasks else {"joint": joint}


def evaluate(
    pipelines: Mapping[str, Any], options: argparse.Namespace, other: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Sample and score every task; write metrics.json and index.html and return what the first holds.

    `other` is what the file --against holds.
    """
    from shared.evaluation.held_out import HeldOut
    from shared.evaluation.report import write_report
    from shared.evaluation.summary import summary
    from shared.evaluation.tasks import measure
    from shared.utils.files import write_json

    begun = time.monotonic()
    held_out = HeldOut.make(next(iter(pipelines.values())), options.level, options.clips)
    metrics: dict[str, Any] = {"config": config(options, pipelines.get("joint")), "tasks": {}}
    made: dict[str, dict[int, Take]] = {}
    with make_sampler(pipelines, options) as sampler:
        for trial in trials(pipelines, held_out, options):
            takes, result = measure(trial, held_out, sampler, options.seed, options.level)
            made[trial.task], metrics["tasks"][trial.task] = takes, result
    compare_with_base(metrics["tasks"], options.seed)
    if other is not None:
        metrics["against"] = compare(metrics, other, options)
    metrics["seconds"] = round(time.monotonic() - begun, 1)
    write_report(options.output / "index.html", metrics, entries(held_out, made))
    write_json(options.output / "metrics.json", metrics)
    print(summary(metrics))
    print(f"{options.output / 'metrics.json'}\n{options.output / 'index.html'}")
    return metrics


def trials(pipelines: Mapping[str, Any], held_out: HeldOut, options: argparse.Namespace) -> Iterator[Trial]:
    """The tasks in order, mtv followed by its variants; each is made when it is its turn."""
    from shared.evaluation.tasks import joint_trial

    for task in options.tasks:
        if task == "mtv":
            yield from track_trials(pipelines["mtv"], held_out, options)
        else:
            yield joint_trial(task, held_out, plan(options, make_guidance(options)))


def make_sampler(pipelines: Mapping[str, Any], options: argparse.Namespace) -> Sampler:
    from shared.evaluation.sampling import Sampler

    device = next(iter(pipelines.values())).device
    workers = options.workers or (os.cpu_count() or 1 if device.type == "cpu" else 1)
    return Sampler(pipelines, partial(load, options.checkpoint, options.tasks, str(device)), workers)


def track_trials(pipeline: Any, held_out: HeldOut, options: argparse.Namespace) -> Iterator[Trial]:
    """mtv and its variants; a variant for which no clip is fit is left out, with a line that says so."""
    from mtv.captions import without_speaker
    from shared.evaluation.tasks import track_trial
    from shared.evaluation.track_probes import true_tracks, variants

    own = true_tracks(held_out.specs, pipeline.audio_encoder.sample_rate)
    names = [name.replace("-", " ") for name in options.variants]
    swapped = variants(own, names, without_speaker, demix)
    for name in names:
        if f"mtv:{name}" not in swapped:
            print(f"mtv:{name}: left out, none of the {len(own)} clips is fit for it")
    chosen = plan(options, make_track_guidance(options))
    for task, probes in {"mtv": own, **swapped}.items():
        yield track_trial(task, pipeline, held_out, probes, tracks_of, chosen)


def plan(options: argparse.Namespace, guidance: Guidance | TrackGuidance) -> Plan:
    from shared.evaluation.tasks import Plan

    return Plan(options.seed, options.steps, options.batch, guidance)


def tracks_of(probe: Probe) -> Tracks:
    import torch

    from mtv.tracks import Tracks

    stems = {name: torch.from_numpy(np.ascontiguousarray(stem))[None] for name, stem in probe.stems.items()}
    speech = [stem for name, stem in stems.items() if name.startswith("speech")]
    return Tracks(speech, stems["effects"], stems["music"], probe.spec.rate)


def demix(mix: NDArray[np.float32], rate: int) -> dict[str, NDArray[np.float32]]:
    """What the demixer dsp finds in a mix [N]."""
    from mtv.separation import demixer

    return {name: track[0] for name, track in demixer("dsp").separate(mix[None], rate).items()}


def compare_with_base(tasks: dict[str, Any], seed: int) -> None:
    """Give every variant of mtv the paired differences from its base, the same clips before the swap."""
    from shared.evaluation.comparison import compare_tasks
    from shared.evaluation.track_probes import BASE

    for task, result in tasks.items():
        if task.startswith("mtv:"):
            base = BASE.get(task, "mtv")
            result["paired"] = {"base": base, "scores": compare_tasks(result, tasks[base], seed)}


def compare(metrics: Mapping[str, Any], other: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Paired differences from the other evaluation, in the tasks that both have."""
    from shared.evaluation.comparison import compare_tasks

    both = [task for task in metrics["tasks"] if task in other["tasks"]]
    compared = {task: compare_tasks(metrics["tasks"][task], other["tasks"][task], options.seed) for task in both}
    return {"file": str(options.against), "tasks": compared}


def entries(held_out: HeldOut, made: Mapping[str, Mapping[int, Take]]) -> Iterator[Entry]:
    """The clips of the page."""
    from shared.evaluation.report import Entry, Panel

    for i, (spec, captions) in enumerate(zip(held_out.specs[:SHOWN], held_out.captions, strict=False)):
        shown = [
            (task, takes[i]) for task, takes in made.items() if i in takes and (":" not in task or i < VARIANTS_SHOWN)
        ]
        panels = [Panel(task, t.frames, spec.fps, t.sound, t.rate, t.seen, t.heard) for task, t in shown]
        yield Entry(spec.id, *captions, panels)


def config(options: argparse.Namespace, joint: Any = None) -> dict[str, Any]:
    from shared.evaluation.held_out import HELD_OUT_SEED

    told: dict[str, Any] = {
        "checkpoint": str(options.checkpoint), "suite": options.suite,
        "level": options.level, "clips": options.clips,
        "held_out_seed": HELD_OUT_SEED, "seed": options.seed, "steps": options.steps or "the pipeline's",
    }  # fmt: skip
    if set(options.tasks) & set(JOINT):
        told["guidance"] = asdict(make_guidance(options).settled(joint is None or joint.transformer.has_unconditional))
    if "mtv" in options.tasks:
        told |= {"track_guidance": asdict(make_track_guidance(options)), "variants": list(options.variants)}
    return told | {"no_context": options.no_context, "tasks": list(options.tasks)}


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
    return Guidance(Form(options.guidance) if options.guidance else None, **given)


def make_track_guidance(options: argparse.Namespace) -> TrackGuidance:
    from mtv.guidance import TrackGuidance

    scales = {name.removesuffix("_scale"): getattr(options, name) for name in TRACK_SCALES}
    scales["text"] = None if options.text_scale is None else options.text_scale[0]
    return TrackGuidance(**{name: value for name, value in scales.items() if value is not None})


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, metavar="DIR")
    add("--suite", choices=["stage"], default="stage", help="the embedded world (docs/design.md section 9)")
    add("--level", choices=LEVELS, default="simple")
    add("--clips", type=int, default=128, help="held-out clips per task; default: 128")
    add("--output", type=Path, required=True, metavar="DIR", help="for metrics.json and index.html")
    add("--tasks", "--task", help=f"some of {','.join(TASKS)}; default: all that the checkpoint can do")
    add("--variants", help=f"of mtv: some of {','.join(VARIANTS)}, or none; default: all")
    add("--against", type=Path, metavar="FILE", help="metrics.json of another evaluation, to compare with")
    add("--seed", type=int, default=0, help="of the noise; default: 0")
    add("--steps", type=int, help="solver steps; default: the pipeline's")
    add(
        "--guidance",
        choices=["dual", "joint", "context", "text", "none"],
        help="of the joint tasks; default: dual, or text",
    )
    add("--text-scale", metavar="V[,A]", help="how much the text counts, for video and sound")
    add("--context-scale", metavar="V[,A]", help="how much the other modality counts, in the joint tasks")
    add("--speech-scale", type=float, metavar="W", help="how much the speech counts, in mtv")
    add("--effects-scale", type=float, metavar="W", help="how much the effects count, in mtv")
    add("--music-scale", type=float, metavar="W", help="how much the music counts, in mtv")
    add("--no-context", action="store_true", help="sample on the route 0m: no stream reads the other")
    add("--batch", type=int, default=16, help="clips sampled at a time; default: 16")
    add("--workers", type=int, help="processes that sample; default: one per core on a CPU, one on a GPU")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: a GPU if there is one")
    return checked(parser.parse_args(argv))


def checked(options: argparse.Namespace) -> argparse.Namespace:
    for name, least in (("clips", 2), ("batch", 1), ("steps", 1), ("workers", 1)):
        if (value := getattr(options, name)) is not None and value < least:
            raise UserError(f"--{name} {value}: at least {least} is needed")
    if options.tasks is not None:
        options.tasks, unknown = listed(options.tasks, TASKS)
        if unknown:
            raise UserError(f"--tasks {unknown[0]}: give some of {','.join(TASKS)}")
    for name in ("text_scale", "context_scale"):
        if (text := getattr(options, name)) is not None:
            setattr(options, name, per_stream(f"--{name.replace('_', '-')}", text))
    for name in TRACK_SCALES:
        if (value := getattr(options, name)) is not None and not math.isfinite(value):
            raise UserError(f"--{name.replace('_', '-')} {value}: a finite number is needed")
    if options.no_context and (options.guidance is not None or options.context_scale is not None):
        raise UserError("--no-context leaves the other modality out; give no --guidance or --context-scale with it")
    if options.variants is not None and options.variants != "none":
        options.variants, unknown = listed(options.variants, VARIANTS)
        if unknown:
            raise UserError(f"--variants {unknown[0]}: give some of {','.join(VARIANTS)}, or none")
    return options


def listed(text: str, known: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The names between commas, in the order of `known` and each once, and those that are not known."""
    names = [name.strip() for name in text.split(",")]
    return tuple(name for name in known if name in names), [name for name in names if name not in known]


def settle_tasks(options: argparse.Namespace, index: Mapping[str, Any]) -> None:
    """Fill in the tasks and variants where they were not given, from the checkpoint's index.

    Raises:
        UserError: mtv without a control network, or an option of tasks that are not to be done.
    """
    controlled = bool((index.get("control") or [None])[0])
    if options.tasks is None:
        options.tasks = TASKS if controlled and not options.no_context else JOINT
    if "mtv" in options.tasks and not controlled:
        raise UserError(
            f"--tasks mtv: {options.checkpoint} has no control network; it holds a joint model only: give --tasks "
            f"{','.join(JOINT)}, or a checkpoint trained with mtv"
        )
    if options.no_context and "mtv" in options.tasks:
        raise UserError(f"--no-context: mtv has no such route; give --tasks {','.join(JOINT)}")
    for names, tasks in ((("guidance", "context_scale"), JOINT), ((*TRACK_SCALES, "variants"), ("mtv",))):
        given = [name for name in names if getattr(options, name) is not None]
        if given and not set(options.tasks) & set(tasks):
            raise UserError(f"--{given[0].replace('_', '-')} is for --tasks {','.join(tasks)}; leave it out")
    options.variants = VARIANTS if options.variants is None else () if options.variants == "none" else options.variants


def read_other(options: argparse.Namespace) -> dict[str, Any] | None:
    """What the file --against holds; UserError where it cannot be compared with."""
    if options.against is None:
        return None
    from shared.evaluation.comparison import read_metrics
    from shared.evaluation.held_out import HELD_OUT_SEED

    here = {"suite": options.suite, "level": options.level, "held_out_seed": HELD_OUT_SEED, "tasks": options.tasks}
    return read_metrics(options.against, here)


if __name__ == "__main__":
    run_main(main)
