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
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.checkpoint import check_checkpoint, load_checkpoint
from shared.cli import Parser, per_stream
from shared.data.stage_script import LEVELS, Spec, sample_spec
from shared.errors import UserError, run_main
from shared.rng import derive

if TYPE_CHECKING:
    from ccl.guidance import Guidance
    from ccl.pipeline import CCLPipeline
    from shared.metrics.report import Entry
    from shared.metrics.scores import Reading
    from shared.metrics.stage_read import Heard, Seen

HELD_OUT_SEED = 900001
"""Seed of the held-out clips. `make_stage.py` must not be given it for training data."""
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
    from shared.metrics.report import write_report
    from shared.metrics.scores import fixed_times_f1

    guidance, begun = make_guidance(options), time.monotonic()
    held_out = HeldOut.make(pipeline, options.level, options.clips, options.batch)
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


@dataclass
class Take:
    """Picture uint8 [T, H, W, 3] and sound float32 [N] of one clip, with their readings."""

    frames: NDArray[np.uint8]
    sound: NDArray[np.float32]
    seen: Seen
    heard: Heard


@dataclass
class HeldOut:
    """The held-out clips at the pipeline's frame rate, size and sample rate: as rendered and through the
    codecs."""

    specs: list[Spec]
    captions: list[tuple[str, str]]
    rendered: list[Take]
    coded: list[Take]

    @classmethod
    def make(cls, pipeline: CCLPipeline, level: str, clips: int, batch: int) -> HeldOut:
        import torch
        from tqdm import tqdm

        from shared.codecs import frames_to_tensor, tensor_to_frames
        from shared.data.stage import render_clip

        held_out = cls([held_out_script(pipeline, level, i) for i in range(clips)], [], [], [])
        for spec in tqdm(held_out.specs, desc="held-out clips", unit="clip"):
            clip = render_clip(spec)
            video = frames_to_tensor(torch.from_numpy(clip.frames))[None].to(pipeline.device)
            sound = torch.from_numpy(clip.mix)[None, None].to(pipeline.device)
            with torch.no_grad():
                picture = pipeline.video_codec.decode(pipeline.video_codec.encode(video), video.shape[2])
                heard = pipeline.audio_codec.decode(pipeline.audio_codec.encode(sound), sound.shape[2])
            frames = tensor_to_frames(picture)[0].cpu().numpy()
            held_out.captions.append((clip.caption, clip.audio_caption))
            held_out.rendered.append(take(clip.frames, clip.mix, spec))
            held_out.coded.append(take(frames, heard[0, 0].cpu().numpy(), spec))
        return held_out

    def true(self, task: str) -> list[Reading]:
        """Readings of the true clips, what the task makes having passed through the codec."""
        picture = self.rendered if task == "v2a" else self.coded
        sound = self.rendered if task == "a2v" else self.coded
        return readings(self.specs, [p.seen for p in picture], [s.heard for s in sound])


def held_out_script(pipeline: CCLPipeline, level: str, index: int) -> Spec:
    """A held-out script; its times are in seconds, so it can be rendered at the pipeline's rates and size."""
    spec = sample_spec(HELD_OUT_SEED, index, level, (pipeline.config.height, pipeline.config.width))
    fps = pipeline.config.fps
    return replace(spec, fps=fps, frames=round(spec.duration * fps), rate=pipeline.audio_codec.sample_rate)


def take(frames: NDArray[np.uint8], sound: NDArray[np.float32], spec: Spec) -> Take:
    from shared.metrics.stage_read import read_picture, read_sound

    return Take(frames, sound, read_picture(frames, spec.fps, spec), read_sound(sound, spec.rate))


def readings(specs: Sequence[Spec], seen: Sequence[Seen], heard: Sequence[Heard]) -> list[Reading]:
    from shared.metrics.scores import Reading

    return [Reading(*parts) for parts in zip(specs, seen, heard, strict=True)]


def sample(
    pipeline: CCLPipeline, held_out: HeldOut, task: str, options: argparse.Namespace, guidance: Guidance
) -> list[Take]:
    """One `Take` per held-out clip, made in batches of one length. What the task is given is carried over
    unchanged."""
    import torch
    from tqdm import tqdm

    from shared.codecs import frames_to_tensor
    from shared.metrics.stage_read import read_picture, read_sound

    takes: dict[int, Take] = {}
    arguments = {} if options.steps is None else {"num_inference_steps": options.steps}
    pipeline.set_progress_bar_config(disable=True)
    with tqdm(total=len(held_out.specs), desc=task, unit="clip") as bar:
        for batch in batches(held_out.specs, options.batch):
            given = dict(arguments)
            if task == "a2v":
                sounds = np.stack([held_out.rendered[i].sound for i in batch])
                given["audio"] = torch.from_numpy(sounds)[:, None]
            if task == "v2a":
                frames = np.stack([held_out.rendered[i].frames for i in batch])
                given["video"] = frames_to_tensor(torch.from_numpy(frames))
            made = pipeline(
                prompt=[held_out.captions[i][0] for i in batch],
                audio_prompt=[held_out.captions[i][1] for i in batch],
                task=task, duration=held_out.specs[batch[0]].duration, guidance=guidance,
                seed=[derive(options.seed, "evaluate", task, i) for i in batch], **given,
            )  # fmt: skip
            for row, i in enumerate(batch):
                spec, old = held_out.specs[i], held_out.rendered[i]
                frames = old.frames if made.video is None else made.video[row]
                sound = old.sound if made.audio is None else made.audio[row]
                seen = old.seen if made.video is None else read_picture(frames, spec.fps, spec)
                heard = old.heard if made.audio is None else read_sound(sound, spec.rate)
                takes[i] = Take(frames, sound, seen, heard)
            bar.update(len(batch))
    return [takes[i] for i in range(len(held_out.specs))]


def batches(specs: Sequence[Spec], size: int) -> Iterator[list[int]]:
    """Indices of clips of one length, up to `size` at a time."""
    for frames in sorted({spec.frames for spec in specs}):
        same = [i for i, spec in enumerate(specs) if spec.frames == frames]
        yield from (same[start : start + size] for start in range(0, len(same), size))


def score(task: str, held_out: HeldOut, made: Sequence[Take], seed: int, guess: float | None) -> dict[str, Any]:
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
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: a GPU if there is one")
    return checked(parser.parse_args(argv))


def checked(options: argparse.Namespace) -> argparse.Namespace:
    for name, least in (("clips", 2), ("batch", 1), ("steps", 1)):
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
