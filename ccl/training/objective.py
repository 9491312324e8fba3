"""The joint training objective: samples grouped by route, one u per sample, flow-matching loss per stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ccl.flops import Tokens, task_flops
from ccl.parts import GivenPart
from ccl.routing import Reads, Route, Task
from ccl.transformer import DualStreamTransformer, StreamContext, StreamInput
from mtv.control import TrackFeatures
from shared.nn.clock import LatentClock
from shared.nn.flow import draw_chosen, draw_noise, draw_u, noisy, shift, velocity
from shared.nn.timed_text import Text
from shared.training.flops import StepCost, step_cost, trained_share
from shared.training.trainer import LossRecord, StepOutput
from shared.utils.config import Flow, Loss
from shared.utils.rng import generator

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


class JointObjective(nn.Module):
    """`objective(batch) -> StepOutput`: the loss of every task of a micro-batch, each sample on its own route.

    The loss of a sample is the mean over its valid elements (sigma > 0) of each noisy stream, times the stream's and
    the task's weight, summed over samples and divided by `Batch.divisor`. `control(tracks, sigma)` makes the hook that
    drives the video on task mtv (`mtv.control.MSTControlNet`); without it there is no such task. `control_flops(frames,
    space)`: its operations for a clip of so many latent frames of so many tokens, part of the cost in the records.
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
                total = total + weight * record.loss.sum() / batch.divisor
                records.append(replace(record, loss=record.loss.detach()))
        return StepOutput(total, records)

    def _group(self, batch: Batch, task: Task) -> list[tuple[LossRecord, float]]:
        """Compute the losses of samples that share one route."""
        (u_v, u_a), route, dtype = self._u(batch), self._route(batch, task), batch.video.dtype
        sigma_v = shift(u_v, self.flow.video_shift) if route.video_noisy else torch.zeros_like(u_v)
        sigma_a = shift(u_a, self.flow.audio_shift) if route.audio_noisy else torch.zeros_like(u_a)
        per_frame = torch.where(batch.clean_frames, 0.0, sigma_v[:, None]).to(dtype)
        mixed_v, target_v = self._mix(batch, "video", batch.video, per_frame[:, None, :, None, None])
        per_token = self._per_token(batch, route, sigma_a).to(dtype)
        mixed_a, target_a = self._mix(batch, "audio", batch.audio, per_token.reshape(len(per_token), -1, 1))
        video_input = StreamInput(mixed_v, per_frame, batch.text, batch.video_clock)
        audio_input = StreamInput(mixed_a, per_token, batch.audio_text, batch.audio_clock, self._part(batch, task))
        inputs: list[StreamInput | StreamContext] = [video_input, audio_input]
        if self.detach and task is Task.A2V:
            inputs[1] = self.transformer.context("audio", audio_input, detach=True)
        elif self.detach and task is Task.V2A:
            inputs[0] = self.transformer.context("video", video_input, detach=True)
        hook = None
        if task is Task.MTV:
            assert self.control is not None and batch.tracks is not None, "task mtv has a control network and tracks"
            hook = self.control(batch.tracks, per_frame)
        video, audio = self.transformer(route, *inputs, video_control=hook)
        losses, of_task = [], self.weights.tasks.get(task.value, 1.0)
        if video is not None:
            loss = _over_noisy((video.float() - target_v).square().mean(dim=(1, 3, 4)), per_frame)
            losses.append((LossRecord("video", task.value, sigma_v, loss), of_task * self.weights.video))
        if audio is not None:
            error = (audio.float() - target_a).square()
            # one mean over all where every token counts: its last digits are those of a run without clean spans
            loss = error.mean(dim=(1, 2)) if per_token.ndim == 1 else _over_noisy(error.mean(2), per_token)
            losses.append((LossRecord("audio", task.value, sigma_a, loss), of_task * self.weights.audio))
        (first, weight), *others = losses
        return [(replace(first, cost=self._cost(batch, task)), weight), *others]

    def _route(self, batch: Batch, task: Task) -> Route:
        """Find the route of this step, the same on every rank and in every micro-step."""
        alone = task is Task.PART and self.transformer.has_unconditional and parted(self.seed, batch.step)
        return task.route.unconditional if alone else task.route

    def _per_token(self, batch: Batch, route: Route, sigma: Tensor) -> Tensor:
        """Noise level of the sound, [B] or, where some of its tokens are clean, [B, A]."""
        if batch.clean_tokens is None or not route.audio_noisy or not batch.clean_tokens.any():
            return sigma
        return torch.where(batch.clean_tokens, 0.0, sigma[:, None])

    def _part(self, batch: Batch, task: Task) -> GivenPart | None:
        if task is not Task.PART:
            return None
        assert batch.part is not None and batch.part_track is not None, "task part has a given track"
        return GivenPart(batch.part, batch.part_track)

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

    def _mix(self, batch: Batch, stream: str, clean: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        noise = draw_noise(self.seed, batch.step, batch.ids, tuple(clean.shape[1:]), stream).to(clean)
        return noisy(clean, noise, sigma), velocity(clean, noise)


def _over_noisy(error: Tensor, sigma: Tensor) -> Tensor:
    """[B]: mean of `error` [B, N] over the latents whose `sigma` [B, N] is above 0."""
    valid = (sigma > 0).float()
    return (error * valid).sum(1) / valid.sum(1).clamp(min=1)
