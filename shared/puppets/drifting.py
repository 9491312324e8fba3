"""What drifts by behind a scene of the puppets, a cloud or a balloon: found in its pictures, without any caption.

Of every look and every path of the painter, what it would explain of the wall is summed over the clip; the best one is
moved to where its drawing is nearest.
"""

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from shared.puppets.picture import CLOUD, render
from shared.puppets.regions import regions
from shared.puppets.scene_fit import SIDE, Frames
from shared.puppets.script import COLOURS, Distractor, Spec, sample_spec
from shared.puppets.styles import STYLES

Array = NDArray[np.float64]

LOOKS = (("cloud", "red"), *(("balloon", colour) for colour in COLOURS))
"""Kind and colour; a cloud's colour is not painted."""
ROWS = SIDE * 7 // 16
"""Upper rows of a canonical picture, in which things drift."""
MOMENTS = 16
"""Frames of the clip that are compared, about so many."""
STARTS = (*np.arange(-0.06, 0.37, 1 / SIDE), *np.arange(0.64, 1.07, 1 / SIDE))
TRAVELS, HEIGHTS = np.arange(0.55, 1.06, 1.5 / SIDE), np.arange(0.09, 0.22, 1 / SIDE)
"""In scene units: where a path may begin, how far it may lead in the clip, and its height."""
STEPS = (0.5, 0.25, 0.125)
"""Pixels of SIDE by which both ends and the height are moved, one after the other, as long as that is nearer."""
EXPLAINED = 0.5
"""Share of its own visibility that a thing has to explain of the picture; at an opacity of a half it explains none."""
LEAST_SEEN = 2e-5
"""Mean squared difference that it has to make, over the frames and the upper rows, of pixels in [0, 1]."""
TEMPLATE_X, TEMPLATE_Y, MARGIN = 0.5, 0.15, 16
"""Place at which the templates are painted, and pixels on both sides beyond which nothing can be seen."""
UP_AND_DOWN = 6
"""Pixels of SIDE by which a thing may be higher or lower than the template."""
TEMPLATE = (slice(0, 17), slice(SIDE // 2 - MARGIN, SIDE // 2 + MARGIN))
"""Rows and columns of the template; a balloon's string hangs below."""


def find_drifting(pixels: Frames, spec: Spec, mouths: list[Array]) -> tuple[Distractor, ...]:
    """Find the thing that drifts through canonical `pixels` [T, SIDE, SIDE, 3] behind the scene of `spec`, of as many
    frames; none or one, as a script has."""
    span = range(0, len(pixels), max(1, len(pixels) // MOMENTS))
    frames, spec = pixels[span, :ROWS], replace(spec, size=(SIDE, SIDE), music=False)
    free = regions(spec, mouths, span)["rest"][:, :ROWS]
    bare = replace(spec, characters=(), props=())
    wall = _painted(bare, span)
    there = np.maximum(free.sum((1, 2)), 1)
    light = (frames.mean(-1) * free).sum((1, 2)) / there / ((wall.mean(-1) * free).sum((1, 2)) / there + 1e-6)
    beat = np.where(free.any((1, 2)), light, 1.0).astype(np.float32)[:, None, None, None]
    found, gain = _coarse(frames, wall * beat, free, bare, span)
    if gain < EXPLAINED**2 * LEAST_SEEN * frames.size:  # on the grid not even half of what it has to be
        return ()

    def misfit(thing: Distractor | None) -> float:
        drawn = wall if thing is None else _painted(replace(bare, distractors=(thing,)), span)
        return float(np.square((frames - drawn * beat)[free]).sum())

    seconds = max(1, span[-1]) / bare.fps
    for by in STEPS:
        for dx, dend, dy in np.eye(3) * by / SIDE:
            moves = [
                replace(found, x=found.x + k * dx, y=found.y + k * dy, speed=found.speed + k * (dend - dx) / seconds)
                for k in (0, -1, 1)
            ]
            found = min(moves, key=misfit)
    seen = float(np.square((_painted(replace(bare, distractors=(found,)), span) - wall)[free]).sum())
    explains = misfit(None) - misfit(found) >= EXPLAINED * seen >= EXPLAINED * LEAST_SEEN * frames.size
    return (found,) if explains else ()


def _painted(spec: Spec, span: range | None = None) -> Frames:
    return (render(spec, [], span)[:, :ROWS] / 255).astype(np.float32)


def _coarse(frames: Frames, wall: Frames, free: NDArray[np.bool_], spec: Spec, span: range) -> tuple[Distractor, float]:
    """Thing and path on a grid that explain most, and the squared error that they explain."""
    times, pan = spec.frame_times()[span], spec.pan_offsets()[span]
    best = Distractor(*LOOKS[0], 0.0, 0.0, 0.0, False), -np.inf
    starts, travels, heights = (grid.ravel() for grid in np.meshgrid(STARTS, TRAVELS, HEIGHTS, indexing="ij"))
    speeds = np.where(starts < 0.5, 1, -1) * travels / spec.duration
    x = starts[:, None] + speeds[:, None] * times - pan
    y = heights[:, None] + 0.02 * np.sin(2.5 * times + starts[:, None])
    columns = np.clip(np.rint((x - TEMPLATE_X) * SIDE), -SIDE // 2 - MARGIN, SIDE // 2 + MARGIN).astype(int)
    rows = np.rint((y - TEMPLATE_Y) * SIDE).astype(int)
    for look in LOOKS:
        gains = _gains(frames, wall, free, look, spec)
        totals = gains[np.arange(len(times)), rows + UP_AND_DOWN, columns + SIDE // 2 + MARGIN].sum(1)
        i = int(totals.argmax())
        if totals[i] > best[1]:
            thing = Distractor(*look, float(starts[i]), float(heights[i]), float(speeds[i]), False)
            best = thing, float(totals[i])
    return best


def _gains(frames: Frames, wall: Frames, free: NDArray[np.bool_], look: tuple[str, str], spec: Spec) -> Frames:
    """Squared error of free pixels that a look explains at every place, [T, rows, columns], in pixels around the
    template's: of a difference r to the wall w, an opacity a of a colour c explains 2 a r(c - w) - (a(c - w))²."""
    contrast = _colour(look, spec) - wall
    signal, cost = ((part * free[..., None]).sum(-1) for part in ((frames - wall) * contrast, contrast**2))
    opacity, across = _opacity(look)[None, ::-1, ::-1], SIDE // 2 + MARGIN
    around = ((0, 0), (UP_AND_DOWN, UP_AND_DOWN), (across, across))
    signal, cost = (
        fftconvolve(np.pad(one, around), kernel, "valid", axes=(1, 2))
        for one, kernel in ((2 * signal, opacity), (cost, opacity**2))
    )
    return (signal - cost)[:, : 2 * UP_AND_DOWN + 1, MARGIN : MARGIN + 2 * across + 1]


def _colour(look: tuple[str, str], spec: Spec) -> Frames:
    (kind, colour), style = look, STYLES[spec.style]
    return (np.array(CLOUD if kind == "cloud" else style.palette[colour]) * style.light[spec.mood]).astype(np.float32)


@cache
def _opacity(look: tuple[str, str]) -> Frames:
    """Opacity of a look around the template's place, of TEMPLATE's rows and columns."""
    kind, colour = look
    thing = Distractor(kind, colour, TEMPLATE_X, TEMPLATE_Y - 0.02 * np.sin(TEMPLATE_X), 0.0, False)
    script = replace(sample_spec(0, 0), size=(SIDE, SIDE), fps=1, frames=1, mood="cold dark", music=False,
                     characters=(), props=())  # fmt: skip
    wall, painted = _painted(script)[0], _painted(replace(script, distractors=(thing,)))[0]
    contrast = _colour(look, script) - wall
    opacity = ((painted - wall) * contrast).sum(-1) / np.square(contrast).sum(-1)
    return np.ascontiguousarray(opacity[TEMPLATE].clip(0, 1), np.float32)
