"""DCR: dynamic context routing. A task says who reads what, which stream is noisy and what is learned (CCL paper).

| task | video reads | audio reads | noisy | loss |
|---|---|---|---|---|
| t2av | LCT + audio | LCT + video | both | v + a |
| t2v | LCT | stream skipped | video | v |
| t2a | stream skipped | LCT | audio | a |
| a2v | LCT + clean audio | LCT | video | v |
| v2a | LCT | LCT + clean video | audio | a |
| mtv | LCT, and the control network of the tracks | stream skipped | video | v |
| part | LCT + audio | LCT + video; a given track as more of its input (`ccl.parts`) | both | v + a |

The context tokens are always visible. A stream that is not in the task is not computed; a clean stream reads the
context tokens only, so it does not depend on the step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from shared.utils.errors import UserError


class Reads(StrEnum):
    """What a stream reads in CCA."""

    SKIPPED = "skipped"
    CONTEXT = "context tokens"
    CROSS_MODAL = "context tokens and the other stream"


@dataclass(frozen=True)
class Route:
    """The way of one task through the model; also what its loss is made of: the noisy streams."""

    video: Reads
    audio: Reads
    video_noisy: bool
    audio_noisy: bool

    def is_noisy(self, stream: str) -> bool:
        """Whether the route makes the stream "video" or "audio"."""
        return self.video_noisy if stream == "video" else self.audio_noisy

    @property
    def unconditional(self) -> Route:
        """The 0m route: every noisy stream reads its context tokens only; a clean stream is not needed."""
        video, audio = (Reads.CONTEXT if noisy else Reads.SKIPPED for noisy in (self.video_noisy, self.audio_noisy))
        return replace(self, video=video, audio=audio)

    @property
    def joint(self) -> Route:
        """The route without DCR: both streams always read each other, a clean one the noisy one too. UserError for a
        route on which no stream reads the other, such as t2v or 0m: it has no such form."""
        if not self.has_context:
            raise UserError("a model with routing: joint knows no stream alone (t2v, t2a, mtv); take t2av, a2v or v2a")
        return replace(self, video=Reads.CROSS_MODAL, audio=Reads.CROSS_MODAL)

    @property
    def has_context(self) -> bool:
        """Whether any stream reads the other, so that m and 0m differ."""
        return Reads.CROSS_MODAL in (self.video, self.audio)


class Task(StrEnum):
    T2AV = "t2av"
    T2V = "t2v"
    T2A = "t2a"
    A2V = "a2v"
    V2A = "v2a"
    MTV = "mtv"
    PART = "part"

    @property
    def route(self) -> Route:
        return ROUTES[self]


ROUTES = {
    Task.T2AV: Route(Reads.CROSS_MODAL, Reads.CROSS_MODAL, video_noisy=True, audio_noisy=True),
    Task.T2V: Route(Reads.CONTEXT, Reads.SKIPPED, video_noisy=True, audio_noisy=False),
    Task.T2A: Route(Reads.SKIPPED, Reads.CONTEXT, video_noisy=False, audio_noisy=True),
    Task.A2V: Route(Reads.CROSS_MODAL, Reads.CONTEXT, video_noisy=True, audio_noisy=False),
    Task.V2A: Route(Reads.CONTEXT, Reads.CROSS_MODAL, video_noisy=False, audio_noisy=True),
    Task.MTV: Route(Reads.CONTEXT, Reads.SKIPPED, video_noisy=True, audio_noisy=False),
    Task.PART: Route(Reads.CROSS_MODAL, Reads.CROSS_MODAL, video_noisy=True, audio_noisy=True),
}

JOINT_TASKS = tuple(task for task in Task if task not in (Task.MTV, Task.PART))
"""What is sampled from text, sound and pictures alone; mtv and part need tracks."""

PARTS = ("speech", "effects")
"""Tracks of which task part gives one; what else sounds is made with the video."""


def parse_task(name: str) -> Task:
    """Find the task of `CCLPipeline` called `name`; a `UserError` lists those there are."""
    if name == Task.MTV:
        raise UserError("task mtv is driven by tracks; sample it with scripts/sample_mtv.py or MTVPipeline")
    try:
        return Task(name)
    except ValueError:
        raise UserError(f"task {name!r} is unknown; choose one of {', '.join(JOINT_TASKS)}") from None


def infer_task(has_audio: bool, has_video: bool) -> Task:
    """`--task auto`: given sound drives the video, given video gets its sound, text alone makes both."""
    if has_audio and has_video:
        raise UserError("both a sound and a video are given, so nothing is left to make; give one of them")
    return Task.A2V if has_audio else Task.V2A if has_video else Task.T2AV


def check_given(task: Task, audio: bool, video: bool, image: bool, part: bool = False) -> None:
    """Raise UserError if what is given (a sound, a picture, a first frame, a track) does not fit the task."""
    needs = {Task.A2V: ("audio",), Task.V2A: ("video",)}.get(task, ())
    for name, there in (("audio", audio), ("video", video)):
        if name in needs and not there:
            raise UserError(f"task {task} needs the given {name}; give one, or choose t2av")
        if name not in needs and there:
            raise UserError(f"task {task} does not read a given {name}; leave it out, or choose a2v or v2a")
    if image and not task.route.video_noisy:
        raise UserError(f"task {task} makes no video, so a first frame has no use; leave the image out")
    if part != (task is Task.PART):
        what = "has no use for a given track; leave it out, or choose part" if part else "needs a given track"
        raise UserError(f"task {task} {what}" + ("" if part else ": given_speech or given_effects of CCLPipeline"))


@dataclass(frozen=True)
class GivenKinds:
    """Which streams, first frame, track and spans a call is given; tells the task, without reading anything."""

    audio: bool = False
    video: bool = False
    image: bool = False
    part: bool = False
    keep: bool = False
    keep_audio: bool = False

    def task(self, name: str) -> Task:
        """Find the task called `name`; auto: by what is given. UserError if what is given does not fit it."""
        if name != "auto":
            task = parse_task(name)
        elif self.part:
            task = Task.PART
        elif self.keep or self.keep_audio:
            task = Task.T2AV
        else:
            task = infer_task(self.audio, self.video)
        kept = self.kept(task)
        check_given(task, self.audio and "audio" not in kept, self.video and "video" not in kept, self.image, self.part)
        return task

    def kept(self, task: Task) -> tuple[str, ...]:
        """Streams that the task makes and of which a part stays as given. UserError for spans of nothing."""
        spans = {"video": self.keep, "audio": self.keep or self.keep_audio}
        given = {"video": self.video, "audio": self.audio}
        kept = tuple(name for name in spans if task.route.is_noisy(name) and given[name] and spans[name])
        if self.keep and not ("video" in kept or (not self.keep_audio and "audio" in kept)):
            raise UserError(f"keep: task {task} makes no stream of which a part is given; give video or audio with it")
        if self.keep_audio and "audio" not in kept:
            raise UserError(f"keep_audio: task {task} makes no sound of which a part is given; give audio with it")
        return kept
