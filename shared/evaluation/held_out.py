"""Held-out clips of the puppets: as rendered, through the codecs, as sampled, and what is read from their streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from shared.codecs import frames_to_tensor, tensor_to_frames
from shared.data.media import read_audio, read_video
from shared.data.media_write import write_audio, write_video
from shared.evaluation.blocks import Cell
from shared.evaluation.choice import chosen
from shared.evaluation.kept_samples import KeptSamples, Samples
from shared.evaluation.track_variants import TrackCase
from shared.evaluation.validity import SceneReading
from shared.puppets.clip import render_clip
from shared.puppets.hearing import hear
from shared.puppets.lasting import lasting
from shared.puppets.picture import render
from shared.puppets.readers import AudioReading, VideoReading, read_picture
from shared.puppets.script import HELD_OUT_SEED, Spec, sample_spec
from shared.puppets.shows import Show, sample_show, usual
from shared.puppets.sound import mouth_opening
from shared.utils.parallel import process_pool
from shared.utils.progress import bar as progress_bar

#: Makes the pipelines by name; called once in every process, so it must be picklable.
Loader = Callable[[], Mapping[str, Any]]
#: What was made of one clip: the fields of its `MeasuredClip` that are not those of the clip that was given.
Sampled = dict[str, Any]


@dataclass(frozen=True)
class MeasuredClip:
    """Frames uint8 [T, H, W, 3] and sound float32 [N] at `rate` Hz of one clip, and what is read from each:
    `video` with the caption, `scene` without."""

    frames: NDArray[np.uint8]
    sound: NDArray[np.float32]
    rate: int
    video: VideoReading
    audio: AudioReading
    scene: SceneReading

    @classmethod
    def read(cls, frames: NDArray[np.uint8], sound: NDArray[np.float32], spec: Spec) -> MeasuredClip:
        """Read both streams of a clip of this script."""
        return cls(sound=sound, rate=spec.rate, audio=hear(sound, spec.rate, spec.level), **read_frames(frames, spec))


def read_frames(frames: NDArray[np.uint8], spec: Spec) -> Sampled:
    """Read frames of a clip of this script, with its caption and without."""
    scene = SceneReading.read(frames, spec.fps, spec.level, spec.style)
    return {"frames": frames, "video": read_picture(frames, spec.fps, spec), "scene": scene}


@dataclass(frozen=True)
class HeldOut:
    """The held-out clips at the pipeline's frame rate, size and sample rate: as rendered and through the codecs.
    `cell`: height and width in pixels of what its video codec makes one token of."""

    specs: list[Spec]
    captions: list[tuple[str, str]]
    rendered: list[MeasuredClip]
    coded: list[MeasuredClip]
    cell: Cell

    @classmethod
    def make(
        cls, pipeline: Any, level: str, clips: int, seconds: int | None = None, held_out_pairs: bool = False,
        twins: bool = False, each: int | None = None, style: str = "stage", conflict: bool = False,
        name_style: bool = False,
    ) -> HeldOut:  # fmt: skip
        """Render the first `clips`, of a length if one is given, for a `CCLPipeline` or an `MTVPipeline`; without an
        audio codec the sound is as rendered. `held_out_pairs`: of pairs and paraphrases that no clip of training has;
        `twins`: these with usual ones instead. `each`: as `choice.chosen` has it. `conflict`: their texts contradict.
        `name_style`: their texts name the style.
        """
        stride = pipeline.video_codec.spatial_stride

        def script(index: int) -> Spec:
            spec = held_out_script(pipeline, level, index, held_out_pairs, twins, seconds, conflict)
            return replace(spec, style=style, style_mentioned=name_style)

        fit = (spec for spec in chosen(script, each) if seconds is None or spec.duration == seconds)
        held_out = cls([*islice(fit, clips)], [], [], [], (stride, stride))
        for spec in progress_bar(held_out.specs, desc="held-out clips", unit="clip"):
            clip = render_clip(spec)
            frames, sound = code_picture(pipeline, clip.frames), code_sound(pipeline, clip.mix)
            held_out.captions.append((clip.caption, clip.audio_caption))
            held_out.rendered.append(MeasuredClip.read(clip.frames, clip.mix, spec))
            held_out.coded.append(MeasuredClip.read(frames, sound, spec))
        return held_out

    def true(self, task: str) -> list[MeasuredClip]:
        """Collect the true clips; what the task makes has passed through its codec."""
        video = self.rendered if task == "v2a" else self.coded
        audio = self.rendered if task == "a2v" else self.coded
        return [replace(v, sound=a.sound, audio=a.audio) for v, a in zip(video, audio, strict=True)]

    def true_driven(self, pipeline: Any, case: TrackCase) -> MeasuredClip:
        """Show what a case should show, after it went through the codec, with the sum of its tracks."""
        own, spec, coded = self.specs[case.index], case.spec, self.coded[case.index]
        sound: Sampled = {"sound": case.mix, "rate": spec.rate, "audio": hear(case.mix, spec.rate, spec.level)}
        as_before = {name: getattr(own, name) for name in ("rate", "mood_mentioned", "music_mentioned")}
        if replace(spec, **as_before) == own:
            return replace(coded, **sound)
        mouths = [mouth_opening(spec, character) for character in spec.characters]
        frames = code_picture(pipeline, render(spec, mouths))
        return replace(coded, **sound, **read_frames(frames, spec))


def held_out_script(
    pipeline: Any, level: str, index: int, held_out_pairs: bool = False, twins: bool = False,
    seconds: int | None = None, conflict: bool = False,
) -> Spec:  # fmt: skip
    """Held-out script, of `shows` one of a single shot; its times are in seconds, so it can be rendered at the
    pipeline's rates and size. Those of `simple` are made to last `seconds`, if given."""
    size = (pipeline.config.height, pipeline.config.width)
    if held_out_pairs or twins:
        show = sample_show(HELD_OUT_SEED, index, size, shots=1, held_out=True)
        spec = (usual(show) if twins else show).shots[0]
    else:
        spec = sample_spec(HELD_OUT_SEED, index, level, size, float(conflict))
    if level == "simple" and seconds is not None:
        spec = lasting(spec, seconds)
    fps = pipeline.config.fps
    return replace(spec, fps=fps, frames=round(spec.duration * fps), rate=pipeline_rate(pipeline, spec.rate))


def pipeline_rate(pipeline: Any, rate: int) -> int:
    """Give the samples a second of the pipeline's sound; `rate` where it has no audio codec."""
    return rate if pipeline.audio_codec is None else int(pipeline.audio_codec.sample_rate)


@torch.no_grad()
def code_picture(pipeline: Any, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames [T, H, W, 3] through the video codec and back."""
    latents = pipeline.video_codec.encode(frames_to_tensor(torch.from_numpy(frames))[None].to(pipeline.device))
    return tensor_to_frames(pipeline.video_codec.decode(latents, len(frames)))[0].cpu().numpy()


@torch.no_grad()
def code_sound(pipeline: Any, sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sound [N] through the audio codec and back; as it is where there is none."""
    codec = pipeline.audio_codec
    if codec is None:
        return sound
    latents = codec.encode(torch.from_numpy(sound)[None, None].to(pipeline.device))
    decoded: NDArray[np.float32] = codec.decode(latents, len(sound))[0, 0].cpu().numpy()
    return decoded


def batches(specs: Sequence[Spec], size: int) -> Iterator[list[int]]:
    """Split clips by length: indices, up to `size` at a time."""
    for frames in sorted({spec.frames for spec in specs}):
        same = [i for i, spec in enumerate(specs) if spec.frames == frames]
        yield from (same[start : start + size] for start in range(0, len(same), size))


class SamplingJob(NamedTuple):
    """One call of a pipeline: the task, clips of one length by number, their scripts, the pipeline's name and its
    arguments; `through_files`: what is made is written and read again, as users have it; `shows`: the shots of each,
    which are read one by one."""

    task: str
    clips: list[int]
    specs: list[Spec]
    pipeline: str
    arguments: dict[str, Any]
    through_files: bool = False
    shows: Sequence[Show] = ()


class TaskSamples(NamedTuple):
    """What was made of a task's clips, by number, how long that took in seconds of all processes together, and how
    often the model was evaluated for each clip, all clips together."""

    clips: dict[int, Sampled]
    seconds: float
    evaluations: int = 0


class Sampler(ExitStack):
    """Runs jobs on `pipelines` in this process or, with more than one worker, on those that `load` makes in processes
    that live as long as this context; small models gain little from threads. What is sampled is kept in `kept`."""

    def __init__(
        self, pipelines: Mapping[str, Any], load: Loader, workers: int, kept: KeptSamples | None = None
    ) -> None:
        super().__init__()
        self.pipelines, self.load, self.workers, self.kept = pipelines, load, workers, kept
        self.pool: ProcessPoolExecutor | None = None

    def sample(self, jobs: Sequence[SamplingJob]) -> dict[str, TaskSamples]:
        """Sample each clip of all jobs, by task. A job is the same call in every process, and is made whole: another
        batch would round otherwise."""
        results = {job.task: TaskSamples({}, 0.0) for job in jobs}
        with progress_bar(total=sum(len(job.clips) for job in jobs), desc="samples", unit="clip") as bar:
            for job, clips, seconds, evaluations in self._results(jobs):
                so_far = results[job.task]
                so_far.clips.update(zip(job.clips, clips, strict=True))
                evaluations = so_far.evaluations + evaluations * len(clips)
                results[job.task] = TaskSamples(so_far.clips, so_far.seconds + seconds, evaluations)
                bar.update(len(clips))
        return results

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results of `function` in the items' order, of the processes that have sampled or of this one."""
        return map(function, items) if self.pool is None else self.pool.map(function, items)

    def _results(self, jobs: Sequence[SamplingJob]) -> Iterator[tuple[SamplingJob, list[Sampled], float, int]]:
        missing = []
        for job in jobs:
            samples = None if self.kept is None else self.kept.read(job.task, job.clips)
            if samples is None:
                missing.append(job)
            else:
                yield job, read_streams(job, samples), samples.seconds, samples.evaluations
        if min(self.workers, len(jobs)) <= 1:  # not of those that are missing: threads may round otherwise
            yield from ((job, *sample_clips(self.pipelines, job, self.kept)) for job in missing)
        elif missing:
            self.pool = self.enter_context(process_pool(self.workers, "spawn", _start_worker, (self.load,)))
            missing.sort(key=lambda job: -len(job.clips) * job.specs[0].frames)  # so that all end at about one time
            futures = {self.pool.submit(_run_in_worker, job, self.kept): job for job in missing}
            yield from ((futures[future], *future.result()) for future in as_completed(futures))


def sample_clips(
    pipelines: Mapping[str, Any], job: SamplingJob, kept: KeptSamples | None = None
) -> tuple[list[Sampled], float, int]:
    """Sample the clips of a job, keep and read them; and the seconds and the model's evaluations that it took."""
    started, pipeline = time.monotonic(), pipelines[job.pipeline]
    pipeline.set_progress_bar_config(disable=True)
    with counted(getattr(pipeline, "transformer", None)) as evaluations:
        output = pipeline(**job.arguments)
    seconds = time.monotonic() - started
    samples = Samples(output.video, output.audio if job.pipeline == "joint" else None, seconds, len(evaluations))
    if job.through_files:
        samples = through_files(samples, job.specs)
    if kept is not None:
        kept.write(job.task, job.clips, samples)
    return read_streams(job, samples), samples.seconds, samples.evaluations


@contextmanager
def counted(model: Any) -> Iterator[list[None]]:
    """Collect an entry for each evaluation of a model in the block; none of what is no module."""
    calls: list[None] = []
    if not isinstance(model, torch.nn.Module):
        yield calls
        return
    hook = model.register_forward_pre_hook(lambda *_: calls.append(None))
    try:
        yield calls
    finally:
        hook.remove()


def through_files(samples: Samples, specs: Sequence[Spec]) -> Samples:
    """Write each clip as the command line does, an mp4, or a wav of sound alone, and read it again."""
    frames, sounds = samples.frames, samples.sounds
    with TemporaryDirectory() as folder:
        for row, spec in enumerate(specs):
            file = Path(folder) / ("clip.wav" if frames is None else "clip.mp4")
            sound = None if sounds is None else sounds[row][None]
            if frames is None:
                assert sound is not None, "a pipeline makes a stream or two"
                write_audio(file, sound, spec.rate)
            else:
                write_video(file, frames[row], spec.fps, sound, None if sound is None else spec.rate)
                frames[row] = read_video(file, spec.fps)[: len(frames[row])]
            if sounds is not None:
                again = read_audio(file, spec.rate)[0][: sounds.shape[1]]
                sounds[row] = np.pad(again, (0, sounds.shape[1] - len(again)))
    return samples._replace(frames=frames, sounds=sounds)


def read_streams(job: SamplingJob, samples: Samples) -> list[Sampled]:
    """Read the streams of each clip; of shows, those of each shot."""
    if job.shows:
        assert samples.frames is not None and samples.sounds is not None, "shows are made of both streams"
        return [_read_show(*one) for one in zip(job.shows, samples.frames, samples.sounds, strict=True)]
    sampled: list[Sampled] = [{} for _ in job.specs]
    for row, spec in enumerate(job.specs):
        if samples.frames is not None:
            sampled[row] |= read_frames(samples.frames[row], spec)
        if samples.sounds is not None:
            sound = samples.sounds[row]
            sampled[row] |= {"sound": sound, "audio": hear(sound, spec.rate, spec.level)}
    return sampled


def _read_show(show: Show, frames: NDArray[np.uint8], sound: NDArray[np.float32]) -> Sampled:
    """Whole streams of a show and, under "shots", what is read from each shot."""
    parts = zip(show.shots, *cut_at(show, frames, sound), strict=True)
    shots = [
        {**read_frames(some, shot), "sound": own, "audio": hear(own, shot.rate, shot.level)}
        for shot, some, own in parts
    ]
    return {"frames": frames, "sound": sound, "shots": shots}


def cut_at(
    show: Show, frames: NDArray[np.uint8], sound: NDArray[np.float32]
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.float32]]]:
    """Cut frames [T, H, W, 3] and sound [N] where the shots of a show begin."""
    first = show.shots[0]
    samples = [round(frame * first.rate / first.fps) for frame in show.first_frames[1:]]
    return np.split(frames, show.first_frames[1:]), np.split(sound, samples)


_in_worker: dict[str, Any] = {}


def _start_worker(load: Loader) -> None:
    torch.set_num_threads(1)
    _in_worker.update(load())


def _run_in_worker(job: SamplingJob, kept: KeptSamples | None) -> tuple[list[Sampled], float, int]:
    return sample_clips(_in_worker, job, kept)
