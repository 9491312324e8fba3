"""Clips from files to files: what a user gives is checked and decoded, sampled in batches, written as mp4 or wav.

What is wrong with the options is said before torch and diffusers are imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, model_validator

from ccl.prompt_list import Clip, PromptLine, Record, batches, read_prompts
from ccl.routing import JOINT_TASKS, Task, check_given, infer_task, parse_task
from shared.checkpoint.folder import check_checkpoint, check_joint
from shared.checkpoint.loading import SHORT, SamplingOptions, check_output, load_model
from shared.data.given import given_pictures, given_sound
from shared.data.media import probe, read_audio, read_image, read_mono, read_video, write_audio, write_video
from shared.data.media_write import picture_source, sound_source, write_streams
from shared.encoders.timed_prompts import TimedPrompts
from shared.utils.cli import PerStream, exclusive, numbers, option
from shared.utils.digest import settings_digest
from shared.utils.errors import EveryRanksError, UserError
from shared.utils.launch import tell
from shared.utils.levels import why_cancelled
from shared.utils.ranges import Batch, Count, Layer
from shared.utils.startup import quick_imports

if TYPE_CHECKING:
    from ccl.guidance import Guidance
    from ccl.pipeline import CCLOutput, CCLPipeline

LONGEST = 120.0  # s; attention over more needs windows
#: The scales that each form of guidance reads (ccl/guidance.py has the formulas).
SCALES = {
    "dual": ("text_scale", "context_scale"), "joint": ("text_scale",), "context": ("context_scale",),
    "text": ("text_scale",), "none": (),
}  # fmt: skip


class JointOptions(SamplingOptions):
    """Options of scripts/sample_joint.py."""

    output: Path = option(help="OUT.mp4, or OUT.wav with --task t2a", writes="file")
    prompt: str | None = option(None, "what to see and, without --audio-prompt, to hear", metavar="TEXT")
    prompts: Path | None = option(
        None, "one prompt per line, or X.jsonl of {prompt, audio_prompt, seed}: one clip each", metavar="FILE"
    )
    resume: bool = option(False, "keep the clips of --prompts that an earlier run of the same command has made")
    timed_prompts: Path | None = option(None, "lines of SECONDS, TEXT: one clip", metavar="FILE")
    audio_prompt: str | None = option(None, "what to hear; default: the prompt", metavar="TEXT")
    task: str = option("auto", f"auto (default), {', '.join(JOINT_TASKS)}")
    audio: Path | None = option(None, "a wav, or any file with sound: make a video for it")
    audio_track: Count | None = option(None, "which track of --audio, from 1; default: the file's own default")
    video: Path | None = option(None, "an mp4, mov, mkv or webm: make a sound for it")
    duration: Annotated[float, Field(gt=0, le=LONGEST)] | None = option(
        None, "seconds; default: 2, or as long as the given sound or video, which may be longer than S", metavar="S"
    )
    guidance: Literal["dual", "joint", "context", "text", "none"] | None = option(
        None, "form of guidance; default: dual"
    )
    text_scale: PerStream | None = option(
        None, "how much the text counts, for video and sound; 1: as trained", metavar="V[,A]"
    )
    context_scale: PerStream | None = option(None, "how much the other modality counts; 1: as trained", metavar="V[,A]")
    skip_layers: Annotated[tuple[Layer, ...], BeforeValidator(numbers)] = option(
        (), "layers, from 0, that evaluations without the text leave out; Ovi's own is 11; default: none",
        metavar="N[,N]",
    )  # fmt: skip
    batch: Batch = option(8, "clips of --prompts sampled at a time")

    @model_validator(mode="after")
    def _consistent(self) -> JointOptions:
        exclusive(self, "prompt", "prompts", "timed_prompts", required=True)
        if self.resume and self.prompts is None:
            raise ValueError("--resume goes on with --prompts; leave it out")
        if self.launch.groups > 1 and self.prompts is None:
            many = f"{self.launch.size} processes for one clip"
            raise EveryRanksError(f"{many}; give --context-parallel {self.launch.size}, or --prompts, or start one")
        if self.audio_track is not None and self.audio is None:
            raise ValueError("--audio-track chooses a track of --audio; give both, or leave it out")
        form = self.guidance or "dual"
        for name in ("text_scale", "context_scale"):
            if getattr(self, name) is not None and name not in SCALES[form]:
                raise ValueError(f"--{name.replace('_', '-')} has no effect with --guidance {form}; leave it out")
        if self.skip_layers and "text_scale" not in SCALES[form]:
            raise ValueError(f"--skip-layers has no effect with --guidance {form}; leave it out")
        check_given(self.chosen_task, self.audio is not None, self.video is not None, self.image is not None)
        if self.fps is not None and self.chosen_task is Task.T2A:
            raise ValueError("--fps has no effect with --task t2a, which has no pictures; leave it out")
        return self

    def seed_of(self, index: int, line: PromptLine) -> int:
        """Seed of a clip: its line's own, or SEED and its number."""
        return self.seed + index if line.seed is None else line.seed

    @cached_property
    def chosen_task(self) -> Task:
        """What is sampled. UserError for a task that there is not, and for a sound and a video together."""
        inferred = infer_task(self.audio is not None, self.video is not None)
        return inferred if self.task == "auto" else parse_task(self.task)


def generate(options: JointOptions) -> Iterator[Path]:
    """Sample all clips in batches and write them; each file as soon as it is written. What the options name and cannot
    be used is a UserError, where possible before the model is loaded. The processes of a launcher divide the batches;
    the first of each group writes."""
    lines = [PromptLine(prompt=options.prompt or "")] if options.prompts is None else read_prompts(options.prompts)
    files = output_files(options, None if options.prompts is None else len(lines))
    check_joint(check_checkpoint(options.checkpoint, options.trust_package), f"checkpoint {options.checkpoint}: ")
    given, story = GivenMedia.read(options), None
    if options.timed_prompts is not None:
        story = TimedPrompts.read(options.timed_prompts, given.duration, options.fade or 0)
    clips = [
        Clip(story or line.prompt, line.audio_prompt or options.audio_prompt, options.seed_of(index, line), file)
        for index, (line, file) in enumerate(zip(lines, files, strict=True))
    ]
    record = None
    if options.prompts is not None and options.launch.rank == 0:
        record = Record(options.output, files, _digest(options), options.resume)
    with options.launch.joined():
        yield from _sample(options, clips, given, record)


def _digest(options: JointOptions) -> str:
    """Digest of all that decides the clips of a list."""
    weights = sorted(path for path in options.checkpoint.rglob("*") if path.is_file())
    inputs = [options.prompts, options.image, options.audio, options.video, *(file for file, _ in options.adapters())]
    elsewhere = ("output", "resume", "device", "context_parallel", "local_rank")
    return settings_digest(options, [*(path for path in inputs if path is not None), *weights], elsewhere)


def _sample(options: JointOptions, clips: list[Clip], given: GivenMedia, record: Record | None) -> Iterator[Path]:
    """Load the checkpoint and make this process's share of the clips; the first process has the record of a list."""
    with quick_imports(options.compile):
        from ccl.pipeline import CCLPipeline
        from shared.nn.attention import use_backend
        from shared.nn.cache_context import cache_steps
        from shared.nn.compiling import compile_blocks

    launch = options.launch
    made = launch.of_first(set[Path]() if record is None else record.made)
    todo = batches(clips, options.batch, made)
    if not todo:
        return
    if len(todo) < launch.groups:
        told = f"{len(todo)} batches of at most {options.batch} clips for {launch.groups} processes or groups of them"
        tell(f"warning: {told}: some have nothing to do; lower --batch")
    with use_backend(options.attention, "--attention"):
        pipeline = load_model(CCLPipeline, options)
        if options.compile:
            compile_blocks(pipeline.transformer, "--compile")
        cache_steps(pipeline.transformer, options.step_cache)
        arguments = given.arguments(options, pipeline) | options.given_arguments()
        arguments |= {"task": options.chosen_task.value, "guidance": guidance(options)}
        if record is not None:
            record.begin()
        for batch in todo[launch.group :: launch.groups]:
            desc = f"clips {clips.index(batch[-1]) + 1}/{len(clips)}"
            pipeline.set_progress_bar_config(desc=desc, unit="step", disable=launch.rank > 0)
            prompts, audio_prompts, seeds, files = zip(*batch, strict=True)
            heard = [one or two for one, two in zip(audio_prompts, prompts, strict=True)]
            output = pipeline(list(prompts), audio_prompt=heard, seed=list(seeds), **arguments)
            for index, file in enumerate(files if launch.writes else ()):
                _write(file, output, index, given)
                yield file


def output_files(options: JointOptions, count: int | None) -> list[Path]:
    """OUT, or OUT_000 ... for `count` prompts. Raises UserError if they cannot be written."""
    out, task = options.output, options.chosen_task
    suffix = ".mp4" if task.route.video_noisy or options.video else ".wav"
    if out.suffix.lower() != suffix:
        raise UserError(f"--output {out}: task {task} writes {suffix}; give a name that ends so")
    files = [out] if count is None else [out.with_stem(f"{out.stem}_{i:03d}") for i in range(count)]
    check_output(out, files, (options.image, options.audio, options.video))
    return files


class GivenMedia(NamedTuple):
    """What the user gave to be carried by the clip as it is, and the clip's `duration` in seconds."""

    duration: float
    audio: Path | None = None
    track: int | None = None  # of its sound
    video: Path | None = None

    @classmethod
    def read(cls, options: JointOptions) -> GivenMedia:
        """Decode what is given, so that a broken file is known before the model is loaded."""
        if options.image is not None:
            read_image(options.image)
        if options.audio is not None:
            track = options.audio_track
            duration = _duration(options.audio, "sound", probe(options.audio, track).audio_end, options.duration)
            mono, loudest = read_mono(options.audio, 16000, end=duration, track=track)
            if reason := why_cancelled(mono, loudest):
                tell(f"warning: {options.audio}: {reason}")
            given_sound(options.audio, track, Fraction(duration))
            return cls(duration, audio=options.audio, track=track)
        if options.video is not None:
            duration = _duration(options.video, "pictures", probe(options.video).video_end, options.duration)
            read_video(options.video, max(1.0, 1 / duration), (32, 32), end=duration)
            return cls(duration, video=options.video)
        return cls(2.0 if options.duration is None else options.duration)

    def arguments(self, options: JointOptions, pipeline: CCLPipeline) -> dict[str, Any]:
        """Arguments of the pipeline: the same at its rate, its frame rate and its size."""
        import torch

        from shared.codecs import frames_to_tensor

        size, arguments = (pipeline.config.height, pipeline.config.width), dict[str, Any](duration=self.duration)
        if options.image is not None:
            arguments["image"] = frames_to_tensor(torch.from_numpy(read_image(options.image, size))[None])[None, :, 0]
        if options.audio is not None:
            sound = read_audio(options.audio, pipeline.audio_codec.sample_rate, end=self.duration, track=self.track)
            arguments["audio"] = torch.from_numpy(sound)[None]
        if options.video is not None:
            frames = read_video(options.video, options.fps or pipeline.config.fps, size, end=self.duration)
            arguments["video"] = frames_to_tensor(torch.from_numpy(frames))[None]
        return arguments


def _duration(path: Path, what: str, lasts: float | None, wanted: float | None) -> float:
    """Duration of the clip: as wanted, or as long as the given file."""
    if lasts is None:
        raise UserError(f"{path}: has no {what}; a file with {what} is needed")
    if wanted is not None and wanted > lasts + SHORT:
        raise UserError(f"{path}: its {what} last {lasts:.2f} s; --duration {wanted:g} is longer, lower it")
    if wanted is None and lasts > LONGEST:
        raise UserError(f"{path}: its {what} last {lasts:.0f} s; give a --duration of at most {LONGEST:g}")
    return lasts if wanted is None else wanted


def guidance(options: JointOptions) -> Guidance:
    """Form and scales that are asked for."""
    from ccl.guidance import Form, Guidance

    scales = options.model_dump(include={"text_scale", "context_scale", "skip_layers"}, exclude_none=True)
    return Guidance(options.guidance and Form(options.guidance), **scales)


def _write(file: Path, output: CCLOutput, index: int, given: GivenMedia) -> None:
    """Clip `index` of a batch, with the given sound or picture itself in place of what was not made."""
    audio = None if output.audio is None else output.audio[index][None]
    if given.video is not None:
        assert audio is not None, "v2a makes a sound"
        seconds = Fraction(given.duration)
        sound = sound_source(audio, output.sample_rate, "mono", seconds)
        write_streams(file, [given_pictures(given.video, float(seconds)), sound], output.sample_rate)
    elif given.audio is not None:
        assert output.video is not None, "a2v makes a video"
        pictures, speed = picture_source(file, output.video[index], output.fps)
        sound = given_sound(given.audio, given.track, len(output.video[index]) / speed)
        write_streams(file, [pictures, sound], probe(given.audio, given.track).rate)
    elif output.video is not None:
        write_video(file, output.video[index], output.fps, audio, output.sample_rate if audio is not None else None)
    elif audio is not None:
        write_audio(file, audio, output.sample_rate)
