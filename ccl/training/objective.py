"""The joint training objective: samples grouped by route, one u per sample, flow-matching loss per stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ccl.flops import Tokens, task_flops
from ccl.parts import GivenPart
from ccl.routing import Reads, Route, Task
from ccl.sampler import STREAMS, Tensors
from ccl.transformer import DualStreamTransformer, StreamContext, StreamInput
from mtv.control import TrackFeatures
from shared.nn.clock import LatentClock
from shared.nn.flow import draw_chosen, draw_noise, draw_u, noisy, shift, velocity
from shared.nn.timed_text import Text
from shared.training.flops import StepCost, step_cost, trained_share
from shared.training.trainer import LossRecord, StepOutput
from shared.utils.config import Flow, Loss
from shared.utils.rng import generator

JUMP = "-jump"  # ends the name of a stream in records of jumps (`ccl.training.distill`)
MOVES = 0.1  # mean square, of unit latents, by which a place differs from the one before and counts half as moving
PARTED = 0.2  # of the steps of task part: those in which its streams run on their context tokens alone


@dataclass(frozen=True)
class Batch:
    """Clean latents of one bucket and what is known of them."""

    step: int  # keys noise and u together with the seed and each sample's id
    ids: list[str]
    tasks: list[str]
    video: Tensor  # [B, C, F, H, W]
    audio: Tensor  # [B, A, C]
    text: Text  # [B, L, D] or over time, dropped texts already replaced by the empty one
    audio_text: Text  # the same
    clean_frames: Tensor  # [B, F] bool, video latents that stay at sigma 0
    video_clock: LatentClock
    audio_clock: LatentClock
    tracks: TrackFeatures | None = None  # of all samples, where any of them is on task mtv
    clips: float | None = None  # of a micro-batch of this step on average, where that is another number than here
    clean_tokens: Tensor | None = None  # [B, A] bool, audio tokens that stay at sigma 0; None: none do
    part: Tensor | None = None  # [B, A, C] given tracks, where any sample is on task part, and by `part_track` which:
    part_track: Tensor | None = None  # [B] places among the model's `parts`
    empty_text: Tensor | None = None  # [B, L, D] of no text, where guidance is learned

    @property
    def divisor(self) -> float:
        """By what the sum of the samples' losses is divided, so that the mean over micro-batches, of all ranks and of
        the whole step, is the sum over the step's samples, divided by their number."""
        return len(self.ids) if self.clips is None else self.clips

    def take(self, rows: Sequence[int]) -> Batch:
        """Take the samples `rows`."""
        index, ids, tasks = torch.tensor(rows), [self.ids[i] for i in rows], [self.tasks[i] for i in rows]
        tensors: dict[str, Any] = {k: value[index] for k, value in vars(self).items() if isinstance(value, Text)}
        return replace(self, ids=ids, tasks=tasks, tracks=self.tracks and self.tracks.take(index), **tensors)

    def to(self, device: torch.device | str) -> Batch:
        """All tensors on `device`."""
        moved: dict[str, Any] = {k: value.to(device) for k, value in vars(self).items() if isinstance(value, Text)}
        return replace(self, tracks=self.tracks and self.tracks.to(device), **moved)


def draw_clean_frames(rate: float, seed: int, step: int, ids: list[str], frames: int) -> Tensor:
    """[B, F] bool: with probability `rate` a sample keeps its first frame or a short prefix clean (image to video)."""
    mask = torch.zeros(len(ids), frames, dtype=torch.bool)
    for row, clip in enumerate(ids if frames > 1 else ()):  # of a single one nothing would be left to learn
        chosen, longer, length = torch.rand(3, generator=generator(seed, "clean frames", step, clip)).tolist()
        if chosen < rate:
            mask[row, : 1 + (int(length * frames / 2) if longer < 0.25 else 0)] = True
    return mask


def draw_keyframes(rate: float, seed: int, step: int, ids: list[str], frames: int) -> Tensor:
    """[B, F] bool: with probability `rate` a sample has one to three keyframes, anywhere but never everywhere."""
    mask = torch.zeros(len(ids), frames, dtype=torch.bool)
    for row, clip in enumerate(ids if frames > 1 else ()):
        g = generator(seed, "keyframes", step, clip)
        if float(torch.rand((), generator=g)) < rate:
            count = 1 + int(torch.randint(min(3, frames - 1), (), generator=g))
            mask[row, torch.randperm(frames, generator=g)[:count]] = True
    return mask


def parted(seed: int, step: int) -> bool:
    """Whether the streams of task part run without each other in this step, so that guidance finds its 0m trained."""
    return float(torch.rand((), generator=generator(seed, "parted", step))) < PARTED


class Models(Protocol):
    """What predicts: the transformer and, for task mtv, its control network."""

    transformer: Any
    control: Any


class JointObjective(nn.Module):
    """`objective(batch) -> StepOutput`: the loss of every task of a micro-batch, each sample on its own route.

    The loss of a sample is the mean over its valid elements (sigma > 0) of each noisy stream, times the stream's and
    the task's weight, summed over samples and divided by `Batch.divisor`; with `loss.moving` what moves counts more.
    `control(tracks, sigma)` makes the hook that drives the video on task mtv (`mtv.control.MSTControlNet`); without it
    there is no such task. `control_flops(frames, space)`: its operations for a clip of so many latent frames of so many
    tokens, part of the cost in the records.
    """

    def __init__(
        self, transformer: DualStreamTransformer, flow: Flow, loss: Loss, seed: int, detach_clean_stream: bool = False,
        control: nn.Module | None = None, control_flops: Callable[[int, int], int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.transformer, self.control = transformer, control
        self.control_flops = control_flops and cache(control_flops)  # of each shape
        self.flow, self.weights, self.seed, self.detach = flow, loss, seed, detach_clean_stream
        self._trained = trained_share(transformer)

    def forward(self, batch: Batch) -> StepOutput:
        total, records = torch.zeros((), device=batch.video.device), []
        for task in sorted(set(batch.tasks)):
            part = batch.take([i for i, name in enumerate(batch.tasks) if name == task])
            for record, weight in self._group(part, Task(task)):
                learned = record.loss if record.learned is None else record.learned
                total = total + weight * learned.sum() / batch.divisor
                records.append(replace(record, loss=record.loss.detach(), learned=None))
        return StepOutput(total, records)

    def _group(self, batch: Batch, task: Task) -> list[tuple[LossRecord, float]]:
        """Compute the losses of samples that share one route."""
        route = self._route(batch, task)
        sigmas = self._sigmas(route, dict(zip(STREAMS, self._u(batch), strict=True)))
        levels = self._levels(batch, route, sigmas)
        latents, targets = self._mixed(batch, levels)
        outputs = self._predict(self, batch, task, route, latents, levels)
        records = []
        for name, predicted in outputs.items():
            loss, learned = self._losses(batch, name, predicted, targets[name], levels[name])
            records.append(LossRecord(name, task.value, sigmas[name], loss, learned=learned))
        return self._weighed(batch, task, records)

    def _losses(
        self, batch: Batch, name: str, predicted: Tensor, target: Tensor, levels: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the loss of each sample [B], and that which is learned, if moving places count more in it."""
        loss = over_noisy(predicted, target, levels)
        if name == "audio" or not self.weights.moving:
            return loss, None
        return loss, over_noisy(predicted, target, levels, moving_places(batch.video, self.weights.moving))

    def _weighed(self, batch: Batch, task: Task, records: list[LossRecord]) -> list[tuple[LossRecord, float]]:
        """Give each record its weight, and the first one the cost of all."""
        of_task, first = self.weights.tasks.get(task.value, 1.0), replace(records[0], cost=self._cost(batch, task))
        return [(one, of_task * getattr(self.weights, one.stream.removesuffix(JUMP))) for one in [first, *records[1:]]]

    def _sigmas(self, route: Route, u: Tensors) -> Tensors:
        """Noise level of each sample [B] in each stream; 0 in one that is given."""
        amounts = {"video": self.flow.video_shift, "audio": self.flow.audio_shift}
        return {n: shift(u[n], amounts[n]) if route.is_noisy(n) else torch.zeros_like(u[n]) for n in STREAMS}

    def _levels(self, batch: Batch, route: Route, sigmas: Tensors) -> Tensors:
        """Noise level of each latent frame [B, F], and of the sound [B] or, where some of it is clean, [B, A]."""
        video, audio = torch.where(batch.clean_frames, 0.0, sigmas["video"][:, None]), sigmas["audio"]
        if batch.clean_tokens is not None and route.audio_noisy and batch.clean_tokens.any():
            audio = torch.where(batch.clean_tokens, 0.0, audio[:, None])
        return {"video": video.to(batch.video.dtype), "audio": audio.to(batch.video.dtype)}

    def _mixed(self, batch: Batch, levels: Tensors) -> tuple[Tensors, Tensors]:
        """Both streams at their noise levels, and the velocities of their noise."""
        latents, targets = Tensors(), Tensors()
        for name in STREAMS:
            clean = getattr(batch, name)
            noise = draw_noise(self.seed, batch.step, batch.ids, tuple(clean.shape[1:]), name).to(clean)
            latents[name], targets[name] = noisy(clean, noise, along(levels[name], clean)), velocity(clean, noise)
        return latents, targets

    def _predict(
        self, models: Models, batch: Batch, task: Task, route: Route, latents: Tensors, levels: Tensors,
        until: Tensors | None = None,
    ) -> Tensors:  # fmt: skip
        """Predict the velocity of each noisy stream by `models`: at its level, or on average from there to `until`."""
        texts, clocks = (batch.text, batch.audio_text), (batch.video_clock, batch.audio_clock)
        video, audio = (
            StreamInput(latents[name], levels[name], text, clock, until=None if until is None else until[name])
            for name, text, clock in zip(STREAMS, texts, clocks, strict=True)
        )
        audio = replace(audio, part=part_of_batch(batch, task))
        inputs: list[StreamInput | StreamContext] = [video, audio]
        if self.detach and task is Task.A2V:
            inputs[1] = models.transformer.context("audio", audio, detach=True)
        elif self.detach and task is Task.V2A:
            inputs[0] = models.transformer.context("video", video, detach=True)
        hook = None
        if task is Task.MTV:
            assert models.control is not None and batch.tracks is not None, "task mtv has a control network and tracks"
            hook = models.control(batch.tracks, levels["video"])
        outputs = models.transformer(route, *inputs, video_control=hook)
        return {name: value for name, value in zip(STREAMS, outputs, strict=True) if value is not None}

    def _route(self, batch: Batch, task: Task) -> Route:
        """Find the route of this step, the same on every rank and in every micro-step."""
        alone = task is Task.PART and self.transformer.has_unconditional and parted(self.seed, batch.step)
        return task.route.unconditional if alone else task.route

    def _cost(self, batch: Batch, task: Task) -> StepCost:
        """Count what a training step of these samples takes: tokens of the streams that run, and operations."""
        if not isinstance(self.transformer, DualStreamTransformer):  # a model of another kind has no known costs
            return StepCost()
        _, _, frames, height, width = batch.video.shape
        _, *patch = self.transformer.video_stream.config.patch_size
        per_latent = batch.audio_clock.rate / batch.video_clock.rate
        space, sounds = height // patch[0] * (width // patch[1]), batch.audio.shape[1]
        tokens = Tokens(frames, space, sounds, batch.text.shape[1], per_latent)
        route, clips = task.route, len(batch.ids)
        each = tokens.video * (route.video is not Reads.SKIPPED) + tokens.audio * (route.audio is not Reads.SKIPPED)
        flops = task_flops(self.transformer, tokens, task)
        if task is Task.MTV and self.control_flops is not None:
            flops += self.control_flops(tokens.frames, tokens.space)
        return step_cost(clips * each, clips * flops, self._trained, self.transformer.gradient_checkpointing)

    def _u(self, batch: Batch) -> tuple[Tensor, Tensor]:
        names = ("u", "u audio") if self.flow.sigmas == "independent" else ("u",)
        drawn = [self._draw(batch, name).to(batch.video.device) for name in names]
        return drawn[0], drawn[-1]

    def _draw(self, batch: Batch, name: str) -> Tensor:
        """Draw u: logit-normal, of a share of the samples a second one at high noise."""
        flow, keys = self.flow, (self.seed, batch.step, batch.ids)
        u = draw_u(*keys, flow.mean, flow.std, name)
        if not flow.high_share:
            return u
        high = draw_u(*keys, flow.high_mean, flow.high_std, f"{name} high")
        return torch.where(draw_chosen(flow.high_share, *keys, f"{name} is high"), high, u)


def along(levels: Tensor, latents: Tensor) -> Tensor:
    """Noise levels of video [B, F], or of sound [B] or [B, A], in the shape that multiplies the latents."""
    return levels[:, None, :, None, None] if latents.ndim == 5 else levels.reshape(len(levels), -1, 1)


def moving_places(clean: Tensor, more: float) -> Tensor:
    """[B, 1, F, H, W]: how much each place of video latents [B, C, F, H, W] counts, 1 on average: where it differs from
    the latent before it, up to 1 + `more` times as much as where it stands still."""
    if clean.shape[2] == 1:
        return torch.ones_like(clean[:, :1], dtype=torch.float32)
    change = clean.float().diff(dim=2).square().mean(1, keepdim=True)
    change = torch.cat([change[:, :, :1], change], 2)  # the first has none before it
    weights = 1 + more * change / (change + MOVES)
    return weights / weights.mean((2, 3, 4), keepdim=True)


def over_noisy(predicted: Tensor, target: Tensor, levels: Tensor, places: Tensor | None = None) -> Tensor:
    """[B]: mean square error of video [B, C, F, H, W] or sound [B, A, C] over the latents whose level is above 0;
    `places` weigh it."""
    error = (predicted.float() - target).square()
    if places is not None:
        error = error * places
    if levels.ndim == 1:
        # one mean over all where every token counts: its last digits are those of a run without clean spans
        return error.mean(dim=(1, 2))
    error, valid = error.mean(dim=(1, 3, 4) if error.ndim == 5 else 2), (levels > 0).float()
    return (error * valid).sum(1) / valid.sum(1).clamp(min=1)


def part_of_batch(batch: Batch, task: Task) -> GivenPart | None:
    """Give the given track of each sample on task part, None on others."""
    if task is not Task.PART:
        return None
    assert batch.part is not None and batch.part_track is not None, "task part has a given track"
    return GivenPart(batch.part, batch.part_track)
