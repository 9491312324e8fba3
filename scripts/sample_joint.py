"""Make video and sound from text, and from a picture, a sound or a video, with one checkpoint.

    python scripts/sample_joint.py --prompt "A bell rings twice." --output bell.mp4

What is made follows from what is given (--task auto):
    text alone            t2av   video with sound, an .mp4
    text and --image      t2av   the same, beginning with that picture
    text and --audio      a2v    a video for this sound; the file carries the given sound itself
    text and --video      v2a    a sound for this video; the file carries the given picture itself
With --task t2v the mp4 has no sound (--image works here too); --task t2a writes a .wav.

Many prompts, one per line of a file, make OUT_000.mp4, OUT_001.mp4 ... with seeds SEED, SEED + 1 ...:
    python scripts/sample_joint.py --prompts prompts.txt --output many/clip.mp4
A prompt that changes over time has lines of SECONDS, TEXT; the first begins at 0:
    python scripts/sample_joint.py --timed-prompts story.txt --duration 4 --output story.mp4
Adapters (docs/lora.md), and less GPU memory (docs/memory.md):
    python scripts/sample_joint.py --prompt "A dog barks." --lora style=0.8 --lora dogs --memory low --output dog.mp4
Guidance by itself and per stream (video, then audio):
    python scripts/sample_joint.py --prompt "A dog barks." --guidance dual --text-scale 3,2 \\
        --context-scale 2 --output dog.mp4
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Only what imports at once: what is wrong with the arguments is said before torch and diffusers are loaded.
from ccl.routing import JOINT_TASKS, Task, check_given, infer_task, parse_task
from shared.checkpoint.folder import check_checkpoint, check_joint
from shared.checkpoint.loading import FUSE_LORA, LORA, MEMORY, check_model_arguments, load_model
from shared.data.media import probe, read_audio, read_image, read_video, write_audio, write_video
from shared.data.media_write import AAC_RATES, Audio, Video
from shared.utils.cli_old import Parser, device, per_stream, timed_prompts
from shared.utils.errors import UserError, run_main

if TYPE_CHECKING:
    from ccl.guidance import Guidance
    from ccl.pipeline import CCLOutput, CCLPipeline
    from shared.encoders.timed_prompts import TimedPrompts

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "puppets"
LONGEST = 120.0  # s; attention over more needs windows
SHORT = 0.1  # s by which a given file may be shorter than --duration: codecs round
#: The scales that each form of guidance reads (ccl/guidance.py has the formulas).
SCALES = {
    "dual": ("text_scale", "context_scale"),
    "joint": ("text_scale",),
    "context": ("context_scale",),
    "text": ("text_scale",),
    "none": (),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Check everything that can be checked without the model, then sample in batches and write the files."""
    options = parse(argv)
    task = infer_task(options.audio is not None, options.video is not None)
    task = task if options.task == "auto" else parse_task(options.task)
    check_given(task, options.audio is not None, options.video is not None, options.image is not None)
    prompts: list[str | TimedPrompts] = [options.prompt]
    if options.prompts is not None:
        prompts = [*read_prompts(options.prompts)]
    files = output_files(options, task, None if options.prompts is None else len(prompts))
    check_joint(check_checkpoint(options.checkpoint), f"checkpoint {options.checkpoint}: ")
    given = Given.read(options)
    if options.timed_prompts is not None:
        prompts = [timed_prompts(options.timed_prompts, given.duration)]
    sample(options, task, given, prompts, files)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, default=ASSETS, metavar="DIR", help="default: the shipped assets/puppets")
    add("--output", type=Path, required=True, help="OUT.mp4, or OUT.wav with --task t2a")
    text = parser.add_mutually_exclusive_group(required=True)
    text.add_argument("--prompt", metavar="TEXT", help="what to see and, without --audio-prompt, to hear")
    text.add_argument("--prompts", type=Path, metavar="FILE", help="one prompt per line, one clip each")
    text.add_argument("--timed-prompts", type=Path, metavar="FILE", help="lines of SECONDS, TEXT: one clip")
    add("--audio-prompt", metavar="TEXT", help="what to hear; default: the prompt")
    add("--negative-prompt", metavar="TEXT", help="what guidance leads away from; default: the empty text")
    add("--task", default="auto", help=f"auto (default), {', '.join(JOINT_TASKS)}")
    add("--image", type=Path, help="png, jpeg or webp: the first frame")
    add("--audio", type=Path, help="a wav, or any file with sound: make a video for it")
    add("--video", type=Path, help="an mp4, mov, mkv or webm: make a sound for it")
    add(
        "--duration", type=float, metavar="S",
        help="seconds; default: 2, or as long as the given sound or video, which may be longer than S",
    )  # fmt: skip
    add("--seed", type=int, default=0, help="default: 0; the same seed makes the same clip")
    add("--steps", type=int, help="solver steps; default: the pipeline's")
    add("--guidance", choices=list(SCALES), help="form of guidance; default: dual")
    add("--text-scale", metavar="V[,A]", help="how much the text counts, for video and sound; 1: as trained")
    add("--context-scale", metavar="V[,A]", help="how much the other modality counts; 1: as trained")
    add("--batch", type=int, default=8, help="clips of --prompts sampled at a time; default: 8")
    add("--device", default="auto", help="auto (default: a GPU if there is one), cpu, cuda, cuda:1 ...")
    add("--lora", **LORA)
    add("--fuse-lora", **FUSE_LORA)
    add("--memory", **MEMORY)
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="default: float32")
    add("--attention", default="native", help="backend: native (default), flash, xformers ...")
    return checked(parser.parse_args(argv))


def checked(options: argparse.Namespace) -> argparse.Namespace:
    """`options` with their scales parsed. Raises UserError at a value that no checkpoint can serve."""
    seconds = options.duration
    if seconds is not None and not 0 < seconds <= LONGEST:
        raise UserError(f"--duration {seconds:g}: more than 0 and at most {LONGEST:g} seconds are needed")
    for name in ("steps", "batch"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise UserError(f"--{name} {value}: at least 1 is needed")
    if options.prompt is not None and not options.prompt.strip():
        raise UserError("--prompt is empty; a text is needed")
    for name in ("text_scale", "context_scale"):
        if (text := getattr(options, name)) is None:
            continue
        option, form = f"--{name.replace('_', '-')}", options.guidance or "dual"
        if name not in SCALES[form]:
            raise UserError(f"{option} has no effect with --guidance {form}; leave it out")
        setattr(options, name, per_stream(option, text))
    check_model_arguments(options)
    return options


def read_prompts(path: Path) -> list[str]:
    """One prompt per line. Raises UserError naming the line that is empty."""
    if not path.is_file():
        raise UserError(f"prompts {path}: no such file")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"prompts {path}: not UTF-8 text") from None
    if not lines:
        raise UserError(f"prompts {path}: the file is empty; one prompt per line is needed")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise UserError(f"prompts {path}, line {number}: the line is empty; remove it or write a prompt")
    return [line.strip() for line in lines]


def output_files(options: argparse.Namespace, task: Task, count: int | None) -> list[Path]:
    """OUT, or OUT_000 ... for `count` prompts. Raises UserError if they cannot be written."""
    out: Path = options.output
    suffix = ".mp4" if task.makes_video or options.video else ".wav"
    if out.suffix.lower() != suffix:
        raise UserError(f"--output {out}: task {task} writes {suffix}; give a name that ends so")
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--output {out}: {folder} is no folder that can be written to")
    files = [out] if count is None else [out.with_stem(f"{out.stem}_{i:03d}") for i in range(count)]
    inputs = [path.resolve() for path in (options.image, options.audio, options.video) if path is not None]
    for file in files:
        if file.is_dir() or file.resolve() in inputs:
            raise UserError(f"--output {file}: is a folder or a given file; give another name")
    return files


@dataclass(frozen=True)
class Given:
    """What the user gave, decoded once as it is; `duration` of the clip in seconds.

    Attributes:
        sound: [channels, N] float32 at `rate` Hz, to be carried by the clip.
        picture: [T, H, W, 3] uint8 at `fps`, to be carried by the clip.
    """

    duration: float
    sound: Audio | None = None
    rate: int = 0
    picture: Video | None = None
    fps: float = 0.0

    @classmethod
    def read(cls, options: argparse.Namespace) -> Given:
        """Decode what is given, so that a broken file is known before the model is loaded."""
        if options.image is not None:
            read_image(options.image)
        if options.audio is not None:
            info = probe(options.audio)
            duration = fitting(options.audio, "sound", info.audio_end, options.duration)
            rate = info.rate if info.rate in AAC_RATES else 48000
            sound = read_audio(options.audio, rate, mono=(info.channels or 1) > 2, end=duration)
            return cls(duration, sound=sound, rate=rate)
        if options.video is not None:
            info = probe(options.video)
            duration = fitting(options.video, "pictures", info.video_end, options.duration)
            picture = read_video(options.video, info.fps or 0, end=duration)
            even = picture[:, : picture.shape[1] // 2 * 2, : picture.shape[2] // 2 * 2]  # H.264 asks for it
            return cls(duration, picture=even, fps=info.fps or 0)
        return cls(2.0 if options.duration is None else options.duration)

    def arguments(self, options: argparse.Namespace, pipeline: CCLPipeline) -> dict[str, Any]:
        """The same for the model: at its rate, its frame rate and its size."""
        import torch

        from shared.codecs import frames_to_tensor

        size = (pipeline.config.height, pipeline.config.width)
        given: dict[str, Any] = {"duration": self.duration}
        if options.image is not None:
            frame = torch.from_numpy(read_image(options.image, size))[None]
            given["image"] = frames_to_tensor(frame)[None, :, 0]
        if options.audio is not None:
            sound = read_audio(options.audio, pipeline.audio_codec.sample_rate, end=self.duration)
            given["audio"] = torch.from_numpy(sound)[None]
        if options.video is not None:
            frames = read_video(options.video, pipeline.config.fps, size, end=self.duration)
            given["video"] = frames_to_tensor(torch.from_numpy(frames))[None]
        return given


def fitting(path: Path, what: str, lasts: float | None, wanted: float | None) -> float:
    """The clip's duration: as wanted, or as long as the given file."""
    if lasts is None:
        raise UserError(f"{path}: has no {what}; a file with {what} is needed")
    if wanted is not None and wanted > lasts + SHORT:
        raise UserError(f"{path}: its {what} last {lasts:.2f} s; --duration {wanted:g} is longer, lower it")
    if wanted is None and lasts > LONGEST:
        raise UserError(f"{path}: its {what} last {lasts:.0f} s; give a --duration of at most {LONGEST:g}")
    return lasts if wanted is None else wanted


def sample(
    options: argparse.Namespace,
    task: Task,
    given: Given,
    prompts: Sequence[str | TimedPrompts],
    files: list[Path],
) -> None:
    """Load the checkpoint, sample the prompts in batches, and write each clip as soon as it is made."""
    import torch

    from ccl.pipeline import CCLPipeline
    from shared.nn.attention import use_backend

    dtype, place = getattr(torch, options.dtype), device(options.device)
    with use_backend(options.attention):
        pipeline = load_model(CCLPipeline, options, dtype, place)
        arguments = given.arguments(options, pipeline) | {"task": task.value, "guidance": guidance(options)}
        if options.negative_prompt is not None:
            arguments["negative_prompt"] = options.negative_prompt
        if options.steps is not None:
            arguments["num_inference_steps"] = options.steps
        for start in range(0, len(prompts), options.batch):
            batch = prompts[start : start + options.batch]
            pipeline.set_progress_bar_config(desc=f"clips {start + len(batch)}/{len(prompts)}", unit="step")
            heard = None if options.audio_prompt is None else [options.audio_prompt] * len(batch)
            seeds = [options.seed + start + i for i in range(len(batch))]
            made = pipeline(batch, audio_prompt=heard, seed=seeds, **arguments)
            for index, file in enumerate(files[start : start + len(batch)]):
                write(file, made, index, given)
                print(file)


def guidance(options: argparse.Namespace) -> Guidance:
    from ccl.guidance import Form, Guidance

    scales = {"text_scale": options.text_scale, "context_scale": options.context_scale}
    given = {name: value for name, value in scales.items() if value is not None}
    return Guidance(**given) if options.guidance is None else Guidance(Form(options.guidance), **given)


def write(file: Path, made: CCLOutput, index: int, given: Given) -> None:
    """Clip `index` of a batch, with the given sound or picture itself in place of what was not made."""
    sound, rate, picture, fps = given.sound, given.rate, given.picture, given.fps
    if made.audio is not None:
        sound, rate = made.audio[index][None], made.sample_rate
        if picture is not None:
            picture = picture[: max(1, round(sound.shape[1] / rate * fps))]
    if made.video is not None:
        picture, fps = made.video[index], made.fps
    if picture is not None:
        write_video(file, picture, fps, sound, rate)
    elif sound is not None:
        write_audio(file, sound, rate)


if __name__ == "__main__":
    run_main(main)
