"""What a joint model knows, measured without sampling: held-out loss on fixed (clip, noise, u), and context gain.

The loss is the training's own (`JointObjective`), at K noise levels u that are the same for every clip and every model:
the middles of K equally probable parts of the training's logit-normal. The noise of a stream is keyed by (seed, clip,
number of the level), so the losses of two models are paired clip by clip.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import sub
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ccl.flops import Tokens, costs
from ccl.pipeline import CCLPipeline
from ccl.routing import JOINT_TASKS, Route, Task
from ccl.training.objective import Batch, JointObjective
from ccl.transformer import DualStreamTransformer
from shared.data.clip_texts import audio_text, video_text
from shared.data.dataset import ClipDataset, Sample, check_clip
from shared.evaluation.bootstrap import over_clips
from shared.nn.flow import sigma_bucket
from shared.nn.timed_text import text_over_time
from shared.utils.config import Flow, Loss
from shared.utils.errors import UserError
from shared.utils.progress import bar as progress_bar

#: The tasks in which a stream reads the other: t2av, a2v, v2a.
JOINED = tuple(task for task in JOINT_TASKS if task.route.has_context)


def tasks_of(model: DualStreamTransformer) -> tuple[Task, ...]:
    """Tasks whose loss a model has: without DCR no stream is ever alone, so there is neither t2v nor t2a nor 0m."""
    return JOINT_TASKS if model.variant.routing == "dynamic" else JOINED


class ConditionedTask(NamedTuple):
    """A task with the other modality (m), or `unconditional` without it (0m)."""

    task: Task
    unconditional: bool = False

    @property
    def route(self) -> Route:
        return self.task.route.unconditional if self.unconditional else self.task.route


@dataclass(frozen=True)
class Losses:
    """Of one stream: its noise levels `sigma` [K], and the loss of every clip at each, [K]."""

    sigma: tuple[float, ...]
    clips: Mapping[str, tuple[float, ...]]

    def __sub__(self, other: Losses) -> Losses:
        """Difference, clip by clip and level by level."""
        return Losses(self.sigma, {name: tuple(map(sub, own, other.clips[name])) for name, own in self.clips.items()})

    def per_clip(self) -> dict[str, float]:
        """Mean over the levels."""
        return {name: sum(values) / len(values) for name, values in self.clips.items()}

    def summary(self) -> dict[str, Any]:
        """Mean, interval and value per clip; mean and interval of each bucket of sigma (`sigma_bucket`); mean of each
        level."""
        names, buckets = [sigma_bucket(sigma) for sigma in self.sigma], {}
        for name in sorted(set(names)):
            inside = [k for k, its in enumerate(names) if its == name]
            values = {clip: sum(losses[k] for k in inside) / len(inside) for clip, losses in self.clips.items()}
            buckets[name] = {key: value for key, value in over_clips(values).items() if key in ("mean", "interval")}
        columns = zip(*self.clips.values(), strict=True)
        each = {f"{at:.4f}": sum(losses) / len(losses) for at, losses in zip(self.sigma, columns, strict=True)}
        return {**over_clips(self.per_clip()), "buckets": buckets, "levels": each}


#: Losses of each noisy stream, "video" and "audio".
ByStream = dict[str, Losses]


def noise_levels(count: int, flow: Flow) -> list[float]:
    """Values of u at the middles of `count` equally probable parts of logit-normal(flow.mean, flow.std), ascending."""
    shares = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return list(torch.sigmoid(flow.mean + flow.std * torch.special.ndtri(shares)).tolist())


@torch.no_grad()
def encode(clips: ClipDataset | Sequence[Sample], pipeline: CCLPipeline, size: int) -> list[Batch]:
    """Held-out clips as t2av batches of up to `size` clips of one shape, each stream with its own text. Latents are
    rounded to float16, as in the training's shards. UserError for a clip that cannot train both streams."""
    device, read = pipeline.device, pipeline.text_encoder.encode
    shapes: dict[tuple[int, int], list[Sample]] = defaultdict(list)
    for index in progress_bar(range(len(clips)), desc="encoding clips", unit="clip"):
        sample = clips[index]
        check_clip(sample, needs_video=True, needs_audio=True)
        video = pipeline.video_codec.encode(sample.video[None].to(device))[0].half().float()
        audio = pipeline.audio_codec.encode(sample.audio[None].to(device))[0].half().float()
        shapes[sample.video.shape[1], sample.audio.shape[1]].append(replace(sample, video=video, audio=audio))
    batches = []
    for (frames, count), alike in shapes.items():
        clocks = pipeline.video_codec.clock(frames, pipeline.config.fps), pipeline.audio_codec.clock(count)
        for first in range(0, len(alike), size):
            some = alike[first : first + size]
            video, audio = torch.stack([clip.video for clip in some]), torch.stack([clip.audio for clip in some])
            text = text_over_time([*map(video_text, some)], clocks[0], read)
            sound = text_over_time([*map(audio_text, some)], clocks[1], read)
            clean = torch.zeros(len(some), video.shape[2], dtype=torch.bool)
            ids, tasks = [clip.id for clip in some], [Task.T2AV.value] * len(some)
            batches.append(Batch(0, ids, tasks, video, audio, text, sound, clean, *clocks).to(device))
    return batches


class FixedLevel(JointObjective):
    """The training's objective at one u for all samples; the noise is keyed by the batch's step as ever."""

    def __init__(self, model: nn.Module, flow: Flow, seed: int, u: float) -> None:
        super().__init__(cast(DualStreamTransformer, model), flow, Loss(), seed)
        self.u = u

    def _u(self, batch: Batch) -> tuple[Tensor, Tensor]:
        u = torch.full((len(batch.ids),), self.u, device=batch.video.device)
        return u, u


class Unconditional(nn.Module):
    """A model on the 0m route of whatever route it is asked for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, route: Route, *streams: Any, **options: Any) -> Any:
        return self.model(route.unconditional, *streams, **options)


@torch.no_grad()
def held_out_losses(
    model: nn.Module, batches: Sequence[Batch], levels: Sequence[float], flow: Flow, seed: int,
    states: Sequence[ConditionedTask], name: str = "held-out loss",
) -> dict[ConditionedTask, ByStream]:  # fmt: skip
    """Losses of a model in evaluation mode in each of the states, of which those of one route (0m of a2v is t2v) are
    evaluated once. `levels`: [K] u in (0, 1); level k of a batch has the noise of step k."""
    sigma: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(levels))
    losses: dict[tuple[ConditionedTask, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with progress_bar(total=len(levels) * sum(len(batch.ids) for batch in batches), desc=name, unit="clip") as bar:
        for batch in batches:
            for step, u in enumerate(levels):
                records: dict[Route, list[Any]] = {}
                for state in states:
                    if state.route not in records:
                        objective = FixedLevel(Unconditional(model) if state.unconditional else model, flow, seed, u)
                        tasks = [state.task.value] * len(batch.ids)
                        records[state.route] = list(objective(replace(batch, step=step, tasks=tasks)).records)
                    for record in records[state.route]:
                        sigma[record.stream][step] = float(record.sigma[0])
                        for clip, loss in zip(batch.ids, record.loss.tolist(), strict=True):
                            losses[state, record.stream][clip].append(loss)
                bar.update(len(batch.ids))
    table: dict[ConditionedTask, ByStream] = {state: {} for state in states}
    for (state, stream), clips in losses.items():
        table[state][stream] = Losses(tuple(sigma[stream]), {name: tuple(row) for name, row in clips.items()})
    return table


def summaries(streams: ByStream) -> dict[str, Any]:
    """Summary of each stream and, where there are two, of their sum per clip as "joint"."""
    summary = {name: losses.summary() for name, losses in streams.items()}
    if len(streams) == 2:
        video, audio = (streams[name].per_clip() for name in ("video", "audio"))
        summary["joint"] = over_clips({clip: video[clip] + audio[clip] for clip in video})
    return summary


def context_gain(table: Mapping[ConditionedTask, ByStream], task: Task) -> ByStream:
    """Loss with 0m minus loss with m: how much the other stream helps. `table` holds the task in both states."""
    without, own = table[ConditionedTask(task, unconditional=True)], table[ConditionedTask(task)]
    return {stream: losses - own[stream] for stream, losses in without.items()}


def others_texts(batches: Sequence[Batch]) -> list[Batch]:
    """Clips with the texts of the next clip of their batch. A clip alone in its batch has none to take and is left out,
    which is said; UserError where all are."""
    swapped = []
    for batch in batches:
        if (count := len(batch.ids)) > 1:
            other = batch.take([(row + 1) % count for row in range(count)])
            swapped.append(replace(batch, text=other.text, audio_text=other.audio_text))
    if not swapped:
        raise UserError(
            "probe text: no two clips share a length, a shape and a batch, so none has another's text to take"
        )
    if alone := [batch.ids[0] for batch in batches if len(batch.ids) == 1]:
        print(f"probe text: no other clip of their shape in their batch, left out: {', '.join(alone)}")
    return swapped


def loss_report(
    probes: Collection[str], model: DualStreamTransformer, towers: DualStreamTransformer | None,
    batches: Sequence[Batch], levels: Sequence[float], flow: Flow, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Losses: "loss", "text", "gain" and, with towers, "forgetting"; without DCR the loss of the joint tasks alone."""
    tasks = tasks_of(model)
    single = [ConditionedTask(task) for task in tasks if task not in JOINED]
    if not single:
        print("this model knows no stream alone: no loss of t2v and t2a, no gain, no forgetting")
    of_tasks = [ConditionedTask(task) for task in tasks]
    states = of_tasks if {"loss", "text"} & set(probes) else []
    if "gain" in probes and single:
        states += [ConditionedTask(task, unconditional) for task in JOINED for unconditional in (False, True)]
    if not states:
        return {"gain": {}}
    table = held_out_losses(model, batches, levels, flow, seed, list(dict.fromkeys(states)))
    result: dict[str, Any] = {}
    if "loss" in probes:
        result["loss"] = {task.value: summaries(table[ConditionedTask(task)]) for task in tasks}
    if "text" in probes:
        others = held_out_losses(model, others_texts(batches), levels, flow, seed, of_tasks, "loss with others' texts")
        result["text"] = {
            one.task.value: summaries({name: losses - table[one][name] for name, losses in others[one].items()})
            for one in of_tasks
        }
    if "gain" in probes:
        result["gain"] = {task.value: summaries(context_gain(table, task)) for task in JOINED if single}
    if towers is not None and single:
        before = held_out_losses(towers, batches, levels, flow, seed, single, "held-out loss, against")
        result["forgetting"] = {
            one.task.value: summaries({name: losses - before[one][name] for name, losses in table[one].items()})
            for one in single
        }
    return result


def model_size(model: DualStreamTransformer, batch: Batch) -> dict[str, int]:
    """Parameters, and operations of t2av for a clip of the batch's shape (`ccl.flops`), the streams' join apart."""
    patch = model.video_stream.config.patch_size
    space = batch.video.shape[3] // patch[1] * (batch.video.shape[4] // patch[2])
    per_latent = batch.audio_clock.rate / batch.video_clock.rate
    tokens = Tokens(batch.video.shape[2], space, batch.audio.shape[1], batch.text.shape[1], per_latent)
    return costs(model.config, tokens)._asdict()
