"""Few steps: the joint objective of average velocities, from one noise level down to another (docs/design.md).

The model learns F(x, u, u'), the average velocity between the clock times u and u' <= u of a sample, by which one step
x + (sigma' - sigma) F leads from the one to the other; sigma = shift(u) in each stream. With u' = u it is the velocity
itself, and its target is the teacher's guided velocity there, or that of the data. With u' < u times s between them
split the jump in parts, and its target is what the parts come to, each from the state to which the last one led, both
streams moved together:

    (sigma_u - sigma_u') F(u, u') = (sigma_u - sigma_s) F(u, s) + (sigma_s - sigma_u') F(s, u')

Short jumps go by the teacher's own steps, longer ones by halves of the averaged weights. Jumps are those of samples in
few equal steps, at which the sampler calls the model. What is clean is never moved, and in no loss.
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
#: step(task, latents, start, end): makes what moves `latents` from clock times `start` [B] to `end`.
Step = Callable[[Task, Tensors, Tensor, Tensor], Find]


class Jumps(NamedTuple):
    """Clock times [B] at which each sample's jump starts and ends; both are the same where there is no jump."""

    start: Tensor
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
        """Draw the times of each sample, keyed by seed, step and clip: those of one step of a grid."""
        grids = self.settings.grids
        weights = torch.tensor([*grids.values()], dtype=torch.float64)
        start, end = torch.zeros(len(batch.ids)), torch.zeros(len(batch.ids))
        for row, clip in enumerate(batch.ids):
            g = generator(self.seed, "grid of the jump", batch.step, clip)
            steps = [*grids][int(torch.multinomial(weights, 1, generator=g))]
            place = int(torch.randint(steps, (), generator=g))
            start[row], end[row] = 1 - place / steps, 1 - (place + 1) / steps
        plain = draw_chosen(self.settings.plain_share, self.seed, batch.step, batch.ids, "is no jump")
        start, u = start.to(batch.video.device), self._u(batch)[0]
        plain = plain.to(u.device)
        return Jumps(torch.where(plain, u, start), torch.where(plain, u, end.to(u.device)))

    @torch.no_grad()
    def _targets(self, batch: Batch, task: Task, jumps: Jumps, latents: Tensors, data: Tensors) -> Tensors:
        """Find what is to be predicted at `latents` of clock times `jumps.start`; `data`: the velocity of the data."""
        found = {name: data[name].float().clone() for name in STREAMS if task.route.is_noisy(name)}
        halved = jumps.there
        if self._teacher:
            halved = jumps.start - jumps.end > self.settings.anchor
            parts = self._teacher_steps(batch, task, jumps)
            _fill(found, batch, ~halved, self._along(task, latents, jumps, parts, self._followed))
        twos = torch.full_like(jumps.start, 2)
        _fill(found, batch, halved, self._along(task, latents, jumps, twos, self._jumped))
        return found

    def _teacher_steps(self, batch: Batch, task: Task, jumps: Jumps) -> Tensor:
        """[B]: in how many steps the teacher makes each jump, so that none is longer than `teacher_step` in sigma."""
        (high, _), (low, _) = (self._at(batch, task, u) for u in jumps)
        longest = torch.stack([high[name] - low[name] for name in STREAMS]).amax(0)
        return (longest / self.settings.teacher_step - SMALLEST).ceil().clamp(min=1)

    def _along(self, task: Task, latents: Tensors, jumps: Jumps, parts: Tensor, step: Step) -> Find:
        """Make what finds the average velocity of some samples' `jumps` in `parts` [B] parts, equal in u, by `step`."""

        def find(part: Batch, at: Callable[[Tensors], Tensors]) -> Tensors:
            times, moved = at({"start": jumps.start, "end": jumps.end, "parts": parts}), dict(at(latents))
            start, end, count = times.values()
            (high, _), (low, _) = (self._at(part, task, u) for u in (start, end))
            found, u = Tensors(), start
            for number in range(int(count.max())):
                until = torch.where(number < count, start + (end - start) * (number + 1) / count, u)
                (above, levels), (below, lower) = (self._at(part, task, time) for time in (u, until))
                values = {
                    name: torch.zeros_like(moved[name], dtype=torch.float32)
                    for name in high
                    if task.route.is_noisy(name)
                }
                _fill(values, part, number < count, step(task, moved, u, until))
                for name, value in values.items():
                    share = (above[name] - below[name]) / (high[name] - low[name]).clamp(min=SMALLEST)
                    share = torch.where(end < start, share, 1.0).reshape(-1, *[1] * (value.ndim - 1))
                    found[name] = found.get(name, 0) + share * value
                    away = along(lower[name] - levels[name], value)  # 0 where latents are clean
                    moved[name] = moved[name] + (away * value).to(moved[name].dtype)
                u = until
            return found

        return find

    def _followed(self, task: Task, latents: Tensors, start: Tensor, end: Tensor) -> Find:
        """Make what predicts the teacher's velocity at `start`."""
        (teacher,) = self._teacher

        def find(part: Batch, at: Callable[[Tensors], Tensors]) -> Tensors:
            return teacher.velocity(part, task, at(latents), self._at(part, task, at({"u": start})["u"])[0])

        return find

    def _jumped(self, task: Task, latents: Tensors, start: Tensor, end: Tensor) -> Find:
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
