"""Who stands where in a picture of the puppets: every place is compared with what would be painted there."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from shared.puppets.picture import SLOTS, render
from shared.puppets.script import COLOURS, KINDS, MOODS, PERSONS, SIZES, Character, Prop, sample_spec
from shared.puppets.styles import STYLES

Array = NDArray[np.float64]
Frames = NDArray[np.float32]
Name = tuple[str, str, str]
"""Kind, colour and size of a thing; empty where it has none."""
Poses = tuple[Frames, Frames]
"""Painted strips [P, D] and the sums of their squares [P]."""

SIDE = 64
HALF_WIDTH = 0.14
"""Half the width, in scene units, of the strip that is compared at a place."""
POSES, MOMENTS = 8, 9
"""Poses painted per hypothesis; frames of the clip that are compared."""
MAX_PAN = 4  # pixels of SIDE by which a panning camera may have shifted the scene


class Mention(NamedTuple):
    """What the text says of one visible person or object: its kind, and its place if the text has it."""

    kind: str
    slot: str | None = None


class Detection(NamedTuple):
    """What was found for one `Mention`. `gain`: the mean squared error, of pixels in [0, 1], by which it explains the
    picture better than an empty place; at or below 0 nothing like it is there."""

    kind: str
    slot: str
    colour: str
    size: str
    gain: float

    @property
    def found(self) -> bool:
        return self.gain > 0


class Layout(NamedTuple):
    """Mood of the picture, one `Detection` per `Mention` in order, and the camera's x per frame [T] in scene units."""

    mood: str
    detections: tuple[Detection, ...]
    pan: Array


def canonical(frames: NDArray[np.uint8]) -> Frames:
    """uint8 [T, H, W, 3] -> float32 [T, SIDE, SIDE, 3] in [0, 1]: the central square, resampled by area."""
    height, width = frames.shape[1:3]
    unit = min(height, width)
    top, left = (height - unit) // 2, (width - unit) // 2
    square = np.ascontiguousarray(frames[:, top : top + unit, left : left + unit])
    if unit == SIDE:
        return (square / 255).astype(np.float32)
    pixels = torch.from_numpy(square).movedim(-1, 1).float()
    scaled = torch.nn.functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
    return (scaled.movedim(1, -1).numpy() / 255).astype(np.float32)


def read_layout(frames: Frames, mentions: Sequence[Mention], style: str = "stage") -> Layout:
    """Places, colours and sizes of what is mentioned, from canonical frames [T, SIDE, SIDE, 3]: those for which the
    summed squared error against our own painting is least; places differ as long as there are enough of them."""

    def cost(chosen: tuple[Detection, ...]) -> float:
        crowded = len(chosen) - len({one.slot for one in chosen})
        return crowded - sum(one.gain for one in chosen)

    mood, errors, pan = _slot_errors(frames, style)
    best: dict[tuple[str, str], Detection] = {}
    for slot in SLOTS:
        for kind in {t.kind for t in mentions}:
            error, colour, size = min((e, c, s) for (k, c, s), e in errors[slot].items() if k == kind)
            best[slot, kind] = Detection(kind, slot, colour, size, errors[slot]["", "", ""] - error)
    places = [(t.slot,) if t.slot else ("left", "right") if t.kind in PERSONS else tuple(SLOTS) for t in mentions]
    choices = [[best[slot, t.kind] for slot in slots] for t, slots in zip(mentions, places, strict=True)]
    return Layout(mood, min(product(*choices), key=cost), pan)


def read_places(
    frames: Frames, least_gain: float, sky: int = 0, style: str = "stage"
) -> tuple[str, dict[str, Name], Array]:
    """Mood, what stands at each place that is not empty, and the camera's x per frame [T], from canonical frames alone;
    what explains a place by less than `least_gain` better than nothing is not there. `sky`: upper rows in which things
    may drift, in which the camera is not read; 0 where nothing does."""
    mood, errors, pan = _slot_errors(frames, style, sky)
    found = {}
    for slot, by_name in errors.items():
        name = min(by_name, key=lambda one: by_name[one])
        if by_name["", "", ""] - by_name[name] >= least_gain:
            found[slot] = name
    return mood, found, pan


def _slot_errors(frames: Frames, style: str, sky: int = 0) -> tuple[str, dict[str, dict[Name, float]], Array]:
    """Mood, mean squared error of every hypothesis at every place, each frame at its best pose, and the camera's x."""
    top = np.median(frames[:, : SIDE // 8], axis=(0, 1, 2))
    wall = STYLES[style].wall
    mood = min(MOODS, key=lambda mood: float(np.square(top - np.array(wall[mood][0])).sum()))  # the nearest wall
    moments = np.unique(np.linspace(0, len(frames) - 1, MOMENTS).round().astype(int))
    shifts, pan = _read_pan(frames[moments], (mood, style), moments / max(1, len(frames) - 1), len(frames), sky)
    names, poses = _paintings(mood, style)
    errors: dict[str, dict[Name, float]] = {}
    for slot in SLOTS:
        table = _distances(frames[moments], slot, poses[slot, 1], shifts, 1, 0)
        means = table.reshape(len(moments), len(names), POSES).min(2).mean(0)
        errors[slot] = dict(zip(names, means.tolist(), strict=True))
    return mood, errors, pan


def _distances(moments: Frames, slot: str, poses: Poses, shifts: NDArray[np.int_], step: int, sky: int) -> Frames:
    """Mean squared error of frames [M, ...], moved by `shifts` pixels, against poses [P, D] below the `sky`: [M, P]."""
    strips = np.stack([_strip(f, slot, shift, step, sky) for f, shift in zip(moments, shifts, strict=True)])
    # torch's product: NumPy's has threads of its own, whose spinning costs a hundredfold beside another process
    products: Frames = (torch.from_numpy(strips) @ torch.from_numpy(poses[0]).T).numpy()
    squares = np.square(strips).sum(1)[:, None] + poses[1] - 2 * products
    return squares / strips.shape[1]


def _strip(frame: Frames, slot: str, shift: int, step: int, sky: int) -> Frames:
    """Every `step`-th row below the `sky` and column around a place, flat [D]; `shift`: the camera's x in pixels; the
    edge repeats."""
    centre, half = SLOTS[slot] * SIDE, HALF_WIDTH * SIDE
    columns = np.arange(round(centre - half), round(centre + half), step) - shift
    return frame[sky::step, np.clip(columns, 0, SIDE - 1)].reshape(-1)


def _read_pan(
    moments: Frames, world: tuple[str, str], along: Array, count: int, sky: int
) -> tuple[NDArray[np.int_], Array]:
    """Shift in pixels at the moments and the camera's x per frame: it swings once from one end to the other, so two
    ends are fitted to the best explanation of each moment; below three quarters of a pixel the camera is fixed."""
    _, poses = _paintings(*world, sky)
    totals = []
    for shift in range(-MAX_PAN, MAX_PAN + 1):
        shifts = np.full(len(moments), shift)
        totals.append(sum(_distances(moments, slot, poses[slot, 2], shifts, 2, sky).min(1) for slot in SLOTS))
    table = np.stack(totals)
    best = (np.argmin(table, 0) - MAX_PAN).astype(float)
    # where things drift too, a moment counts by how much better than usual its best is: a ball between two poses tells
    # nothing
    sure = (1 - table.min(0) / np.maximum(np.median(table, 0), 1e-9)) if sky else np.ones(len(best))
    ends, *_ = np.linalg.lstsq(_swing(along) * sure[:, None], best * sure, rcond=None)
    if np.abs(ends).max() < 0.75:
        return np.zeros(len(moments), int), np.zeros(count)
    path = _swing(np.arange(count) / max(1, count - 1)) @ ends
    return np.round(_swing(along) @ ends).astype(int), path / SIDE


def _swing(along: Array) -> Array:
    """Weights of the camera's two ends at shares 0..1 of the clip, [len(along), 2]."""
    towards = 0.5 - 0.5 * np.cos(np.pi * along)
    return np.stack([1 - towards, towards], 1)


@cache
def _paintings(mood: str, style: str, sky: int = 0) -> tuple[list[Name], dict[tuple[str, int], Poses]]:
    """Names of all hypotheses, the empty place first, and their POSES below the `sky`, one thing at a time, per place
    and `step`."""
    script = replace(sample_spec(0, 0), size=(SIDE, SIDE), fps=POSES, frames=POSES, mood=mood, music=False,
                     characters=(), props=(), distractors=(), pan=(0.0, 0.0), silence=None, style=style)  # fmt: skip
    names = [("", "", ""), *product(PERSONS, COLOURS, ("",)), *product(KINDS, COLOURS, SIZES)]
    places: dict[str, list[Frames]] = {slot: [] for slot in SLOTS}
    for (kind, colour, size), slots in product(names, (("left", "right"), ("centre",))):
        if kind in PERSONS:
            people = tuple(Character(kind, slot, colour, 0.0, True, (), ()) for slot in slots)
            frames = render(replace(script, characters=people), [np.linspace(0, 1, POSES)] * len(slots))
        else:
            things = tuple(Prop(kind, size, colour, slot, True, (0.4,), ()) for slot in slots) if kind else ()
            frames = render(replace(script, props=things), [])
        for slot in slots:
            places[slot] += list(canonical(frames))
    poses = {}
    for slot, step in product(SLOTS, (1, 2)):
        strips = np.stack([_strip(frame, slot, 0, step, sky) for frame in places[slot]])
        poses[slot, step] = strips, np.square(strips).sum(1)
    return names, poses
