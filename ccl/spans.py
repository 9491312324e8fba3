"""Clean spans: seconds of a clip that are given, while the rest of its stream is made (docs/design.md, section 4).

A latent is clean if it lies wholly inside the given seconds, so what is made is always whole latents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ccl.routing import Task
from shared.nn.clock import SAME_TIME, LatentClock
from shared.utils.errors import UserError
from shared.utils.rng import generator

#: From and to, in seconds of the clip.
Span = tuple[float, float]

TOGETHER = 0.5  # of the samples of both streams the share that keeps the same seconds of both; the rest keeps one's


def joined(spans: Sequence[Span], duration: float, name: str = "keep") -> list[Span]:
    """Sort `spans` and join those that touch. UserError, which calls them `name`, for none at all, or for one that is
    empty or lies outside the clip's `duration` in seconds."""
    if not spans:
        raise UserError(f"{name} is empty; give pairs of seconds, or leave it out")
    whole: list[Span] = []
    for start, end in sorted((float(start), float(end)) for start, end in spans):
        if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end <= duration + 1e-6):
            raise UserError(f"{name} has {start:g} to {end:g} s; each must end after its start, in 0 to {duration:g} s")
        if whole and start <= whole[-1][1] + SAME_TIME:
            whole[-1] = whole[-1][0], max(end, whole[-1][1])
        else:
            whole.append((start, end))
    return whole


def latents_inside(clock: LatentClock, spans: Sequence[Span], duration: float = math.inf) -> Tensor:
    """[N] bool: latents that lie wholly inside one of `spans`; what lasts longer than the clip ends with it."""
    mask = torch.zeros(len(clock), dtype=torch.bool)
    for start, end in spans:
        for i, (first, last) in enumerate(zip(clock.starts, clock.ends, strict=True)):
            mask[i] |= bool(start <= max(first, 0) + SAME_TIME and min(last, duration) <= end + SAME_TIME)
    return mask


def in_clean_latents(clock: LatentClock, mask: Tensor, count: int, rate: float) -> Tensor:
    """[count] bool: frames, or samples, of `rate` a second whose latent is in `mask` [N]."""
    return mask[clock.index((torch.arange(count, dtype=torch.float64) + 0.5) / rate)]


def spans_of(kept: Tensor, rate: float) -> list[Span]:
    """Spans, in seconds, of frames or samples [count] bool of `rate` a second."""
    edges = torch.diff(kept.int(), prepend=torch.zeros(1, dtype=torch.int), append=torch.zeros(1, dtype=torch.int))
    starts, ends = ((edges == sign).nonzero()[:, 0].tolist() for sign in (1, -1))
    return [(start / rate, end / rate) for start, end in zip(starts, ends, strict=True)]


def draw_spans(
    rate: float, seed: int, step: int, ids: Sequence[str], tasks: Sequence[str], clocks: tuple[LatentClock, LatentClock]
) -> tuple[Tensor, Tensor]:
    """Clean latents [B, F] and tokens [B, A], bool: with probability `rate` a sample keeps a beginning, an end, a run
    between, or all but a gap, of whole video latents: of both streams, or of one of them. Only a stream that is made
    keeps any, and never all; on task mtv none does."""
    masks = tuple(torch.zeros(len(ids), len(clock), dtype=torch.bool) for clock in clocks)
    frames, duration = len(clocks[0]), clocks[1].ends[-1]
    for row, (clip, name) in enumerate(zip(ids, tasks, strict=True) if frames > 1 else ()):
        g, task = generator(seed, "clean spans", step, clip), Task(name)
        chosen, both, one = torch.rand(3, generator=g).tolist()
        if chosen >= rate or task is Task.MTV:
            continue
        edges = _draw_latents(frames, g)
        spans = [(clocks[0].starts[first], clocks[0].ends[last - 1]) for first, last in edges]
        made = [task.route.video_noisy, task.route.audio_noisy]
        if all(made) and both >= TOGETHER:
            made[one < 0.5] = False
        for mask, clock, keeps in zip(masks, clocks, made, strict=True):
            inside = latents_inside(clock, spans, duration)
            mask[row] = inside & (keeps and not inside.all())
    return masks[0], masks[1]


def _draw_latents(frames: int, g: torch.Generator) -> list[tuple[int, int]]:
    """One or two runs of latents, from and to, of `frames` (2 or more): never all of them."""
    kind = int(torch.randint(4 if frames > 2 else 2, (), generator=g))
    cuts = (torch.randperm(frames - 1, generator=g)[:2] + 1).sort().values.tolist()
    first, last = cuts[0], cuts[-1]
    return [[(0, first)], [(first, frames)], [(first, last)], [(0, first), (last, frames)]][kind]
