"""What a user gives `CCLPipeline` beside texts: whole streams, a first frame, spans that stay, a track of the sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ccl.parts import GivenPart, GivenTrack
from ccl.routing import Task, check_given, infer_task, parse_task
from ccl.sampler import STREAMS, Clean, Tensors
from ccl.spans import Span
from shared.utils.errors import UserError


class Kept(NamedTuple):
    """Frames, [B, 3, T, H, W], or samples, [B, 1, N], that the output has as they are where `mask` [T] or [N]; `spans`
    are the seconds of these."""

    values: Tensor
    mask: Tensor
    spans: list[Span]


class Encoded(NamedTuple):
    """The same as the model reads it: latents of whole streams, of parts of streams, and of a track; and what of the
    output is not made."""

    streams: Tensors
    clean: dict[str, Clean]
    part: GivenPart | None
    kept: dict[str, Kept]


class Given(NamedTuple):
    """Arguments of `CCLPipeline`, as they are told there."""

    image: Tensor | None = None
    audio: Tensor | None = None
    video: Tensor | None = None
    keep: Sequence[Span] | None = None
    keep_audio: Sequence[Span] | None = None
    speech: GivenTrack | None = None
    effects: GivenTrack | None = None

    @property
    def part(self) -> tuple[str, GivenTrack] | None:
        """Name and sound of the given track. UserError for two."""
        if self.speech is not None and self.effects is not None:
            raise UserError("given_speech and given_effects: a sample has one given track; leave one out")
        if self.effects is not None:
            return "effects", self.effects
        return None if self.speech is None else ("speech", self.speech)

    def task(self, name: str) -> Task:
        """Find the task called `name`; auto: by what is given. UserError if what is given does not fit it."""
        has_audio, has_video = self.audio is not None, self.video is not None
        if name != "auto":
            task = parse_task(name)
        elif self.part is not None:
            task = Task.PART
        elif self.keep is not None or self.keep_audio is not None:
            task = Task.T2AV
        else:
            task = infer_task(has_audio, has_video)
        kept = self.kept(task)
        whole = has_audio and "audio" not in kept, has_video and "video" not in kept
        check_given(task, *whole, self.image is not None, self.part is not None)
        return task

    def kept(self, task: Task) -> dict[str, Sequence[Span]]:
        """Spans of each stream that the task makes and of which something is given. UserError for spans of nothing."""
        spans = {"video": self.keep, "audio": self.keep if self.keep_audio is None else self.keep_audio}
        made = {"video": task.route.video_noisy, "audio": task.route.audio_noisy}
        given = {"video": self.video, "audio": self.audio}
        kept = {}
        for name in STREAMS:
            if made[name] and given[name] is not None and (asked := spans[name]) is not None:
                kept[name] = asked
        if self.keep is not None and not ("video" in kept or (self.keep_audio is None and "audio" in kept)):
            raise UserError(f"keep: task {task} makes no stream of which a part is given; give video or audio with it")
        if self.keep_audio is not None and "audio" not in kept:
            raise UserError(f"keep_audio: task {task} makes no sound of which a part is given; give audio with it")
        return kept


def with_first(first: Tensor, clean: Clean | None, frames: int) -> Clean:
    """`first` [B, C, 1, H, W] as the clean latent 0 of so many, beside others. UserError if that is kept already."""
    if clean is None:
        others, mask = first.new_zeros(*first.shape[:2], frames - 1, *first.shape[3:]), torch.zeros(frames - 1).bool()
    elif clean.mask[0]:
        raise UserError("image and keep both give the first frame; leave the image out, or keep a later span")
    else:
        others, mask = clean.latents[:, :, 1:], clean.mask[1:]
    return Clean(torch.cat([first, others.to(first)], dim=2), torch.cat([torch.ones(1, dtype=torch.bool), mask]))
