"""Few steps: the joint objective of average velocities, from one noise level down to another (docs/design.md).

The model learns F(x, u, u'), the average velocity between the clock times u and u' <= u of a sample, by which one step
x + (sigma' - sigma) F leads from the one to the other; sigma = shift(u) in each stream. With u' = u it is the velocity
itself, and its target is the teacher's guided velocity there, or that of the data. With u' < u a time s between them
splits the jump in two:

    (sigma_u - sigma_u') F(u, u') = (sigma_u - sigma_s) F(u, s) + (sigma_s - sigma_u') F(s, u')

The right side is the target: by the averaged weights, the second part at the state to which the first one leads, both
streams moved together. Where the first part is short it goes by the teacher's velocity itself, so that jumps are tied
to the teacher and not to one another alone. What is clean is never moved, and in no loss.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ccl.routing import Task
from ccl.sampler import STREAMS, Tensors
from ccl.training.objective import JUMP, Batch, JointObjective, along
from ccl.training.teacher import Teacher
from ccl.transformer import DualStreamTransformer
from shared.nn.flow import draw_chosen
from shared.training.optimizer import average_decay
from shared.training.trainer import LossRecord
from shared.utils.config import Flow, Loss
from shared.utils.config_sections import Distill
from shared.utils.errors import UserError
from shared.utils.rng import generator

AVERAGE, UPDATES = "average", "updates"  # names in the objective's state dict
SMALLEST = 1e-6  # difference of noise levels that is divided by
#: find(batch, at): velocities of the samples in `batch`; at(tensors): those of all samples, for these.
Find = Callable[[Batch, Callable[[Tensors], Tensors]], Tensors]


class Jumps(NamedTuple):
    """Clock times [B] of each sample's jump, with one between its ends; all are the same where there is no jump."""

    start: Tensor
    middle: Tensor
    end: Tensor

    @property
    def there(self) -> Tensor:
        """[B] bool: where a jump is learned, and not the velocity itself."""
        return self.end < self.start


class DistillObjective(JointObjective):
    """`objective(batch) -> StepOutput` as `JointObjective`, for few steps. `teacher` None: the data are followed.

    `average` is a copy of transformer and control that follows them from step to step, with AdamW's decay of averages;
    it is frozen, part of the state dict, and all ranks have the same. It is renewed when the first micro-batch of a
    step comes, so that a resumed run goes on as it was.
    """

    updates: Tensor

    def __init__(
        self, transformer: DualStreamTransformer, flow: Flow, loss: Loss, seed: int, settings: Distill, decay: float,
        teacher: Teacher | None, control: nn.Module | None = None,
        control_flops: Callable[[int, int], int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(transformer, flow, loss, seed, False, control, control_flops)
        self.settings, self.decay = settings, decay
        self.average = _Average(copy.deepcopy(transformer), copy.deepcopy(control))
        self.register_buffer(UPDATES, torch.zeros((), dtype=torch.int64))
        self._teacher = [] if teacher is None else [teacher]  # no part of the state

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move the teacher with the rest."""
        for teacher in self._teacher:
            for model in teacher.models():
                model._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def train(self, mode: bool = True) -> DistillObjective:
        """Leave the average in evaluation mode: adapters' dropout is not for targets."""
        super().train(mode)
        self.average.eval()
        return self

    def forward(self, batch: Batch) -> Any:
        self._follow(batch.step)
        return super().forward(batch)

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Bring the average up to the weights after `step` updates, once."""
        if step <= int(self.updates):
            return
        for name in self.average.names:
            pairs = zip(getattr(self.average, name).parameters(), getattr(self, name).parameters(), strict=True)
            for average, weight in pairs:
                if weight.requires_grad:
                    average.lerp_(weight.to(average.dtype), 1 - average_decay(self.decay, step))
        self.updates.fill_(step)

    def _group(self, batch: Batch, task: Task) -> list[tuple[LossRecord, float]]:
        """Compute the losses of samples that share one route: of velocities, and apart of jumps."""
        route, jumps = task.route, self._jumps(batch)
        (sigmas, levels), (_, until) = (self._at(batch, task, u) for u in (jumps.start, jumps.end))
        latents, data = self._mixed(batch, levels)
        targets = self._targets(batch, task, jumps, latents, data)
        outputs = self._predict(self, batch, task, route, latents, levels, until)
        records = []
        for name, predicted in outputs.items():
            loss, learned = self._losses(batch, name, predicted, targets[name], levels[name])
            for stream, rows in ((name, ~jumps.there), (name + JUMP, jumps.there)):
                if rows.any():
                    own = None if learned is None else learned[rows]
                    records.append(LossRecord(stream, task.value, sigmas[name][rows], loss[rows], learned=own))
        return self._weighed(batch, task, records)

    def _at(self, batch: Batch, task: Task, u: Tensor) -> tuple[Tensors, Tensors]:
        """Noise levels of both streams at clock time u [B]: of samples, and of latents in time."""
        sigmas = self._sigmas(task.route, dict.fromkeys(STREAMS, u))
        return sigmas, self._levels(batch, task.route, sigmas)

    def _jumps(self, batch: Batch) -> Jumps:
        """Draw the times of each sample, keyed by seed, step and clip."""
        settings, keys = self.settings, (self.seed, batch.step, batch.ids)

        def chosen(share: float, name: str) -> Tensor:
            return draw_chosen(share, *keys, name).to(batch.video.device)

        def uniform(name: str) -> Tensor:
            drawn = [torch.rand((), generator=generator(self.seed, name, batch.step, clip)) for clip in batch.ids]
            return torch.stack(drawn).to(batch.video.device)

        start = torch.where(chosen(settings.start_share, "starts at noise"), 1.0, self._u(batch)[0])
        end = torch.where(chosen(settings.end_share, "ends clean"), 0.0, start * uniform("end of the jump"))
        end = torch.where(chosen(settings.plain_share, "is no jump"), start, end)
        return Jumps(start, end + (start - end) * uniform("middle of the jump"), end)

    @torch.no_grad()
    def _targets(self, batch: Batch, task: Task, jumps: Jumps, latents: Tensors, data: Tensors) -> Tensors:
        """Find what is to be predicted at `latents` of clock times `jumps.start`; `data`: the velocity of the data."""
        (high, levels), (middle, lower), (low, _) = (self._at(batch, task, u) for u in jumps)
        first = {name: data[name].float().clone() for name in STREAMS if task.route.is_noisy(name)}
        own = jumps.there
        if self._teacher:
            given = ~jumps.there | (jumps.start - jumps.middle <= self.settings.anchor)
            own, (teacher,) = jumps.there & ~given, self._teacher
            _fill(first, batch, given, lambda part, at: teacher.velocity(part, task, at(latents), at(high)))
        _fill(first, batch, own, self._jump(task, latents, jumps.start, jumps.middle))
        moved = dict(latents)
        for name, value in first.items():  # a difference of levels is 0 where both are clean
            moved[name] = latents[name] + (along(lower[name] - levels[name], value) * value).to(latents[name].dtype)
        second = {name: value.clone() for name, value in first.items()}
        _fill(second, batch, jumps.there, self._jump(task, moved, jumps.middle, jumps.end))
        for name, value in first.items():
            share = ((high[name] - middle[name]) / (high[name] - low[name]).clamp(min=SMALLEST)).clamp(0, 1)
            share = torch.where(jumps.there, share, 1.0).reshape(-1, *[1] * (value.ndim - 1))
            first[name] = share * value + (1 - share) * second[name]
        return first

    def _jump(self, task: Task, latents: Tensors, start: Tensor, end: Tensor) -> Find:
        """Make what predicts, by the averaged weights, the average velocity from `start` to `end` of some samples."""

        def find(part: Batch, at: Callable[[Tensors], Tensors]) -> Tensors:
            times = at({"start": start, "end": end})
            (_, levels), (_, until) = (self._at(part, task, times[name]) for name in ("start", "end"))
            return self._predict(self.average, part, task, task.route, at(latents), levels, until)

        return find


class _Average(nn.Module):
    """The frozen copies of what learns."""

    def __init__(self, transformer: nn.Module, control: nn.Module | None) -> None:
        super().__init__()
        self.transformer, self.control = transformer, control
        self.names = ["transformer"] + ["control"] * (control is not None)
        self.requires_grad_(False)


def _fill(tensors: Tensors, batch: Batch, where: Tensor, find: Find) -> None:
    """Put into `tensors` what is found for the samples `where` [B] is true."""
    rows = where.nonzero()[:, 0]
    if len(rows):
        found = find(batch.take(rows.tolist()), lambda of: {name: value[rows] for name, value in of.items()})
        for name, value in found.items():
            tensors[name][rows] = value.float()


def without_average(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out of an objective's state dict what makes targets alone."""
    return {name: value for name, value in weights.items() if name.partition(".")[0] not in (AVERAGE, UPDATES)}


def check_learns(transformer: nn.Module) -> None:
    """Raise UserError if what tells the model where a jump ends is new, and does not learn."""
    ends = [weight for name, weight in transformer.named_parameters() if ".until_embedder.linear_2." in name]
    if not any(weight.any() or weight.requires_grad for weight in ends):
        what = "distill: what tells the model where a jump ends is new and does not learn"
        raise UserError(f"{what}; put transformer into trainable (with lora: into lora.modules_to_save)")
