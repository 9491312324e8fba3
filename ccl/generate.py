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
from ccl.routing import JOINT_TASKS, GivenKinds, Task
from shared.checkpoint.folder import check_checkpoint, check_joint
from shared.checkpoint.loading import SHORT, SamplingOptions, check_output, load_model
from shared.data.given import given_pictures, given_sound
from shared.data.media import probe, read_audio, read_image, read_mono, read_video, write_audio, write_video
from shared.data.media_write import picture_source, sound_source, write_lossless, write_streams
from shared.encoders.timed_prompts import TimedPrompts
from shared.utils.cli import Interval, PerStream, Spans, exclusive, numbers, option
from shared.utils.digest import settings_digest
from shared.utils.errors import EveryRanksError, UserError
from shared.utils.files import read_json
from shared.utils.launch import tell
from shared.utils.levels import why_cancelled
from shared.utils.ranges import Batch, Count, Layer, Rate, WindowSeconds
from shared.utils.startup import quick_imports

if TYPE_CHECKING:
    from ccl.guidance import Guidance
    from ccl.pipeline import CCLPipeline
    from shared.data.clip_output import ClipOutput

LONGEST = 120.0  # s; attention over more needs windows
#: The scales that each form of guidance reads (ccl/guidance.py has the formulas).
SCALES = {
    "dual": ("text_scale", "context_scale"), "joint": ("text_scale",), "context": ("context_scale",),
    "text": ("text_scale",), "none": (),
}  # fmt: skip


class JointOptions(SamplingOptions):
    """Options of scripts/sample_joint.py."""

    output: Path = option(help="OUT.mp4, OUT.mkv with --lossless, or OUT.wav with --task t2a", writes="file")
    prompt: str | None = option(None, "what to see and, without --audio-prompt, to hear", metavar="TEXT")
    prompts: Path | None = option(
        None, "one prompt per line, or X.jsonl of {prompt, audio_prompt, seed}: one clip each", metavar="FILE"
    )
    resume: bool = option(False, "keep the clips of --prompts that an earlier run of the same command has made")
    timed_prompts: Path | None = option(None, "lines of SECONDS, TEXT: one clip", metavar="FILE")
    audio_prompt: str | None = option(None, "what to hear; default: the prompt", metavar="TEXT")
    task: str = option("auto", f"auto (default), {', '.join(JOINT_TASKS)}")
    audio: Path | None = option(None, "a wav, mp3, m4a, flac, ogg, or any file with sound: make a video for it")
    audio_track: Count | None = option(None, "which track of --audio, from 1; default: the file's own default")
    video: Path | None = option(None, "an mp4, mov, mkv or webm: make a sound for it")
    keep: Spans | None = option(
        None,
        "seconds of --video, --audio or both that stay, while the rest is made: extend, retake, fill in",
        metavar="FROM-TO,...",
    )
    keep_audio: Spans | None = option(None, "other seconds of --audio that stay", metavar="FROM-TO,...")
    given_speech: Path | None = option(None, "a file of speech alone: make the video and the rest of the sound for it")
    given_effects: Path | None = option(None, "the same for a file of effects alone")
    duration: Annotated[float, Field(gt=0, le=3600)] | None = option(
        None, "seconds; default: 2, or as long as the given sound or video, which may be longer than S", metavar="S"
    )
    num_frames: Count | None = option(None, "the same in pictures", metavar="N")
    window: WindowSeconds | None = option(
        None, "make a long clip so many seconds at a time, each part going on from the last pictures and sounds of the "
        "one before; best as trained; default: at once", metavar="S",
    )  # fmt: skip
    guidance: Literal["dual", "joint", "context", "text", "none"] | None = option(
        None, "form of guidance; default: dual"
    )
    text_scale: PerStream | None = option(
        None, "how much the text counts, for video and sound; 1: as trained", metavar="V[,A]"
    )
    context_scale: PerStream | None = option(None, "how much the other modality counts; 1: as trained", metavar="V[,A]")
    interval: Interval | None = option(
        None, "noise levels, from 0 to 1, between which guidance is on; default: 0.5,1", metavar="LOW,HIGH"
    )
    rescale: Rate | None = option(
        None, "how far a guided prediction's deviation is brought back to an unguided one's; default: 0", metavar="V"
    )
    lossless: bool = option(False, "FFV1 and FLAC in an mkv, which return what was made; kept spans to the bit")
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
        if self.interval is not None and not self.interval[0] < self.interval[1]:
            raise ValueError(f"--interval {self.interval[0]:g},{self.interval[1]:g}: the first must be the lower")
        if form == "none" and (self.interval is not None or self.rescale is not None):
            raise ValueError("--interval and --rescale have no effect with --guidance none; leave them out")
        if self.skip_layers and "text_scale" not in SCALES[form]:
            raise ValueError(f"--skip-layers has no effect with --guidance {form}; leave it out")
        exclusive(self, "duration", "num_frames")
        exclusive(self, "given_speech", "given_effects")
        task = self.chosen_task
        if self.size is not None and task is Task.T2A:
            raise ValueError("--size has no effect with --task t2a, which has no pictures; leave it out")
        if self.lossless and task not in (Task.T2AV, Task.PART):
            raise ValueError(f"--lossless writes what was made of both streams; task {task} makes one")
        given = any(getattr(self, name) is not None for name in ("audio", "video"))
        if self.window is not None and (task is not Task.T2AV or given):
            raise ValueError("--window makes a long clip of texts and a first --image; leave it out")
        if self.window is None and (self.duration or 0) > LONGEST:
            raise ValueError(f"--duration {self.duration:g}: at most {LONGEST:g} s at once; give --window for more")
        if self.fps is not None and task is Task.T2A:
            raise ValueError("--fps has no effect with --task t2a, which has no pictures; leave it out")
        return self

    def seed_of(self, index: int, line: PromptLine) -> int:
        """Seed of a clip: its line's own, or SEED and its number."""
        return self.seed + index if line.seed is None else line.seed

    @cached_property
    def chosen_task(self) -> Task:
        """What is sampled. UserError for a task that there is not, and for what is given and does not fit it."""
        there = {name: getattr(self, name) is not None for name in ("audio", "video", "image", "keep", "keep_audio")}
        part = self.given_speech is not None or self.given_effects is not None
        return GivenKinds(part=part, **there).task(self.task)

    @property
    def wanted_seconds(self) -> float | None:
        """Length that is asked for, in seconds or in pictures at the checkpoint's rate or --fps."""
        if self.num_frames is None:
            return self.duration
        return self.num_frames / (self.fps or read_json(self.checkpoint / "model_index.json").get("fps", 16.0))

    @property
    def given_files(self) -> tuple[Path | None, ...]:
        """Files of what is given beside texts."""
        return self.image, self.audio, self.video, self.given_speech, self.given_effects

    @property
    def carries_given(self) -> bool:
        """Whether the file carries a whole given stream as it is."""
        return self.chosen_task in (Task.A2V, Task.V2A)


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
    inputs = [options.prompts, *options.given_files, *(file for file, _ in options.adapters())]
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
            output = sample_batch(
                options, pipeline, list(prompts), {"audio_prompt": heard, "seed": list(seeds)} | arguments
            )
            for index, file in enumerate(files if launch.writes else ()):
                write_clip(file, output, index, given)
                yield file


def sample_batch(
    options: JointOptions, pipeline: CCLPipeline, prompts: list[str | TimedPrompts], arguments: dict[str, Any]
) -> ClipOutput:
    """Sample a batch: at once, or in windows."""
    if options.window is None:
        return pipeline(prompts, **arguments)
    from ccl.long_clip import joined
    from shared.utils.windows import window_frames

    arguments.pop("task")  # the only one
    fps, stride = arguments.get("fps", pipeline.config.fps), pipeline.video_codec.temporal_stride
    return joined(list(pipeline.stream(prompts, window=window_frames(options.window, fps, stride), **arguments)))


def output_files(options: JointOptions, count: int | None) -> list[Path]:
    """OUT, or OUT_000 ... for `count` prompts. Raises UserError if they cannot be written."""
    out, task = options.output, options.chosen_task
    suffix = ".mkv" if options.lossless else ".mp4" if task.route.video_noisy or options.video else ".wav"
    if out.suffix.lower() != suffix:
        what = "--lossless" if options.lossless else f"task {task}"
        raise UserError(f"--output {out}: {what} writes {suffix}; give a name that ends so")
    files = [out] if count is None else [out.with_stem(f"{out.stem}_{i:03d}") for i in range(count)]
    check_output(out, files, options.given_files)
    return files


class GivenMedia(NamedTuple):
    """The clip's `duration` in seconds, and what the user gave to be carried by it as it is."""

    duration: float
    audio: Path | None = None
    track: int | None = None  # of its sound
    video: Path | None = None

    @classmethod
    def read(cls, options: JointOptions) -> GivenMedia:
        """Decode what is given, so that a broken file is known before the model is loaded."""
        wanted, audio, video, track = options.wanted_seconds, options.audio, options.video, options.audio_track
        if options.image is not None:
            read_image(options.image)
        lengths = []
        if audio is not None:
            lasts = probe(audio, track).audio_end
            lengths.append(_duration(audio, "sound", lasts, wanted if options.carries_given else None))
            end = min(lengths[-1], LONGEST)
            mono, loudest = read_mono(audio, 16000, end=end, track=track)
            if reason := why_cancelled(mono, loudest):
                tell(f"warning: {audio}: {reason}")
            given_sound(audio, track, Fraction(end))
        if video is not None:
            lasts = probe(video).video_end
            lengths.append(_duration(video, "pictures", lasts, wanted if options.carries_given else None))
            read_video(video, max(1.0, 1 / lengths[-1]), (32, 32), end=lengths[-1])
        for part in filter(None, (options.given_speech, options.given_effects)):
            lengths.append(_duration(part, "sound", probe(part).audio_end, wanted))
            read_mono(part, 16000, end=lengths[-1])
        duration = wanted if wanted is not None else max(lengths, default=2.0)
        return cls(duration, audio, track, video) if options.carries_given else cls(duration, track=track)

    def arguments(self, options: JointOptions, pipeline: CCLPipeline) -> dict[str, Any]:
        """Arguments of the pipeline: the same at its rate, its frame rate and its size."""
        import torch

        names = ("image", "video", "given_speech", "given_effects", "keep", "keep_audio")
        arguments = {name: value for name in names if (value := getattr(options, name)) is not None}
        if options.audio is not None:
            sound = read_audio(options.audio, pipeline.audio_codec.sample_rate, end=self.duration, track=self.track)
            arguments["audio"] = torch.from_numpy(sound)[None]
        return arguments | {"duration": self.duration}


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

    names = {"text_scale", "context_scale", "interval", "rescale", "skip_layers"}
    scales = options.model_dump(include=names, exclude_none=True)
    return Guidance(options.guidance and Form(options.guidance), **scales)


def write_clip(file: Path, output: ClipOutput, index: int, given: GivenMedia) -> None:
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
    elif file.suffix == ".mkv":
        assert output.video is not None and audio is not None, "--lossless is of tasks that make both"
        write_lossless(file, output.video[index], output.fps, audio, output.sample_rate)
    elif output.video is not None:
        write_video(file, output.video[index], output.fps, audio, output.sample_rate if audio is not None else None)
    elif audio is not None:
        write_audio(file, audio, output.sample_rate)
